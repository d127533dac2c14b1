"""Auto-encoders as energies: what noise, contraction, saturation and a prior do to them, in closed form."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from tests.ssl.toys import distance_to, mlp, plane, spiral
from worldmodel.nn import SquaredError, encode, gaussian_kl
from worldmodel.ssl import Contraction, FrameClip, GaussianBottleneck, GaussianNoise, Reconstruct, Saturating
from worldmodel.ssl.bottleneck import FLAT
from worldmodel.ssl.frame_penalty import jacobian_norm, sigmoid_jacobian_norm

Said = Callable[[str], None]


class Square(nn.Module):
    """A linear encoder of frames of one cell."""

    def __init__(self, features: int = 4, stride: tuple[int, int] = (2, 2)) -> None:
        super().__init__()
        self.features, self.stride = features, stride
        self.layer = nn.Conv2d(1, features, stride, stride=stride)

    def forward(self, frame: Tensor) -> Tensor:
        return self.layer(frame)


class Points(nn.Module):
    """An encoder of points of the plane, as frames of two pixels."""

    stride = (2, 1)

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.net = mlp(2, 64, 64, features)

    def forward(self, frame: Tensor) -> Tensor:
        return self.net(2 * frame.flatten(1))[..., None, None]


def as_clip(rows: Tensor, height: int = 2) -> FrameClip:
    """Rows of numbers as clips of one frame of one channel."""
    return FrameClip(frames=rows.view(len(rows), 1, 1, height, -1))


def given_back(encoder: nn.Module, objective: Reconstruct, rows: Tensor) -> Tensor:
    """What the auto-encoder makes of rows, without corruption."""
    clip = as_clip(rows)
    with torch.no_grad():
        return objective.predict(encoder, objective.source(clip)).flatten(1)


def learn(encoder: nn.Module, objective: Reconstruct, rows: Tensor, *, num_steps: int, lr: float) -> None:
    """Steps of Adam that become smaller, on all rows."""
    optimizer = torch.optim.Adam([*encoder.parameters(), *objective.parameters()], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(num_steps):
        optimizer.zero_grad()
        objective(encoder, as_clip(rows))["loss"].backward()
        optimizer.step()
        schedule.step()


def made(encoder: nn.Module, objective: Reconstruct, rows: Tensor) -> Reconstruct:
    objective.attach(encoder, as_clip(rows[:2]))
    return objective


@pytest.mark.proof("D6")
def test_the_best_linear_denoiser_is_wieners_and_points_along_the_score(result: Said) -> None:
    """`r(x) = S (S + s^2 I)^-1 x`, so that `(r(x) - x) / s^2` is the score of the noisy density."""
    torch.manual_seed(0)
    std = 0.5
    mixing = torch.randn(4, 4)
    rows = torch.randn(20000, 4) @ mixing
    encoder = Square()
    objective = made(encoder, Reconstruct(width=0, cost=SquaredError(), corrupt=GaussianNoise(std=std)), rows)
    parameters = [*encoder.parameters(), *objective.parameters()]
    optimizer = torch.optim.LBFGS(parameters, max_iter=80, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        torch.manual_seed(1)
        optimizer.zero_grad()
        loss = objective(encoder, as_clip(rows))["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    covariance, noisy = rows.T.cov(), rows.T.cov() + std**2 * torch.eye(4)
    x = torch.randn(200, 4) @ torch.linalg.cholesky(noisy).T
    found, expected = given_back(encoder, objective, x), x @ (covariance @ noisy.inverse()).T
    score = -x @ noisy.inverse()
    off = ((found - expected).norm() / expected.norm()).item()
    off_score = (((found - x) / std**2 - score).norm() / score.norm()).item()
    assert off < 0.02 and off_score < 0.1
    result(f"linear: off the closed form by {off:.1g}, off the score by {off_score:.1g}")


@pytest.mark.slow
@pytest.mark.proof("D6")
def test_a_denoiser_points_from_off_the_spiral_to_it(result: Said) -> None:
    torch.manual_seed(0)
    rows, encoder = spiral(1000), Points(32)
    objective = made(encoder, Reconstruct(cost=SquaredError(), corrupt=GaussianNoise(std=0.1)), rows)
    learn(encoder, objective, rows, num_steps=400, lr=1e-2)
    dense = spiral(4000)
    outer = rows[rows.norm(dim=1) > 0.3]  # further in, its arms are closer than the noise
    around = outer + 0.1 * torch.randn_like(outer)
    around = around[distance_to(around, dense) > 0.05]
    there = given_back(encoder, objective, around) - around
    nearest = dense[torch.cdist(around, dense).argmin(1)] - around
    cosine = torch.cosine_similarity(there, nearest).mean().item()
    on = (given_back(encoder, objective, rows) - rows).square().sum(-1).mean().item()
    ratio = there.square().sum(-1).mean().item() / on
    assert cosine > 0.7 and ratio > 3
    result(f"spiral: cosine to the nearest data {cosine:.2f}, {ratio:.0f} times the energy off it")


@pytest.mark.proof("D7")
def test_the_contraction_of_a_sigmoid_layer_has_a_closed_form(result: Said) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 5).double()
    point = torch.randn(4, 6, dtype=torch.float64)
    exact = sigmoid_jacobian_norm(layer.weight, layer(point).sigmoid())
    jacobians = [torch.autograd.functional.jacobian(lambda x: layer(x).sigmoid(), row) for row in point]
    by_autograd = torch.stack([one.square().sum() for one in jacobians]).mean()
    error = abs(exact.item() - by_autograd.item())
    assert error < 1e-14
    estimate = jacobian_norm(lambda x: layer(x).sigmoid(), point, num_probes=4000)
    off = abs(estimate.item() / exact.item() - 1)
    assert off < 0.03
    result(f"closed form equals autograd to {error:.0e}, random directions to {100 * off:.1f} %")


@pytest.mark.slow
@pytest.mark.proof("D7")
def test_contraction_makes_the_map_stiff_except_along_the_data(result: Said) -> None:
    """Data on a line in the plane: what moves across it must not move the map."""
    direction = torch.tensor([0.8, 0.6])
    across = torch.tensor([-0.6, 0.8])

    def gains(weight: float) -> tuple[float, float]:
        torch.manual_seed(0)
        rows = torch.randn(300, 1) * direction + 0.05 * torch.randn(300, 1) * across
        encoder = Points(8)
        objective = Reconstruct(cost=SquaredError(), penalty=Contraction(), penalty_weight=weight)
        learn(encoder, made(encoder, objective, rows), rows, num_steps=200, lr=5e-3)
        with torch.no_grad():
            moved = [
                (
                    encode(encoder, (rows + 0.1 * way).view(-1, 1, 2, 1))
                    - encode(encoder, rows.view(-1, 1, 2, 1))
                )
                for way in (direction, across)
            ]
        return moved[0].norm().item(), moved[1].norm().item()

    free_along, free_across = gains(0.0)
    along, over = gains(3e-3)
    assert over / along < 0.5 * free_across / free_along
    result(
        f"moves {over / along:.2f} times as much across the data as along it, "
        f"without {free_across / free_along:.2f}"
    )


@pytest.mark.proof("D8")
def test_the_distance_from_saturation_is_zero_exactly_where_the_nonlinearity_is_flat() -> None:
    value = torch.linspace(-3, 3, 601, dtype=torch.float64) + 1e-4
    for name, function in FLAT.items():
        at = value.clone().requires_grad_()
        read, distance = function(at)
        (slope,) = torch.autograd.grad(read.sum(), at)
        assert torch.equal(distance == 0, slope == 0), name
    with pytest.raises(ValueError, match=r"'sine'.*bounded.*rectified.*shrunk"):
        Saturating("sine")


class Layer(nn.Module):
    """A linear encoder of points of the plane."""

    stride = (2, 1)

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.layer = nn.Linear(2, features)

    def forward(self, frame: Tensor) -> Tensor:
        return self.layer(3 * frame.flatten(1))[..., None, None]


@pytest.mark.slow
@pytest.mark.proof("D8")
def test_saturation_raises_the_energy_off_the_data(result: Said) -> None:
    torch.manual_seed(0)
    rows = spiral(400)
    off = plane(21, side=1.0)
    off = off[distance_to(off, rows) > 0.15]

    def energies(weight: float) -> tuple[float, float, float]:
        torch.manual_seed(0)
        encoder, limit = Layer(32), Saturating("shrunk", weight=weight)
        objective = made(encoder, Reconstruct(width=0, cost=SquaredError(), bottleneck=limit), rows)
        learn(encoder, objective, rows, num_steps=300, lr=1e-2)
        with torch.no_grad():
            flat = (limit(encode(encoder, rows.view(-1, 1, 2, 1)))[0] == 0).float().mean().item()
        there, here = (
            (given_back(encoder, objective, points) - points).square().sum(-1).mean().item()
            for points in (off, rows)
        )
        return there, here, flat

    free, _, free_flat = energies(0.0)
    there, here, flat = energies(0.1)
    assert there > 30 * here
    assert there > 2 * free
    assert flat > free_flat + 0.1
    result(
        f"error {there:.2f} off the spiral, {here:.1g} on it, without the penalty {free:.2f} off it; "
        f"{100 * flat:.0f} % of the values saturate, {100 * free_flat:.0f} % without"
    )


def free_energy_of(decoder: Tensor, variance: float, y: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """`<-log p(y | z)>_q + KL(q | N(0, I))` for `y = W z + noise`, without sampling."""
    wrong = (y - mean @ decoder.T).square().sum(-1) + (log_var.exp() * decoder.square().sum(0)).sum(-1)
    return (
        0.5 * wrong / variance
        + 0.5 * y.shape[-1] * math.log(2 * math.pi * variance)
        + gaussian_kl(mean, log_var)
    )


def linear_gaussian() -> tuple[Tensor, float, Tensor]:
    """A decoder with orthogonal columns, whose posterior is diagonal; the noise; some data."""
    generator = Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(4, 2, generator=generator, dtype=torch.float64))
    decoder, variance = axes * torch.tensor([1.5, 0.7], dtype=torch.float64), 0.3
    z = torch.randn(500, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(500, 4, generator=generator, dtype=torch.float64)
    return decoder, variance, z @ decoder.T + variance**0.5 * noise


@pytest.mark.proof("D9")
def test_the_bound_is_the_free_energy_at_the_posterior_and_above_it_elsewhere(result: Said) -> None:
    decoder, variance, y = linear_gaussian()
    marginal = decoder @ decoder.T + variance * torch.eye(4, dtype=torch.float64)
    exact = -torch.distributions.MultivariateNormal(torch.zeros(4).double(), marginal).log_prob(y)
    precision = decoder.square().sum(0) / variance + 1
    mean, log_var = y @ decoder / variance / precision, -precision.log().expand(len(y), -1)
    gap = (free_energy_of(decoder, variance, y, mean, log_var) - exact).abs().max().item()
    beside = free_energy_of(decoder, variance, y, mean + 0.5, log_var) - exact
    wider = free_energy_of(decoder, variance, y, mean, log_var + 1) - exact
    assert gap < 1e-12
    assert beside.min() > 0.2 and wider.min() > 0.2
    result(f"bound equals -log p to {gap:.0e} at the posterior, {beside.min().item():.2f} above it beside")


@pytest.mark.slow
@pytest.mark.proof("D9")
def test_the_bottleneck_learns_the_posterior_of_a_linear_model(result: Said) -> None:
    torch.manual_seed(0)
    decoder, variance, y = (one.float() if isinstance(one, Tensor) else one for one in linear_gaussian())
    encoder, bottleneck = Square(features=2), GaussianBottleneck(2, log_var=0.0)
    bottleneck.weight = 2 * variance * 2 / 4  # the loss below is the bound times 2 variance / 4 pixels
    optimizer = torch.optim.Adam([*encoder.parameters(), *bottleneck.parameters()], lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
    for _ in range(600):
        z, limit = bottleneck(encoder(y.view(-1, 1, 2, 2)))
        loss = (z.flatten(1) @ decoder.T - y).square().mean() + limit
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    precision = decoder.square().sum(0) / variance + 1
    with torch.no_grad():
        cells = encoder(y.view(-1, 1, 2, 2))
        std = (0.5 * bottleneck.log_var(cells)).exp().mean((0, 2, 3))
    torch.testing.assert_close(cells.flatten(1), y @ decoder / variance / precision, atol=0.1, rtol=0.0)
    torch.testing.assert_close(std, precision.rsqrt(), atol=0.0, rtol=0.06)
    shown = ", ".join(f"{one:.2f} of {other:.2f}" for one, other in zip(std, precision.rsqrt(), strict=True))
    result(f"learnt deviations of z {shown}")
    assert torch.equal(bottleneck.eval()(cells)[0], cells)
