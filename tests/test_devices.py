"""Nothing stays on the CPU that belongs elsewhere: models, planners, policies, objectives, agents."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import configs
from planners import RecedingHorizon
from tests.app.factories import save_small_store
from tests.planners.factories import ROAD
from tests.second_device import second_device
from tests.ssl.test_conformance import CONFIGS, clips, make
from worldmodel.app.cli import main
from worldmodel.app.compose import build, compose
from worldmodel.costs import motorway_cost
from worldmodel.data import Span, Split, save_store
from worldmodel.models import FixedContext, ForwardModel, LearntContext, NoLatent, load_model, save_model
from worldmodel.scene import Channel
from worldmodel.scene.traffic import MOTORWAY, simulate
from worldmodel.training import calibrate_uncertainty, with_latent
from worldmodel.types import Clip

HORIZON = 10


def named(folder: str) -> list[str]:
    return sorted(path.stem for path in (Path(configs.__file__).parent / folder).glob("*.yaml"))


def make_model(*overrides: str) -> torch.nn.Module:
    """As `worldmodel train` makes it, and with a latent; it predicts a little more than copies."""
    torch.manual_seed(0)
    config = compose("train", list(overrides))
    model = with_latent(build(config.model), build(config.phases[-1].latent) or NoLatent())
    if isinstance(model, ForwardModel):
        torch.nn.init.normal_(model.decoder.weight, std=0.01)
    return model


def make_clip(model: Any, *, batch: int = 2) -> Clip:
    """Straight on behind one car."""
    spec, frames = model.spec, model.history + HORIZON
    state = torch.zeros(batch, frames, 4)
    state[..., 3], state[..., 0] = 10.0, torch.arange(frames) * 1.0
    image = torch.zeros(batch, frames, len(spec.channels), spec.height, spec.width, dtype=torch.uint8)
    image[:, :, spec.channels.index(Channel.VEHICLES), 40:46, 10:14] = 255
    return Clip(
        image=image,
        state=state,
        action=torch.zeros(batch, frames - 1, 2),
        view=state[..., :3].clone(),
        covered=torch.ones(batch, frames, spec.height, dtype=torch.bool),
        size=torch.tensor([[4.5, 1.9]]).repeat(batch, 1),
        road=ROAD.repeat(batch, 1, 1, 1),
        origin=torch.arange(batch)[:, None] * torch.tensor([0, 1, 0]),
    )


def loss_of(learner: Any, clip: Clip, device: torch.device) -> float:
    """The loss of a training step, after which the optimiser has taken it."""
    learner.to(device)
    learner.log = learner.log_dict = lambda *args, **kwargs: None
    torch.manual_seed(0)
    loss: Tensor = learner.training_step(clip.to(device), 0)
    loss.backward()
    torch.optim.AdamW([one for one in learner.parameters() if one.requires_grad]).step()
    assert loss.device.type == device.type
    return loss.item()


@pytest.fixture
def _no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learners are asked without one."""
    monkeypatch.setattr(lightning.LightningModule, "global_step", property(lambda self: 1))


# --- The device ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mix",
    [
        lambda there: there + torch.ones(3, 4),
        lambda there: there @ torch.ones(4, 4),
        lambda there: torch.stack([there, torch.ones(3, 4)]),
        lambda there: torch.randn(3, generator=torch.Generator(), device=there.device),
        lambda there: there.numpy(),
        lambda there: torch.nn.Linear(4, 2)(there),
    ],
)
def test_it_refuses_what_a_gpu_refuses(mix: Callable[[Tensor], Any]) -> None:
    with second_device() as device, pytest.raises(RuntimeError):
        mix(torch.ones(3, 4, device=device))


def test_it_allows_what_a_gpu_allows() -> None:
    with second_device() as device:
        there = torch.ones(3, 4, device=device)
        assert (there * torch.tensor(2.0)).sum().item() == 24.0
        assert there[torch.tensor([0, 2])].device == device and (there > 0).nonzero().shape == (12, 2)
        assert there.cpu().numpy().sum() == 12 and torch.tensor([1.0]).to(there).device == device
        generator = torch.Generator(device).manual_seed(3)
        drawn = torch.rand(5, generator=generator, device=device)
    assert drawn.tolist() == torch.rand(5, generator=torch.Generator().manual_seed(3)).tolist()


