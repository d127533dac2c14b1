"""The network that ours is measured against is PPUU's, with its sizes and its flaws."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FILE = Path(__file__).parents[1] / "benchmarks" / "_ppuu.py"


@pytest.fixture(scope="module")
def ppuu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_ppuu_for_tests", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(ppuu: ModuleType) -> torch.nn.Module:
    torch.manual_seed(0)
    made: torch.nn.Module = ppuu.PPUU()
    return made


def past() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.zeros(1, 20, 3, 117, 24), torch.zeros(1, 20, 4), torch.zeros(1, 2, 2)


def test_has_ppuus_parameters(model: torch.nn.Module) -> None:
    """Block by block, as measured on the original code."""
    sizes = {name: sum(part.numel() for part in block.parameters()) for name, block in model.named_children()}
    assert sizes == {
        "frames": 717_248,
        "states": 2_849_792,
        "actions": 2_829_824,
        "targets": 658_880,
        "posterior": 2_835_008,
        "expander": 354_816,
        "core": 3_148_544,
        "image": 730_051,
        "squeeze": 1_048_832 + 262_400,
        "state": 198_148,
    }
    assert sum(sizes.values()) == 15_633_543


@torch.no_grad()
def test_its_residual_turns_black_to_grey(model: torch.nn.Module) -> None:
    """A decoder that says nothing leaves 0.5 of a black frame: identity is not its null output."""
    decoder = model.image[-1]  # type: ignore[index]
    weights = [part.clone() for part in decoder.parameters()]
    for part in decoder.parameters():
        part.zero_()
    image = model.eval()(*past()).image
    assert image.shape == (1, 2, 3, 117, 24)
    assert (image[:, 0] == 0.5).all()
    for part, kept in zip(decoder.parameters(), weights, strict=True):
        part.copy_(kept)


@torch.no_grad()
def test_its_dropout_is_drawn_anew(ppuu: ModuleType, model: torch.nn.Module) -> None:
    """Two calls in training differ even for the same latent; the posterior counts when there are targets."""
    model.train()
    hidden = torch.randn(1, ppuu.FEATURES, *ppuu.CELLS)
    assert not torch.equal(model.core(hidden), model.core(hidden))  # type: ignore[operator]
    torch.manual_seed(2)
    draws = [model(*past(), target=torch.zeros(1, 2, 3, 117, 24)).kl.item() for _ in range(3)]
    assert max(draws) > 0
    assert model(*past()).kl.item() == 0
