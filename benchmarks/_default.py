"""The forward model that `worldmodel train` ends with when nothing else is asked for, its weights random."""

from worldmodel.app.compose import build, compose
from worldmodel.models import ForwardModel
from worldmodel.training import with_latent


def default_model(*overrides: str) -> ForwardModel:
    """Returns the split model that these overrides say, small and with the local latent; to be trained."""
    config = compose("train", list(overrides))
    model = with_latent(build(config.model), build(config.latent))
    assert isinstance(model, ForwardModel)
    return model
