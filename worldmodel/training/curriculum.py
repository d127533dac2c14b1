"""How far the model is unrolled while it learns: functions of the step and of the share that is over."""

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

    def __call__(self, step: int, over: float = 0.0) -> int:
        """Returns the horizon of a training step, whatever share of the training is over."""
        if step >= self.num_steps:
            return self.end
        grown = (self.end - self.start) * step // self.num_steps
        return self.start + grown // self.multiple * self.multiple


@dataclass(frozen=True)
class GrowingShare:
    """A horizon that grows linearly over the first `share` of a training, in whole multiples.

    Attributes:
        start: first horizon [frames].
        end: last horizon, that of the rest of the training [frames].
        share: of the training, in (0, 1].
        multiple: the horizon grows by so much at a time [frames].

    Example:
        >>> horizon = GrowingShare(start=10, end=30, share=0.5)
        >>> [horizon(step, step / 100) for step in (0, 12, 13, 49, 50, 99)]
        [10, 10, 15, 25, 30, 30]
    """

    start: int
    end: int
    share: float = 0.5
    multiple: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.start <= self.end or not 0.0 < self.share <= 1.0 or self.multiple < 1:
            raise ValueError(f"{self}: expected 1 <= start <= end, 0 < share <= 1 and multiple >= 1")

    def __call__(self, step: int, over: float) -> int:
        """Returns the horizon when the share `over` of the training is over, whatever the step."""
        if over >= self.share:
            return self.end
        grown = int((self.end - self.start) * over / self.share)
        return self.start + grown // self.multiple * self.multiple
