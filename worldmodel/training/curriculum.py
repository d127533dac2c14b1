"""How far the model is unrolled while it learns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GrowingHorizon:
    """A horizon that grows linearly with the training step, in whole multiples.

    Attributes:
        start: first horizon [frames].
        end: last horizon [frames].
        num_steps: training steps until the last horizon is reached.
        multiple: the horizon grows by so much at a time [frames].

    Example:
        >>> horizon = GrowingHorizon(start=10, end=30, num_steps=100)
        >>> [horizon(step) for step in (0, 24, 25, 99, 100, 1000)]
        [10, 10, 15, 25, 30, 30]
    """

    start: int
    end: int
    num_steps: int
    multiple: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.start <= self.end or min(self.num_steps, self.multiple) < 1:
            raise ValueError(f"{self}: expected 1 <= start <= end, num_steps >= 1 and multiple >= 1")

    def __call__(self, step: int) -> int:
        """Returns the horizon of a training step."""
        if step >= self.num_steps:
            return self.end
        grown = (self.end - self.start) * step // self.num_steps
        return self.start + grown // self.multiple * self.multiple
