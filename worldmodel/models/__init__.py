"""Forward models of traffic, their latents, and the world models planners see."""

from worldmodel.models.checkpoint import (
    CheckpointError,
    load_forward_model,
    load_model,
    read_checkpoint,
    save_forward_model,
    save_model,
)
from worldmodel.models.context import (
    Context,
    ContextSource,
    CopyContext,
    FixedContext,
    LearntContext,
    StaticContext,
    TrueContext,
)
from worldmodel.models.ego_split import EgoSplit
from worldmodel.models.forward_model import ForwardModel, Memory
from worldmodel.models.latent import GaussianLatent, Latent, LatentSample, NoLatent, gaussian_kl
from worldmodel.models.loss import masked_bce, masked_mse, occupancy_loss, soft_overlap_loss
from worldmodel.models.members import (
    DropoutMembers,
    EnsembleContext,
    EnsembleMembers,
    Members,
    dropout_members,
    ensemble_members,
)

__all__ = [
    "CheckpointError",
    "Context",
    "ContextSource",
    "CopyContext",
    "DropoutMembers",
    "EgoSplit",
    "EnsembleContext",
    "EnsembleMembers",
    "FixedContext",
    "ForwardModel",
    "GaussianLatent",
    "Latent",
    "LatentSample",
    "LearntContext",
    "Members",
    "Memory",
    "NoLatent",
    "StaticContext",
    "TrueContext",
    "dropout_members",
    "ensemble_members",
    "gaussian_kl",
    "load_forward_model",
    "load_model",
    "masked_bce",
    "masked_mse",
    "occupancy_loss",
    "soft_overlap_loss",
    "read_checkpoint",
    "save_forward_model",
    "save_model",
]
