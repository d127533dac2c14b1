"""A second device for machines that have but one: it computes on the CPU, and refuses the CPU's tensors.

Code that mixes devices fails within `with second_device() as device:` as it would on a GPU: an operation with
tensors of both, random numbers from a generator of the other, `numpy()`. What a GPU allows is allowed:
tensors without dimensions, indices, copies. The numbers are those of the CPU, also the random ones of a
seeded generator. It says nothing about a GPU's own arithmetic, memory or speed.
"""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "second"
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index")


class Generator(torch.Generator):
    """Stands for `torch.Generator`: draws on the CPU, and says that it is on the device it was made for."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        made = super().__new__(cls, "cpu")
        if torch.device(device).type == NAME:
            _OF_THE_SECOND[made._cdata] = made
        return made

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0) if self._cdata in _OF_THE_SECOND else torch.device("cpu")


_OF_THE_SECOND: dict[int, Generator] = {}
"""Dispatch sees other objects of Python around the same generators."""


class There(Tensor):
    """A tensor of the second device, around one of the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        made = Tensor._make_wrapper_subclass(
            cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(),
            dtype=here.dtype, device=torch.device(NAME, 0),
        )  # fmt: skip
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.here.tolist()

    def __repr__(self) -> str:
        return f"There({self.here})"


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    there = [one for one in tensors if isinstance(one, There)]
    device = kwargs.get("device")
    wanted = bool(there) if device is None else torch.device(device).type == NAME
    if there and func not in COPIES:
        of_cpu = [one for one in tensors if not isinstance(one, There) and one.dim()]
        if func._schema.name in INDEXED:
            of_cpu = [one for one in of_cpu if one is args[0] or one.dtype.is_floating_point]
        if of_cpu:
            raise RuntimeError(f"{func}: {[tuple(one.shape) for one in of_cpu]} of the CPU on another device")
    generator = kwargs.get("generator")
    if generator is not None and (generator._cdata in _OF_THE_SECOND) != wanted:
        raise RuntimeError(f"{func}: a generator of one device, a result of the other")
    if func is torch.ops.aten.copy_.default:
        wanted = isinstance(args[0], There)
    if wanted and device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(one.here): one for one in there}
    found = func(*tree_map(_inside, args), **tree_map(_inside, kwargs))
    return tree_map(lambda one: _outside(one, known), found) if wanted else found


def _inside(value: Any) -> Any:
    return value.here if isinstance(value, There) else value


def _outside(value: Any, known: dict[int, There]) -> Any:
    if not isinstance(value, Tensor):
        return value
    return known[id(value)] if id(value) in known else There(value)


_REGISTERED: list[object] = []


def _register() -> None:
    if _REGISTERED:
        return

    class Guard(torch._C._acc.DeviceGuard):
        def type_(self) -> Any:
            return torch._C._autograd.DeviceType.PrivateUse1

    class Hooks(torch._C._acc.PrivateUse1Hooks):
        def is_available(self) -> bool:
            return True

        def has_primary_context(self, index: int) -> bool:
            return True

        def is_built(self) -> bool:
            return True

    _REGISTERED.extend([Guard(), Hooks()])  # torch does not keep them alive
    torch._C._acc.register_python_privateuseone_device_guard(_REGISTERED[0])
    torch._C._acc.register_python_privateuseone_hook(_REGISTERED[1])
    torch.utils.rename_privateuse1_backend(NAME)
    module = types.ModuleType(f"torch.{NAME}")
    module.is_initialized = module.is_available = lambda: True
    module.current_device, module.device_count = lambda: 0, lambda: 1
    module.manual_seed_all, module._is_in_bad_fork = lambda seed: None, lambda: False
    # Its default generator is the CPU's, whose state is kept and restored by whoever keeps the CPU's.
    module.get_rng_state, module.set_rng_state = (
        lambda device: torch.get_rng_state(),
        lambda state, device: None,
    )
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    torch._register_device_module(NAME, module)


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Returns the device, which is there while this lasts; generators of our modules can be made for it."""
    if not hasattr(torch._C, "_acc") or not hasattr(torch._C._acc, "PrivateUse1Hooks"):
        pytest.skip(f"torch {torch.__version__} takes no devices written in Python")
    _register()
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    usual = torch.Generator
    where = [one for one in list(sys.modules.values()) if vars(one).get("Generator") is usual]
    try:
        for module in where:
            module.Generator = Generator
        # Where autograd has run before, it has no thread for a device that was registered later.
        with _Mode(), torch.autograd.set_multithreading_enabled(False):
            yield torch.device(NAME, 0)
    finally:
        for module in where:
            module.Generator = usual
        torch._C._set_only_lift_cpu_tensors(before)
        _OF_THE_SECOND.clear()
