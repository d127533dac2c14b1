"""The members whose doubt `worldmodel check` reports: draws of dropout masks, or models trained apart."""

from collections.abc import Sequence

import numpy as np
from torch import Generator

from worldmodel.app.compose import Config, UsageError
from worldmodel.costs import KINDS, motorway_cost
from worldmodel.evaluation.probe import Probe, probe_of
from worldmodel.evaluation.verdict import at_horizons
from worldmodel.models import Members, dropout_members, ensemble_members, load_model
from worldmodel.training import expert_disagreement
from worldmodel.types import Clip

NUM_WINDOWS = 8
"""Windows whose future the members unroll together."""


def load_ensemble(config: Config, probe: Probe) -> list[Probe]:
    """Returns the models of `config.ensemble`; none where it is not given.

    Raises:
        UsageError: for a single one, or one that reads other windows than the model in question.
    """
    paths = list(config.ensemble or ())
    if len(paths) == 1:
        raise UsageError(f"ensemble=[{paths[0]}] is one model; give two or more, or leave it out")
    found = [probe_of(load_model(path, device=config.device)) for path in paths]
    for path, one in zip(paths, found, strict=True):
        if _reads(one) != _reads(probe):
            raise UsageError(
                f"ensemble: {path} is {_reads(one)}, the checkpoint {_reads(probe)}; "
                "give models of one kind that were trained on the same rasters"
            )
    return found


def member_disagreement(
    probe: Probe, ensemble: Sequence[Probe], clip: Clip, *, num_members: int, seed: int
) -> dict[str, dict[str, float | None]]:
    """Returns `{kind: {horizon [s]: deviation}}` under the recorded drivers' actions.

    Roots of the mean variances of image [grey values], state [its scale] and cost, over dropout members or,
    where there is one, over the ensemble.
    """
    generator, model = Generator(clip.state.device).manual_seed(seed), probe.model
    members: Members = (
        ensemble_members([one.model for one in ensemble])
        if ensemble
        else dropout_members(model, num=num_members, generator=generator)
    )
    cost = motorway_cost(model.spec, dt=model.dt)
    found = expert_disagreement(members, clip[:NUM_WINDOWS], cost, history=model.history, generator=generator)
    return {
        kind: at_horizons(np.sqrt(getattr(found, kind).double().mean(0).cpu().numpy()), model.dt)
        for kind in KINDS
    }


def _reads(probe: Probe) -> str:
    model = probe.model
    return f"a {type(model).__name__} of {model.history} frames of {model.spec}"
