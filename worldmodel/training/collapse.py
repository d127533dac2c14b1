"""Says when learning has broken down."""

from collections.abc import Callable

import lightning

from worldmodel.training.best import KeepBest


class WarnOfCollapse(lightning.Callback):
    """Says once when validation is much worse than it was, and stays so.

    One step that is too large can leave a network that no gradient reaches any more. Its error then stays
    where it is, for as long as one is willing to wait.

    Args:
        best: what the scores are held against; comes before this among the callbacks.
        say: where the warning goes.
        factor: times the best score that count as much worse.
        patience: validations in a row that have to be so; a latent's first few may be.
    """

    def __init__(
        self, best: KeepBest, *, say: Callable[[str], object], factor: float = 1.2, patience: int = 10
    ) -> None:
        self.best, self.say, self.factor, self.patience = best, say, factor, patience
        self.num_worse = 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Counts."""
        self.count(float(trainer.callback_metrics[self.best.monitor]), trainer.global_step)

    def count(self, score: float, step: int) -> None:
        """Takes note of the score of now, and warns when it has been bad for long enough."""
        self.num_worse = 0 if score <= self.factor * self.best.score else self.num_worse + 1
        if self.num_worse == self.patience:
            self.say(
                f"{self.best.monitor} is {score:.3g} after {step} steps, it was {self.best.score:.3g} after "
                f"{self.best.step}: this training seems to have collapsed. Stop it and start again with a "
                "lower optimizer.lr, or keep what was best with validation.keep=best"
            )
