"""Modules that remember what they were made of, so that a checkpoint can make them again."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from torch import nn


class Configured(nn.Module):
    """A module whose `config` names its class and the arguments it was built with.

    Arguments are plain values, modules with a `config` of their own, and lists and dicts of these. Classes
    are named by their package (`worldmodel.ssl.Sum`, wherever in it they are written), so a subclass has to
    be exported there.

    Example:
        >>> class Scale(Configured):
        ...     def __init__(self, factor: float = 2.0) -> None:
        ...         super().__init__()
        >>> Scale(3.0).config["factor"]
        3.0
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]

    @property
    def config(self) -> dict[str, Any]:
        """Everything `worldmodel.models.checkpoint.build` needs to make the same module again."""
        cls = type(self)
        package = ".".join(cls.__module__.split(".")[:2])
        arguments = self.__dict__.get("_arguments", {})
        return {
            "_target_": f"{package}.{cls.__qualname__}",
            **{name: _described(value) for name, value in arguments.items()},
        }


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    """Wraps a constructor: the outermost one notes its arguments, defaults included."""
    signature = inspect.signature(init)

    @wraps(init)
    def remember(self: Configured, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        init(self, *args, **kwargs)
        named = dict(list(bound.arguments.items())[1:])
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                named |= named.pop(name, {})
        self.__dict__["_arguments"] = named

    return remember


def _described(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return value.config
    if isinstance(value, Mapping):
        return {key: _described(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_described(part) for part in value]
    return value
