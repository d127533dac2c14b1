"""What the console script says of its commands; `--help` needs nothing but this file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """What `--help` says: one line, a description, the common overrides and examples.

    Attributes:
        takes: the value that a first word without `=` sets, if the command takes one.
    """

    summary: str
    description: str
    overrides: tuple[tuple[str, str], ...]
    examples: tuple[str, ...]
    takes: str = ""


RUN = (
    ("run=FOLDER", "write there instead of into a new folder below runs/"),
    ("seed=0", "of everything random"),
)
COMMANDS = {
    "demo": Command(
        "the whole way on recorded traffic, in about five minutes",
        "Trains a world model on block A of US-101, drives the held-out vehicles of block B with it and\n"
        "with its rivals, and writes report.html and summary.json. Needs no download. Given the folder of\n"
        "an earlier run, it carries on after the last finished stage.",
        (("seconds=130", "time for training"), *RUN),
        ("worldmodel demo", "worldmodel demo run=runs/demo/2026-11-22_10-00-00"),
    ),
    "prepare": Command(
        "recordings of any known format, or simulated scenes -> a store",
        "Reads recorded traffic, checks it, makes it consistent with the vehicle model, splits it by\n"
        "time and writes it as a store: a folder of parquet files with split.json. Or simulates: every\n"
        "vehicle of every scene is recorded, scene by scene, and after a kill it goes on.",
        (
            ("path=FILE_OR_FOLDER", "what to read (required, but for simulators)"),
            ("source=NAME", "its format or the simulator, one of configs/source"),
            ("source.num=100 workers.num=1", "scenes to simulate, and processes that do"),
            ("workers=ray", "on a Ray cluster instead"),
            ("out=FOLDER", "the store to write"),
            ("split.val=0.15 split.test=0.15", "shares of the time for validation and test"),
        ),
        (
            "worldmodel prepare source=commonroad path=scenes/ out=stores/mine",
            "worldmodel prepare source=highway source.num=1000 workers.num=4 out=stores/highway",
        ),
    ),
    "train": Command(
        "a store -> a checkpoint",
        "Trains a forward model: first deterministic, then with a latent. The checkpoint holds everything\n"
        "that is needed to use it.",
        (
            ("data=us101", "or us101_ab (both blocks), or data=store data.path=FOLDER"),
            ("seconds=130", "time budget; training stops there at the latest"),
            ("logger=wandb", "log to Weights & Biases too, offline unless WANDB_MODE=online"),
            *RUN,
        ),
        (
            "worldmodel train seconds=600",
            "worldmodel train data=store data.path=stores/mine logger=wandb",
        ),
    ),
    "reinforce": Command(
        "a policy, learnt by trial and error",
        "Trains a policy by reinforcement learning (PPO of stable-baselines3, the extra rl) inside a\n"
        "learnt model, or in recorded or simulated traffic. The result is a policy.pt like any other: drive\n"
        "it with evaluate agent=[policy]. Killed and started again with run=, it goes on.",
        (
            ("env=world_model", "to learn in: world_model (with checkpoint=), replay, traffic or highway"),
            ("checkpoint=FILE", "the learnt model, for env=world_model"),
            ("data=us101_ab", "where episodes begin; simulators need data=store data.path=FOLDER"),
            ("seconds=600 steps=null", "budget; steps of all egos together"),
            ("learner=ppo", "or dqn, with model=choice"),
            ("reward=env", "what the environment pays, or cost: minus the cost of each step, anywhere"),
            ("policy_checkpoint=FILE", "a policy to train on instead of a new one"),
            *RUN,
        ),
        (
            "worldmodel reinforce checkpoint=runs/demo/2026-11-22_10-00-00/model.pt",
            "worldmodel reinforce env=traffic env@drive.env=traffic data=store data.path=stores/traffic",
        ),
    ),
    "pretrain": Command(
        "an encoder of frames, learnt without labels",
        "Trains an encoder by a self-supervised objective, one of configs/ssl (docs/ssl.md), on clips of\n"
        "recorded traffic. Forward models take the result: docs/ssl.md says how.",
        (
            ("ssl=autoencoder", "the objective"),
            ("data=us101", "or us101_ab (both blocks), or data=store data.path=FOLDER"),
            ("seconds=120", "time budget; training stops there at the latest"),
            *RUN,
        ),
        (
            "worldmodel pretrain ssl=autoencoder",
            "worldmodel pretrain ssl=autoencoder data=us101_ab seconds=600",
        ),
    ),
    "probe": Command(
        "what an encoder sees of a traffic scene",
        "Reads gaps, offset, neighbours and urgency off an encoder's map, linearly and by similar scenes,\n"
        "beside an untrained encoder and the pixels themselves. Prints the table, writes probe.json, and\n"
        "draws similar scenes and a map of all in report.html.",
        (
            ("checkpoint=FILE", "of pretrain or train (required); or as the first word"),
            ("windows=2048", "looked at in each part, drawn at random"),
            ("data=us101 part=test", "scored on"),
            ("data@known=us101 fit=train", "fitted on"),
            *RUN,
        ),
        ("worldmodel probe runs/pretrain/2026-11-22_10-00-00/ssl.pt",),
        takes="checkpoint",
    ),
    "plan": Command(
        "one decision, drawn",
        "Loads a model, takes one vehicle at one frame of a recording, plans, and draws what it saw, what\n"
        "it predicted, where it wants to go and what each cost term said.",
        (
            ("checkpoint=FILE", "the model (required)"),
            ("recording=NAME vehicle=ID frame=N", "the moment; left out, the first that is possible"),
            *RUN,
        ),
        ("worldmodel plan runs/demo/2026-11-22_10-00-00/model.pt frame=120",),
        takes="checkpoint",
    ),
    "imagine": Command(
        "a grid of futures that a model imagines",
        "Draws for a few held-out windows what was recorded, what the model predicts without a latent, with\n"
        "latents drawn from the prior and along one dimension, and under other actions of the ego: left,\n"
        "right, brake, accelerate. PNG and mp4, and a page that shows them.",
        (
            ("checkpoint=FILE", "the model (required); or as the first word"),
            ("windows=3 samples=4", "how many windows, and latents drawn for each"),
            ("dimension=N", "of the latent to sweep; left out, the one that changes most"),
            *RUN,
        ),
        ("worldmodel imagine runs/demo/2026-11-22_10-00-00/model.pt windows=5",),
        takes="checkpoint",
    ),
    "check": Command(
        "a model's prediction, put to the test",
        "Asks a model on held-out windows: is the action used, is the latent used or too free, how far is\n"
        "it better than copying, are its probabilities and spreads honest, do conformal bounds hold, how\n"
        "do errors grow; how z is found, what mends the spread. Prints the answers, writes check.json and\n"
        "report.html.",
        (
            ("checkpoint=FILE", "the model (required); or as the first word"),
            ("windows=64", "looked at, drawn at random"),
            ("part=test", "of the split"),
            ("ensemble=[A.pt,B.pt]", "models trained apart, in place of dropout copies"),
            *RUN,
        ),
        ("worldmodel check runs/demo/2026-11-22_10-00-00/model.pt",),
        takes="checkpoint",
    ),
    "evaluate": Command(
        "agents x episodes -> a table",
        "Hands recorded vehicles over to each agent and writes one row per episode (episodes.parquet, .csv)\n"
        "and the rates with their intervals (summary.json). Killed and started again with run=, it goes on\n"
        "where it was.",
        (
            ("checkpoint=FILE", "the model (required by the agents that use it)"),
            ("agent=[human,mpc_learnt]", "which to run, of configs/agent"),
            ("protocol=v1", "the criterion: v1 or ppuu"),
            ("cluster=vehicle_id", "what paired intervals resample: vehicle_id or scene"),
            ("+also.NAME={like:AGENT,checkpoint:FILE}", "the same agent with other weights, too"),
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
        "Predicts held-out windows and compares the rasters with what was recorded: squared error as a\n"
        "share of copying's, overlap and sharpness at 0.5, 1, 2 and 3 s; every step in prediction.csv.",
        (
            ("checkpoint=FILE", "the model (required); or as the first word"),
            ("windows=512", "predicted, drawn at random"),
            ("part=test", "of the split"),
            *RUN,
        ),
        ("worldmodel predict runs/demo/2026-11-22_10-00-00/model.pt",),
        takes="checkpoint",
    ),
    "report": Command(
        "a finished run -> its HTML page, again",
        "Renders report.html anew from what a run folder holds.",
        (("of=FOLDER", "the run folder (required)"),),
        ("worldmodel report of=runs/demo/2026-11-22_10-00-00",),
    ),
    "realism": Command(
        "simulated traffic beside recorded traffic",
        "Counts in recordings and in simulated scenes speed against density, time gaps, accelerations and\n"
        "lane changes, and how far they differ. Prints the table, draws realism.png, and writes the numbers\n"
        "to realism.json and distances.csv.",
        (
            ("+data@recorded.NAME=mona", "further recordings; recorded.NAME.path=FOLDER where one is needed"),
            ("+traffic@simulated.NAME=ring", "further scenarios, of configs/traffic"),
            ("parts=[train,test]", "of the recordings' splits"),
            ("reference=NAME", "what the table compares with; left out, the first recording"),
            ("scenes=4 frames=600", "simulated of each scenario"),
            *RUN,
        ),
        (
            "worldmodel realism",
            "worldmodel realism +traffic@simulated.merge=merge scenes=8",
        ),
    ),
    "calibrate": Command(
        "recorded traffic -> a population of simulated drivers",
        "Fits IDM to every driver of the training part who is seen for some seconds, and what lane changes\n"
        "must gain to the recorded rate of lane changes. Writes population.yaml, for scenarios, and\n"
        "calibration.json, which says what the recording told and what it did not.",
        (
            ("data=us101_ab", "whose training part"),
            ("traffic@scenario=us101", "in which lane changes are tuned"),
            ("rounds=8 scenes=4", "of tuning, and what is simulated in each"),
            *RUN,
        ),
        (
            "worldmodel calibrate run=runs/drivers",
            "worldmodel realism +traffic@simulated.mine=us101 population@simulated.mine.population=file \\\n"
            "      simulated.mine.population.path=runs/drivers/population.yaml",
        ),
    ),
    "results": Command(
        "the whole table of results, in about three hours",
        "Trains every model and policy of docs/results.md, drives and scores them, and writes results.md,\n"
        "results.csv, results.json and a picture of each table. Each stage is a command with a run folder\n"
        "below run=; killed and started again, it goes on, and does again only what depends on something\n"
        "that has changed.",
        (
            ("profile=full", "or quick (five minutes), core, alone, encoders"),
            ("scale=1.0", "times the time of every training"),
            ("jobs=2", "stages at a time, each on threads=1"),
            ('only="drive_policy-*"', "these stages, and what they need"),
            ("plan=true", "list the stages and which are done, run none"),
            ("mona=FOLDER us101_c=FILE", "the recordings that do not ship"),
            ("run=runs/results", "write there"),
        ),
        ("worldmodel results", "worldmodel results profile=quick run=runs/quick"),
    ),
    "suite": Command(
        "agents x levels of factors, in simulated traffic that reacts",
        "Simulates scenes in which one factor differs from a base (density, speed, aggressiveness, lanes,\n"
        "road), drives the same vehicles of them with every agent, and writes for each factor a table and a\n"
        "picture, collisions by fault, and videos of the worst episodes: report.html, suite.md, .csv and\n"
        ".json. Each level and agent is a stage; killed and started again, it goes on.",
        (
            ("factor=[density,road]", "which to vary, of configs/factor"),
            ("agent=[lane_keeping,policy]", "who drives, of configs/agent"),
            ("checkpoint=FILE policy_checkpoint=FILE", "the weights, where an agent reads them"),
            ("+also.NAME={like:AGENT,checkpoint:FILE}", "the same agent with other weights, too"),
            ("reference=lane_keeping", "paired differences are taken to it"),
            ("scenes.num=25 scenes.egos=2", "scenes of each level, and vehicles driven in each"),
            ("jobs=2", "stages at a time, each on threads=1"),
            ('only="drive-density-*"', "these stages alone"),
            ("plan=true", "list the stages, run none"),
            ("run=runs/suite", "write there"),
        ),
        (
            "worldmodel suite agent=[lane_keeping,mpc_copy] factor=[density]",
            "worldmodel suite agent=[lane_keeping,policy] policy_checkpoint=policy.pt run=runs/mine",
        ),
    ),
}


def overview() -> str:
    """Returns what `worldmodel --help` says: every command in a line."""
    lines = [f"  {name:10s} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Learn a world model of traffic and plan with it.",
            "",
            "usage: worldmodel COMMAND [key=value ...]",
            "",
            *lines,
            "",
            "`worldmodel COMMAND --help` explains a command, `... --cfg job` prints its configuration.",
        ]
    )


def page(name: str) -> str:
    """Returns what `worldmodel NAME --help` says."""
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
