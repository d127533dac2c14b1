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
        excess: over the best score, as a share of it, that counts as much worse.
        patience: validations in a row that have to be so; a latent's first few may be.
    """

    def __init__(
        self, best: KeepBest, *, say: Callable[[str], object], excess: float = 0.2, patience: int = 10
    ) -> None:
        self.best, self.say, self.excess, self.patience = best, say, excess, patience
        self.num_worse = 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Counts."""
        self.count(float(trainer.callback_metrics[self.best.monitor]), trainer.global_step)

    def count(self, score: float, step: int) -> None:
        """Takes note of the score of now, and warns when it has been bad for long enough."""
        best = self.best.score
        is_fine = score - best <= self.excess * abs(best)  # of losses below zero, too; nan is not
        self.num_worse = 0 if is_fine else self.num_worse + 1
        if self.num_worse == self.patience:
            self.say(
                f"{self.best.monitor} is {score:.3g} after {step} steps, it was {best:.3g} after "
                f"{self.best.step}: this training seems to have collapsed. Stop it and start again with a "
                "lower optimizer.lr, or keep what was best with validation.keep=best"
            )
