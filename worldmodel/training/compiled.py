"""`torch.compile` for the parts of a model."""

from torch import nn


def compile_parts(module: nn.Module) -> None:
    """Compiles, in place, the outermost parts of `module` that have a `forward`.

    The loops around them stay Python, so that a longer unroll or another choice of frames does not compile
    anything again. Names of weights do not change.
    """
    for part in module.children():
        if type(part).forward is nn.Module.forward:  # a list, or a part with other methods
            compile_parts(part)
        else:
            part.compile()
