"""Looking along the columns of a map."""

import torch

from worldmodel.nn import LookAhead, first_seen


def test_the_first_that_blocks_the_view_is_seen() -> None:
    """Rows 0 and 2 are opaque; row 5 sees row 2 only, row 3 leaves its neighbour out and sees row 0."""
    weight = first_seen(torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(weight[5], torch.tensor([0.0, 0, 1, 0, 0, 0]), atol=2e-4, rtol=0)
    torch.testing.assert_close(weight[3], torch.tensor([1.0, 0, 0, 0, 0, 0]), atol=2e-4, rtol=0)
    assert weight[0].tolist() == weight[1].tolist() == [0.0] * 6


def test_it_is_the_product_of_what_is_let_through() -> None:
    opacity = torch.rand(3, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = first_seen(opacity)
    for scene in range(3):
        for row in range(9):
            through = 1.0
            for ahead in range(row - 2, -1, -1):
                expected = through * float(opacity[scene, ahead])
                assert abs(float(weight[scene, row, ahead]) - expected) < 1e-12
                through *= 1 - float(opacity[scene, ahead])
    assert (weight.sum(-1) <= 1 + 1e-9).all()


def test_gradients_are_right() -> None:
    opacity = torch.rand(1, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(first_seen, opacity.requires_grad_())


def test_nothing_is_added_at_birth_and_far_cells_are_reached_later() -> None:
    torch.manual_seed(0)
    block = LookAhead(8)
    h = torch.randn(2, 8, 12, 3, requires_grad=True)
    torch.testing.assert_close(block(h), h)
    torch.nn.init.normal_(block.leave.weight)
    (gradient,) = torch.autograd.grad(block(h)[0, :, 11, 1].sum(), h)
    assert gradient[0, :, 2, 1].abs().max() > 0  # nine cells ahead, in the same column
    assert gradient[0, :, :, 0].abs().max() == 0  # not in another
    assert gradient[1].abs().max() == 0