# --- What runs on it ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("latent", named("latent"))
@pytest.mark.parametrize("kind", ["small", "tracking", "coupled_small"])
def test_models_train_with_every_latent(kind: str, latent: str, _no_trainer: None) -> None:
    config = compose("train", [f"model={kind}", f"latent={latent}"])
    with second_device() as device:
        model = make_model(f"model={kind}", f"latent={latent}")
        learner = build(config.module)(model, optimizer=torch.optim.AdamW, num_steps=10)
        clip = make_clip(model)
        assert loss_of(learner, clip, device) > 0.0
        model.eval()
        if model.latent.dim:
            model.infer_latents(clip.to(device))
        if kind != "coupled_small":
            calibrate_uncertainty(model, [clip.to(device)], num_masks=2)
            assert model.variance_mean.device == device


@pytest.mark.slow
@pytest.mark.parametrize("name", named("planner"))
def test_every_planner_plans_as_on_the_cpu(name: str) -> None:
    config = OmegaConf.to_container(OmegaConf.load(Path(configs.__file__).parent / f"planner/{name}.yaml"))
    inner = {key: one for key, one in config["planner"].items() if key not in ("model", "cost", "horizon")}
    model = make_model().eval()
    cost, obs = motorway_cost(model.spec, target_speed=15.0), make_clip(model).obs(model.history)
    actions = []

    def plan(device: torch.device) -> None:
        world = FixedContext(LearntContext(model.to(device), num_latents=2), horizon=HORIZON)
        planner = RecedingHorizon(build({**inner, "_partial_": True})(world, cost, horizon=HORIZON))
        for _ in range(2):  # the second time with a warm start
            found = planner.plan(obs.to(device)).action
        assert found.device.type == device.type
        actions.append(found.cpu())

    plan(torch.device("cpu"))
    with second_device() as device:
        plan(device)
    torch.testing.assert_close(*actions)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, overrides in (("plain", ["latent=none"]), ("latent", []), ("coupled", ["model=coupled_small"])):
        model = make_model(*overrides)
        if name != "coupled":
            model.variance_mean = model.variance_std = torch.full((30,), 1e-4)
        save_model(model.eval(), folder / f"{name}.pt")
    save_model(build(compose("train", ["policy=vg"]).model).eval(), folder / "policy.pt")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", [one for one in named("policy") if one != "common"])
def test_policies_learn_as_on_the_cpu(name: str, checkpoints: Path, _no_trainer: None) -> None:
    known = {"mpur_coupled": "coupled", "vg": "plain"}
    told = [f"policy={name}", f"checkpoint={checkpoints / known.get(name, 'latent')}.pt", "policy.horizon=6"]
    if name == "mpur_ensemble":
        told.append(f"members=[{checkpoints / 'plain.pt'},{checkpoints / 'plain.pt'}]")
    if name == "il":
        told = told[:1]
    config = compose("train", told)
    losses = []

    def train(device: torch.device) -> None:
        torch.manual_seed(0)
        policy = build(config.model)
        with device:
            learner = build(config.module)
        clip = make_clip(load_model(checkpoints / "latent.pt", device="cpu"))
        generator = torch.Generator(device).manual_seed(0)
        learner.keywords["loss_fn"].prepare([clip.to(device)], generator=generator)
        made = learner(policy, optimizer=torch.optim.AdamW, num_steps=10)
        losses.append(loss_of(made, clip, device))

    train(torch.device("cpu"))
    with second_device() as device:
        train(device)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_objective_trains(name: str) -> None:
    with second_device() as device:
        model = make(name).to(device)
        optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=1e-3)
        model.objective.refit(model.encoder, [clips(100).to(device)])
        for step in range(2):
            optimizer.zero_grad()
            model(clips(step).to(device))["loss"].backward()
            optimizer.step()
            model.objective.after_step(model.encoder)
        assert all(one.device == device for one in model.parameters())


