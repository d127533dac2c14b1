"""`worldmodel pretrain ssl=NAME`: recordings -> an encoder, learnt without labels, in `ssl.pt`."""

import torch

from worldmodel.app.compose import Config, build, with_values
from worldmodel.app.phase import STATE, datamodule, train_phase
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
    spec = RasterSpec()
    torch.manual_seed(config.seed)
    num_frames = config.clip.num_frames
    shape = (num_frames, len(spec.channels), spec.height, spec.width)
    model = Pretraining(build(config.encoder), build(config.ssl), shape)
    window = (num_frames - 1) * config.clip.spacing + 1
    module = datamodule(config, store, history=window, spec=spec)
    next(iter(module.train_dataloader()))  # compiles the renderer, which is no training time
    (phase,) = config.phases
    told = with_values(config, run=str(run.folder), phase=phase.name)
    extra = train_phase(told, model, module, phase=phase, run=run)
    save_model(model.eval(), run.folder / CHECKPOINT, extra={**extra, "spacing": config.clip.spacing})
    (run.folder / STATE).unlink(missing_ok=True)
