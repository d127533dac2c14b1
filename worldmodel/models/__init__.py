"""Forward models of traffic, their latents, and the world models planners see."""

from worldmodel.models.checkpoint import (
    CheckpointError,
    load_forward_model,
    load_model,
    load_weights,
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
    TrueLatentContext,
)
from worldmodel.models.coupled import CoupledModel, CoupledUnroll
from worldmodel.models.coupled_world import CoupledWorld
from worldmodel.models.diagnosis import EnergyGap, LatentUse, energy_gap, exchange_futures, latent_use
from worldmodel.models.ego_split import EgoSplit
from worldmodel.models.embedding_world import EmbeddingWorld, load_embedding_world
from worldmodel.models.energy import (
    ClipEnergy,
    EnergyTerms,
    Inference,
    InferredLatent,
    LatentModel,
    compare_inference,
    free_energy,
    infer_by_encoder,
    infer_by_gradient,
    infer_by_search,
    prior_latents,
)
from worldmodel.models.forward_model import ForwardModel
from worldmodel.models.latent import GaussianLatent, Latent, LatentSample, NoLatent, gaussian_kl
from worldmodel.models.loss import masked_bce, masked_mse, occupancy_loss, soft_overlap_loss
from worldmodel.models.members import (
    DropoutMembers,
    EnsembleContext,
    EnsembleMembers,
    Members,
    dropout_members,
    ensemble_members,
    world_of,
)
from worldmodel.models.memory import Drift, Memory, Seen, TrackedSeen
from worldmodel.models.pretrained import fine_tuned_encoder, frozen_encoder, load_encoder
from worldmodel.models.tracker import CarTracker
from worldmodel.models.tracking import label_cars, mean_over_cars, track_cars

__all__ = [
    "CarTracker",
    "CheckpointError",
    "ClipEnergy",
    "Context",
    "ContextSource",
    "CopyContext",
    "CoupledModel",
    "CoupledUnroll",
    "CoupledWorld",
    "Drift",
    "DropoutMembers",
    "EgoSplit",
    "EmbeddingWorld",
    "EnergyGap",
    "EnergyTerms",
    "EnsembleContext",
    "EnsembleMembers",
    "FixedContext",
    "ForwardModel",
    "GaussianLatent",
    "Inference",
    "InferredLatent",
    "Latent",
    "LatentModel",
    "LatentSample",
    "LatentUse",
    "LearntContext",
    "Members",
    "Memory",
    "NoLatent",
    "Seen",
    "StaticContext",
    "TrackedSeen",
    "TrueContext",
    "TrueLatentContext",
    "compare_inference",
    "dropout_members",
    "energy_gap",
    "ensemble_members",
    "exchange_futures",
    "fine_tuned_encoder",
    "free_energy",
    "frozen_encoder",
    "gaussian_kl",
    "infer_by_encoder",
    "infer_by_gradient",
    "infer_by_search",
    "label_cars",
    "latent_use",
    "load_embedding_world",
    "load_encoder",
    "load_forward_model",
    "load_model",
    "load_weights",
    "masked_bce",
    "masked_mse",
    "mean_over_cars",
    "occupancy_loss",
    "prior_latents",
    "read_checkpoint",
    "save_forward_model",
    "save_model",
    "soft_overlap_loss",
    "track_cars",
    "world_of",
]