@pytest.mark.slow
def test_agents_drive_as_on_the_cpu(checkpoints: Path, tmp_path: Path) -> None:
    save_small_store(tmp_path / "store")
    agents = ["lane_keeping", "idm", "mpc_copy", "mpc_true_future", "mpc_learnt", "policy", "hybrid"]
    told = [
        "evaluate", "data=store", f"data.path={tmp_path / 'store'}", f"agent=[{','.join(agents)}]",
        f"checkpoint={checkpoints / 'latent.pt'}", f"policy_checkpoint={checkpoints / 'policy.pt'}",
        "protocol=v1_once", "max_episodes=2", "num_decisions=1", "threads=1",
        *(f"agent.{one}.planner.num_iterations=1" for one in ("mpc_copy", "mpc_true_future", "mpc_learnt")),
    ]  # fmt: skip
    cpu, other = driven_on_both(told, tmp_path)
    assert cpu == other and len(cpu) == 1 + 2 * len(agents)


@pytest.mark.slow
def test_agents_of_simulated_traffic_drive_as_on_the_cpu(tmp_path: Path) -> None:
    recordings = simulate(MOTORWAY, num_frames=50, warm_up=1.0)
    split = Split(train=(), test=(Span(recordings[0].name, 0, 50),))
    save_store(recordings, split, tmp_path / "store")
    agents = ["mpc_oracle", "mpc_constant_velocity", "driver", "mobil"]
    told = [
        "evaluate", "data=store", f"data.path={tmp_path / 'store'}", "env=traffic", "protocol=v1_once",
        f"agent=[{','.join(agents)}]", "ours=driver", "against=[]", "max_episodes=2", "num_decisions=1",
        *(f"agent.{one}.planner.{key}" for one in agents[:2] for key in ("num_iterations=1", "horizon=8")),
    ]  # fmt: skip
    cpu, other = driven_on_both(told, tmp_path)
    assert cpu == other and len(cpu) == 1 + 2 * len(agents)


CHECK = ["windows=4", "samples=2", "draws=2", "members=2", "gap_steps=1"]
IMAGINE = ["windows=1", "candidates=4", "samples=1", "seconds=[1]", "sweep=[2]"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "model", "written", "options"),
    [
        ("predict", "latent", "summary.json", ["windows=3", "samples=2"]),
        ("check", "latent", "check.json", CHECK),
        ("check", "coupled", "check.json", CHECK),
        ("imagine", "coupled", "window_1.png", IMAGINE),
    ],
)
def test_models_are_questioned_as_on_the_cpu(
    command: str, model: str, written: str, options: list[str], checkpoints: Path, tmp_path: Path
) -> None:
    store = save_small_store(tmp_path / "store")
    told = [command, str(checkpoints / f"{model}.pt"), "data=store", f"data.path={store}", "threads=1"]
    assert main([*told, *options, f"run={tmp_path / 'cpu'}"]) == 0
    with second_device():
        assert main([*told, *options, "device=second", f"run={tmp_path / 'second'}"]) == 0
    cpu, other = (tmp_path / name / written for name in ("cpu", "second"))
    if written.endswith(".png"):
        assert cpu.read_bytes() == other.read_bytes()
        return
    (words, numbers), (other_words, other_numbers) = map(told_apart, (cpu.read_text(), other.read_text()))
    assert words == other_words and numbers == pytest.approx(other_numbers, rel=1e-4)


def told_apart(text: str) -> tuple[str, list[float]]:
    """The text without its fractional numbers, and the numbers."""
    pattern = r"-?\d+\.\d+(?:e-?\d+)?"
    return re.sub(pattern, "#", text), [float(one) for one in re.findall(pattern, text)]


def driven_on_both(told: list[str], folder: Path) -> tuple[list[str], list[str]]:
    """The rows of the episodes as driven on the CPU and on the second device."""
    assert main([*told, f"run={folder / 'cpu'}"]) == 0
    with second_device():
        assert main([*told, "device=second", f"run={folder / 'second'}"]) == 0
    cpu, other = (
        [without_times(line) for line in (folder / name / "episodes.csv").read_text().splitlines()]
        for name in ("cpu", "second")
    )
    return cpu, other


def without_times(line: str) -> str:
    """The row without its last column, the time a plan took."""
    return line.rpartition(",")[0]


@pytest.mark.parametrize("command", [["evaluate", "agent=[lane_keeping]"], ["predict", "model.pt"]])
@pytest.mark.parametrize("device", ["cuda", "nonsense", "meta"])
def test_a_device_that_is_not_there_is_refused(
    device: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    assert main([*command, f"device={device}", f"run={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"worldmodel: device={device}: ") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
