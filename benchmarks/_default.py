"""The forward model that `worldmodel train` ends with when nothing else is asked for, its weights random."""

from worldmodel.app.compose import build, compose
from worldmodel.models import ForwardModel
from worldmodel.training import with_latent


def default_model() -> ForwardModel:
    """Returns the small split model with the local latent, ready to be trained."""
    config = compose("train")
    model = with_latent(build(config.model), build(config.latent))
    assert isinstance(model, ForwardModel)
    return model
