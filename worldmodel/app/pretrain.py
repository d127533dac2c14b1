"""`worldmodel pretrain ssl=NAME`: recordings -> an encoder, learnt without labels, in `ssl.pt`."""

import lightning
import torch
from rich.console import Console

from worldmodel.app.compose import Config, build, with_values
from worldmodel.app.phase import STATE, datamodule, train_phase
from worldmodel.app.probe import raster_spec, scenes, score
from worldmodel.app.run import Run
from worldmodel.app.train import hush
from worldmodel.data import Store
from worldmodel.models import save_model
from worldmodel.scene import RasterSpec
from worldmodel.ssl import Pretraining

CHECKPOINT = "ssl.pt"


def main(config: Config) -> None:
    """Trains and saves `ssl.pt` in the run folder."""
    run = Run.start(config, "pretrain")
    run.stage("pretrain", lambda: fit(config, run), files=(CHECKPOINT,))
    run.close()


def fit(config: Config, run: Run) -> None:
    """Trains encoder and objective, and saves both."""
    hush()
    torch.set_num_threads(config.threads)
    store: Store = build(config.data)
    spec = raster_spec(config.channels)
    torch.manual_seed(config.seed)
    num_frames = config.clip.num_frames
    shape = (num_frames, len(spec.channels), spec.height, spec.width)
    model = Pretraining(build(config.encoder), build(config.ssl), shape)
    window = (num_frames - 1) * config.clip.spacing + 1
    module = datamodule(config, store, history=window, spec=spec)
    next(iter(module.train_dataloader()))  # compiles the renderer, which is no training time
    (phase,) = config.phases
    told = with_values(config, run=str(run.folder), phase=phase.name)
    probes = (
        [ProbeOnline(model, store, config.probe, spec=spec, seed=config.seed)]
        if is_probed(config, store)
        else []
    )
    extra = train_phase(told, model, module, phase=phase, run=run, callbacks=probes)
    told_probe = {"spacing": config.clip.spacing, "channels": list(config.channels)}
    save_model(model.eval(), run.folder / CHECKPOINT, extra={**extra, **told_probe})
    (run.folder / STATE).unlink(missing_ok=True)


def is_probed(config: Config, store: Store) -> bool:
    """Returns whether there is a probe, and a validation to do it at."""
    return bool(config.probe and config.validation.every and store.split.val)


class ProbeOnline(lightning.Callback):
    """Logs at every validation what can be read off the encoder, and in how many directions it varies.

    Collapse is said as soon as it is seen.

    Args:
        model: as it is at the time.
        store: holds the recordings.
        config: of the probe.
        spec: of the rasters.
        seed: of the windows.
    """

    def __init__(
        self, model: Pretraining, store: Store, config: Config, *, spec: RasterSpec, seed: int
    ) -> None:
        self.model, self.config = model, config
        self.known, self.asked = (
            scenes(config, store, part, spec=spec, seed=seed) for part in (config.fit, config.part)
        )
        self.is_warned = False

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Probes."""
        found = score(self.config, self.model.encoder, self.known, self.asked)
        pl_module.log("val/probe_r2", float(found.ridge.mean()), prog_bar=True)
        pl_module.log("val/effective_rank", found.rank)
        if found.rank < self.config.alarm and not self.is_warned:
            self.is_warned = True
            Console(stderr=True).print(
                f"[red]collapsed at step {trainer.global_step}: embeddings vary in {found.rank:.1f} "
                f"directions, fewer than probe.alarm={self.config.alarm:g}[/red]"
            )
