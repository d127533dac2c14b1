"""The help texts of the console script; `--help` imports nothing but this file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """The help of one command: a summary, a description, common overrides and examples.

    Attributes:
        takes: the key that a first word without `=` sets, if there is one.
    """

    summary: str
    description: str
    overrides: tuple[tuple[str, str], ...]
    examples: tuple[str, ...]
    takes: str = ""


RUN = (
    ("run=FOLDER", "run folder; default: new, below runs/"),
    ("seed=0", "seed of all random numbers"),
)
COMMANDS = {
    "demo": Command(
        "the whole pipeline on recorded traffic, in about five minutes",
        "Trains a world model on block A of US-101, drives the held-out vehicles of\n"
        "block B with it and with baselines, and writes report.html and summary.json.\n"
        "Needs no download. Repeated with run=FOLDER, it resumes after the last finished\n"
        "stage.",
        (("seconds=130", "time limit for the training"), *RUN),
        ("worldmodel demo", "worldmodel demo run=runs/demo/2026-11-22_10-00-00"),
    ),
    "prepare": Command(
        "recordings or simulated scenes -> a store",
        "Reads traffic in any supported format, checks it, makes it consistent with the\n"
        "vehicle model, splits it by time and writes it as a store: a folder of parquet\n"
        "files with split.json. Or simulates scenes and records every vehicle, scene by\n"
        "scene; to resume after a kill, repeat the command.",
        (
            ("path=FILE_OR_FOLDER", "what to read (required, except to simulate)"),
            ("source=NAME", "format or simulator, from configs/source"),
            ("source.num=100 workers.num=1", "simulated scenes, and processes for them"),
            ("workers=ray", "use a Ray cluster instead"),
            ("out=FOLDER", "the store to write"),
            ("split.val=0.15 split.test=0.15", "shares of the time, or of simulated scenes"),
        ),
        (
            "worldmodel prepare source=commonroad path=scenes/ out=stores/mine",
            "worldmodel prepare source=highway source.num=1000 workers.num=4 out=stores/highway",
        ),
    ),
    "train": Command(
        "a store -> a checkpoint",
        "Trains a forward model: first deterministic, then with a latent. With policy=,\n"
        "trains a policy inside such a model instead. The checkpoint (model.pt or\n"
        "policy.pt) contains everything needed to use it.",
        (
            ("data=us101", "or us101_ab (both blocks), or data=store data.path=FOLDER"),
            ("seconds=130", "time limit for the training"),
            ("model=small latent=local", "or another of configs/model, configs/latent"),
            ("raster=ppuu", "or long: twice as much of the road, ahead and behind"),
            ("policy=mpur", "train a policy: also vg, svg, mper, il, mpc_distil, ..."),
            ("checkpoint=FILE", "the model a policy learns in (il needs none)"),
            ("logger=wandb", "also log to Weights & Biases, offline unless WANDB_MODE=online"),
            *RUN,
        ),
        (
            "worldmodel train seconds=600",
            "worldmodel train policy=vg checkpoint=model.pt seconds=null phases.0.num_steps=400",
            "worldmodel train data=store data.path=stores/mine logger=wandb",
        ),
    ),
    "reinforce": Command(
        "a policy, trained by reinforcement learning",
        "Trains a policy with PPO (stable-baselines3, the extra rl) inside a learnt\n"
        "model, or in recorded or simulated traffic. The result is a policy.pt like any\n"
        "other: drive it with evaluate agent=[policy]. To resume after a kill, repeat\n"
        "the command with run=.",
        (
            ("env=world_model", "where to learn: also replay, traffic or highway"),
            ("checkpoint=FILE", "the learnt model (required for env=world_model)"),
            ("data=us101_ab", "recordings; simulators: data=store data.path=FOLDER"),
            ("seconds=600 steps=null", "budget in time and in steps of all egos together"),
            ("learner=ppo", "or dqn, with model=choice"),
            ("reward=env", "the environment's; or cost: minus each step's cost"),
            ("policy_checkpoint=FILE", "continue training this policy"),
            *RUN,
        ),
        (
            "worldmodel reinforce checkpoint=runs/demo/2026-11-22_10-00-00/model.pt",
            "worldmodel reinforce env=traffic env@drive.env=traffic data=store data.path=stores/traffic",
        ),
    ),
    "pretrain": Command(
        "an encoder of frames, trained without labels",
        "Trains an encoder on clips of recorded traffic with a self-supervised objective\n"
        "from configs/ssl. docs/ssl.md lists them, and says how forward models use the\n"
        "encoder.",
        (
            ("ssl=autoencoder", "the objective"),
            ("data=us101", "or us101_ab (both blocks), or data=store data.path=FOLDER"),
            ("seconds=120", "time limit for the training"),
            *RUN,
        ),
        (
            "worldmodel pretrain ssl=autoencoder",
            "worldmodel pretrain ssl=autoencoder data=us101_ab seconds=600",
        ),
    ),
    "probe": Command(
        "what an encoder has learnt about traffic scenes",
        "Reads gaps, offset, neighbours and urgency off an encoder's map, by ridge\n"
        "regression and from similar scenes; compares with an untrained encoder and raw\n"
        "pixels. Prints the table, writes probe.json, and draws similar scenes and a map\n"
        "of all scenes in report.html.",
        (
            ("checkpoint=FILE", "from pretrain or train (required; or first word)"),
            ("windows=2048", "random windows of each part"),
            ("data=us101 part=test", "to score on"),
            ("data@known=us101 fit=train", "to fit on"),
            *RUN,
        ),
        ("worldmodel probe runs/pretrain/2026-11-22_10-00-00/ssl.pt",),
        takes="checkpoint",
    ),
    "plan": Command(
        "a single decision, drawn",
        "Plans with a model for one vehicle at one frame of a recording. Draws what the\n"
        "car sees, its plan and the predicted frames (plan.png), and prints each term of\n"
        "the cost (also in plan.json).",
        (
            ("checkpoint=FILE", "the model (required; or as the first word)"),
            ("recording=NAME vehicle=ID frame=N", "the moment; default: the first possible"),
            *RUN,
        ),
        ("worldmodel plan runs/demo/2026-11-22_10-00-00/model.pt frame=120",),
        takes="checkpoint",
    ),
    "imagine": Command(
        "a grid of futures that a model imagines",
        "For a few held-out windows, draws what was recorded and what the model predicts:\n"
        "with z = 0, with latents from the prior, along one latent dimension, and under\n"
        "other actions of the ego (keep speed, brake, accelerate, left, right). Writes\n"
        "PNG and mp4 files, and report.html.",
        (
            ("checkpoint=FILE", "the model (required; or as the first word)"),
            ("windows=3 samples=4", "number of windows, and of latents for each"),
            ("dimension=N", "of the latent to sweep; default: the most effective one"),
            ("device=cpu", "where the model computes, such as cuda"),
            *RUN,
        ),
        ("worldmodel imagine runs/demo/2026-11-22_10-00-00/model.pt windows=5",),
        takes="checkpoint",
    ),
    "check": Command(
        "whether a model's predictions can be trusted",
        "Tests on held-out windows: is the action used, is the latent used or too free,\n"
        "how far ahead does it beat copying, are occupancy and spread calibrated, do\n"
        "conformal bounds hold, how do errors grow. Also compares ways to infer z, and\n"
        "recalibrates the spread. Prints the answers, writes check.json and report.html.",
        (
            ("checkpoint=FILE", "the model (required; or as the first word)"),
            ("windows=64", "number of random windows"),
            ("scored_rows=117", "in the middle of the rasters; null: all of a longer one"),
            ("part=test", "part of the split"),
            ("ensemble=[A.pt,B.pt]", "separately trained members instead of dropout masks"),
            ("device=cpu", "where the model computes, such as cuda"),
            *RUN,
        ),
        ("worldmodel check runs/demo/2026-11-22_10-00-00/model.pt",),
        takes="checkpoint",
    ),
    "evaluate": Command(
        "agents x episodes -> a table",
        "Hands recorded vehicles over to each agent. Writes one row per episode\n"
        "(episodes.parquet, .csv), and the rates with their intervals (summary.json). To\n"
        "resume after a kill, repeat the command with run=.",
        (
            ("checkpoint=FILE", "the model (if an agent needs it)"),
            ("agent=[human,mpc_learnt]", "which to drive, from configs/agent"),
            ("protocol=v1", "hand-overs and criterion; or v1_once, v1_every_4s, ppuu"),
            ("raster=ppuu", "or long, as the model was trained on"),
            ("cluster=vehicle_id", "unit of paired bootstraps; or scene"),
            ("+also.NAME={like:AGENT,checkpoint:FILE}", "add an agent with other weights"),
            ("device=cpu", "where agents compute, such as cuda"),
            *RUN,
        ),
        (
            "worldmodel evaluate checkpoint=model.pt agent=[lane_keeping,mpc_learnt]",
            "worldmodel evaluate data=us101_c data.path=block_C.csv.gz checkpoint=model.pt cluster=scene",
        ),
    ),
    "predict": Command(
        "how well a model predicts",
        "Predicts held-out windows and compares the rasters with the recording: squared\n"
        "error relative to copying, overlap (IoU) and sharpness, at 0.5, 1, 2 and 3 s.\n"
        "prediction.csv has every step.",
        (
            ("checkpoint=FILE", "the model (required; or as the first word)"),
            ("windows=512", "number of random windows"),
            ("scored_rows=117", "in the middle of the rasters; null: all of a longer one"),
            ("part=test", "part of the split"),
            ("device=cpu", "where the model computes, such as cuda"),
            *RUN,
        ),
        ("worldmodel predict runs/demo/2026-11-22_10-00-00/model.pt",),
        takes="checkpoint",
    ),
    "report": Command(
        "a finished run -> its HTML page, rendered again",
        "Renders report.html again from the contents of a run folder.",
        (("of=FOLDER", "the run folder (required)"),),
        ("worldmodel report of=runs/demo/2026-11-22_10-00-00",),
    ),
    "realism": Command(
        "simulated traffic compared with recorded traffic",
        "Measures speed against density, time gaps, accelerations and lane changes in\n"
        "recordings and in simulated scenes, and how far they differ. Prints the table,\n"
        "draws realism.png, and writes the numbers to realism.json and distances.csv.",
        (
            ("+data@recorded.NAME=mona", "more recordings (recorded.NAME.path= if needed)"),
            ("+traffic@simulated.NAME=ring", "more scenarios, from configs/traffic"),
            ("parts=[train,test]", "parts of the recordings' splits"),
            ("reference=NAME", "compare with this; default: the first recording"),
            ("scenes=4 frames=600", "scenes of each scenario, frames of each scene"),
            *RUN,
        ),
        (
            "worldmodel realism",
            "worldmodel realism +traffic@simulated.merge=merge scenes=8",
        ),
    ),
    "calibrate": Command(
        "recorded traffic -> a population of simulated drivers",
        "Fits IDM to each driver of the training part who is recorded for a few seconds.\n"
        "Then tunes the gain required for a lane change, and its duration, to the\n"
        "recorded rate and lateral speed of lane changes. Writes population.yaml, for\n"
        "scenarios, and calibration.json, with what the recording could determine.",
        (
            ("data=us101_ab", "recordings; their training part is used"),
            ("traffic@scenario=us101", "scenario for tuning lane changes"),
            ("rounds=8 scenes=4", "rounds of tuning, scenes simulated in each"),
            *RUN,
        ),
        (
            "worldmodel calibrate run=runs/drivers",
            "worldmodel realism +traffic@simulated.mine=us101 population@simulated.mine.population=file \\\n"
            "      simulated.mine.population.path=runs/drivers/population.yaml",
        ),
    ),
    "results": Command(
        "the tables of results, in two to three hours",
        "Trains the models and policies of docs/results.md, drives and scores them, and\n"
        "writes results.md, results.csv, results.json and a picture of each table. Each\n"
        "stage is a command with a run folder below run=. To resume, repeat the command:\n"
        "it redoes only what depends on something that has changed.",
        (
            ("profile=full", "or quick (a smoke test), core, alone, encoders"),
            ("jobs=2", "stages in parallel, each on threads=1"),
            ('only="drive_policy-*"', "these stages, and those that they need"),
            ("plan=true", "list the stages and which are done, run none"),
            ("mona=FOLDER us101_c=FILE", "the recordings that are not shipped"),
            ("run=runs/results", "where to write"),
        ),
        ("worldmodel results", "worldmodel results profile=quick run=runs/quick"),
    ),
    "suite": Command(
        "agents x levels of factors, in simulated traffic that reacts",
        "Simulates scenes in which one factor differs from a base (density, speed,\n"
        "aggressiveness, lanes, road). Every agent drives the same vehicles in them.\n"
        "Writes a table and a picture for each factor, collisions by fault, and videos of\n"
        "the worst episodes: report.html, suite.md, .csv and .json. Each level and agent\n"
        "is a stage; to resume after a kill, repeat the command.",
        (
            ("factor=[density,road]", "which to vary, from configs/factor"),
            ("agent=[lane_keeping,policy]", "which drive, from configs/agent"),
            ("checkpoint=FILE policy_checkpoint=FILE", "weights (if an agent needs them)"),
            ("+also.NAME={like:AGENT,checkpoint:FILE}", "add an agent with other weights"),
            ("reference=lane_keeping", "paired differences are to this"),
            ("scenes.num=25 scenes.egos=2", "scenes per level, egos per scene"),
            ("jobs=2", "parallel stages, each on threads=1"),
            ('only="drive-density-*"', "these stages only"),
            ("plan=true", "list the stages, run none"),
            ("run=runs/suite", "where to write"),
        ),
        (
            "worldmodel suite agent=[lane_keeping,mpc_copy] factor=[density]",
            "worldmodel suite agent=[lane_keeping,policy] policy_checkpoint=policy.pt run=runs/mine",
        ),
    ),
}


def overview() -> str:
    """Returns the text of `worldmodel --help`: one line per command."""
    lines = [f"  {name:10s} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Learn a world model of traffic and plan with it.",
            "",
            "usage: worldmodel COMMAND [key=value ...]",
            "",
            *lines,
            "",
            "`worldmodel COMMAND --help` explains a command,",
            "`worldmodel COMMAND --cfg job` prints its configuration.",
        ]
    )


def page(name: str) -> str:
    """Returns the text of `worldmodel NAME --help`."""
    command = COMMANDS[name]
    width = max(len(key) for key, _ in command.overrides)
    word = f" [{command.takes.upper()}]" if command.takes else ""
    return "\n".join(
        [
            f"worldmodel {name}: {command.summary}",
            "",
            command.description,
            "",
            f"usage: worldmodel {name}{word} [key=value ...]",
            "",
            *(f"  {key:{width}s}  {meaning}" for key, meaning in command.overrides),
            "",
            f"Every value of `worldmodel {name} --cfg job` can be set in the same way.",
            "",
            *(f"  $ {example}" for example in command.examples),
        ]
    )
