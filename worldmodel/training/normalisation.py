"""From statistics of the training split to the buffers of a model."""

from worldmodel.data import Stats
from worldmodel.models import ForwardModel
from worldmodel.scene import SPEED


def set_normalisation(model: ForwardModel, stats: Stats) -> None:
    """Sets mean and deviation of the speed, in place; they are saved with the weights."""
    model.speed_mean.fill_(stats.state_mean[SPEED])
    model.speed_std.fill_(stats.state_std[SPEED])
