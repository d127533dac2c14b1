"""Lightning's loggers, as a configuration lists them."""

from lightning.pytorch.loggers.logger import Logger
from omegaconf import OmegaConf

from worldmodel.app.compose import Config, build


def make_loggers(config: Config) -> list[Logger]:
    """Returns what `config.logger` describes, each told the whole configuration as its hyper-parameters."""
    values = OmegaConf.to_container(config, resolve=True)
    loggers = [build(one) for one in config.logger.values()]
    for one in loggers:
        one.log_hyperparams(values)
    return loggers
