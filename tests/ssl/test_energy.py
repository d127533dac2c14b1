"""The grammar of energies on toys: inference, temperature, latents, and why latents must be limited."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from tests.ssl.toys import distance_to, fork, mlp, plane, spiral
from worldmodel.nn import (
    EnergyTerms,
    LateralInhibition,
    LogDet,
    free_energy,
    infer_by_gradient,
    infer_by_search,
)

Said = Callable[[str], None]


def fit(loss_fn: Callable[[], Tensor], model: nn.Module, *, num_steps: int, lr: float = 1e-2) -> float:
    """Minimises a loss by Adam with falling steps; returns the last."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    loss = torch.zeros(())
    for _ in range(num_steps):
        loss = loss_fn()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return loss.item()


def only(error: Tensor, regulariser: Tensor | None = None) -> EnergyTerms:
    """An energy without an encoder."""
    nil = torch.zeros_like(error)
    return EnergyTerms(error, nil, nil if regulariser is None else regulariser)


@pytest.mark.slow
@pytest.mark.proof("A1")
def test_the_minimum_of_a_conditional_energy_is_data(result: Said) -> None:
    """F(x, y) of a spiral: trained by its exact conditional likelihood on a grid of y."""
    torch.manual_seed(0)
    data, line = spiral(200), torch.linspace(-1.2, 1.2, 49)
    net = mlp(2, 32, 32, 1)

    def energy(past: Tensor, future: Tensor) -> Tensor:
        return net(3 * torch.stack([past, future], dim=-1)).squeeze(-1)

    def everywhere() -> Tensor:
        return energy(data[:, :1].expand(-1, len(line)), line.expand(len(data), -1))

    def loss() -> Tensor:
        return (energy(data[:, 0], data[:, 1]) + torch.logsumexp(-everywhere(), 1)).mean()

    fit(loss, net, num_steps=200, lr=0.02)
    with torch.no_grad():
        here, there = energy(data[:, 0], data[:, 1]), everywhere()
    lower = (here[:, None] < there)[distance_of(data, line) > 0.15].float().mean().item()
    start = data[:, 1] + 0.2 * torch.randn(len(data))
    found = infer_by_gradient(lambda y: only(energy(data[:, 0], y)), start, num_steps=80, lr=0.02)
    before, after = (
        distance_to(torch.stack([data[:, 0], y], dim=-1), spiral(4000)).mean().item()
        for y in (start, found.latents)
    )
    assert lower > 0.95
    assert after < 0.05 and after < 0.5 * before
    result(
        f"data is lower than {100 * lower:.0f} % of what is off the spiral; "
        f"descents from {before:.2f} off it end {after:.2f} off it"
    )


def distance_of(data: Tensor, line: Tensor) -> Tensor:
    """From each `(x, y on the line)` to the spiral: `(B, N)`."""
    points = torch.stack([data[:, :1].expand(-1, len(line)), line.expand(len(data), -1)], dim=-1)
    return distance_to(points.flatten(0, 1), spiral(4000)).view(len(data), -1)


@pytest.mark.proof("A2")
def test_the_free_energy_of_a_quadratic_is_what_the_integral_says(result: Said) -> None:
    """`-1/b log 1/2a int exp(-b k (z - y)^2 / 2) dz = 1/2b log(2 a^2 b k / pi)`, for z in [-a, a]."""
    wide, stiffness = 6.0, 2.0
    z = torch.linspace(-wide, wide, 20001, dtype=torch.float64)
    energies = 0.5 * stiffness * (z[:, None] - torch.tensor([[0.3, -1.0]], dtype=torch.float64)).square()
    worst = 0.0
    for b in (0.5, 1.0, 10.0, 100.0):
        expected = 0.5 / b * math.log(2 * wide**2 * b * stiffness / math.pi)
        found = free_energy(energies, inverse_temperature=b)
        worst = max(worst, (found - expected).abs().max().item())
    assert worst < 1e-3
    result(f"equals the integral to {worst:.0e}")


@pytest.mark.proof("A2")
def test_the_free_energy_goes_from_the_mean_to_the_least() -> None:
    energies = torch.tensor([[3.0], [1.0], [2.0]], dtype=torch.float64)
    values = [free_energy(energies, inverse_temperature=b).item() for b in (1e-5, 0.1, 1.0, 10.0, 1e4)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(2.0, abs=1e-4) and values[-1] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.proof("A2")
def test_what_remains_without_z_is_the_marginal_of_the_gibbs_distribution() -> None:
    """`exp(-b F(y))` is proportional to `int exp(-b E(y, z)) dz`, and integrates to one like it."""
    y, z = torch.linspace(-6, 6, 601, dtype=torch.float64), torch.linspace(-6, 6, 601, dtype=torch.float64)
    b = 1.7
    energies = 0.5 * (y[None, :] - z[:, None].sin()).square() + 0.1 * z[:, None].square()
    joint = (-b * energies).exp()
    marginal = joint.sum(0) / joint.sum()
    without = (-b * free_energy(energies, inverse_temperature=b)).softmax(0)
    torch.testing.assert_close(without, marginal)
    assert without.sum().item() == pytest.approx(1.0)


@pytest.mark.proof("A3")
def test_a_latent_has_room_for_both_futures_of_a_fork(result: Said) -> None:
    torch.manual_seed(0)
    past, future = fork(500)
    lone, paired = mlp(1, 16, 1), mlp(2, 16, 1)
    sides = torch.tensor([[-1.0], [1.0]])

    def energies() -> Tensor:
        return torch.stack(
            [(paired(torch.cat([past, side.expand(500, 1)], 1)) - future).square().mean(-1) for side in sides]
        )

    fit(lambda: (lone(past) - future).square().mean(), lone, num_steps=150)
    fit(lambda: energies().amin(0).mean(), paired, num_steps=150)
    deterministic = (lone(past) - future).square().mean().item()
    variance = (future - past).var().item()
    best, _ = infer_by_search(
        lambda z: only((paired(torch.cat([past, z], 1)) - future).square().mean(-1)),
        [side.expand(500, 1) for side in sides],
    )
    assert deterministic == pytest.approx(variance, rel=0.05)
    assert best.energy.mean().item() < 0.01
    shares = (best.latents > 0).float().mean().item()
    assert 0.4 < shares < 0.6
    result(
        f"error without z {deterministic:.2f} (variance of the futures {variance:.2f}), "
        f"with the best z {best.energy.mean().item():.0e}"
    )


@pytest.mark.proof("A4")
def test_a_latent_without_limit_makes_the_energy_flat(result: Said) -> None:
    """Decoder `y = W z` with as many z as y: everything is explained, unless z costs something."""
    generator = Generator().manual_seed(0)
    direction = torch.tensor([0.8, 0.6])
    on = 0.5 * torch.randn(200, 1, generator=generator) * direction
    off = torch.randn(200, 2, generator=generator) * 0.5
    decoder = torch.stack([direction, 0.1 * torch.tensor([-0.6, 0.8])])  # a far z for what is off the line

    def energy_of(data: Tensor, weight: float) -> Tensor:
        def energy(z: Tensor) -> EnergyTerms:
            return only((data - z @ decoder).square().sum(-1), weight * z.square().sum(-1))

        start = torch.zeros(len(data), 2)
        for lr in (0.3, 0.03, 0.003):
            start = infer_by_gradient(energy, start, num_steps=100, lr=lr).latents
        return energy(start).total

    flat = energy_of(off, 0.0)
    limited_on, limited_off = energy_of(on, 0.1), energy_of(off, 0.1)
    assert flat.max() < 1e-6
    gap = limited_off.mean() / limited_on.mean()
    assert gap > 3
    result(
        f"F of anything below {flat.max().item():.0e}; with a price on z, {gap.item():.1f} times "
        "as much off the line as on it"
    )


class Bent(nn.Module):
    """A decoder of the plane that begins as the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(2, 48, 48, 2)
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, latent: Tensor) -> Tensor:
        return latent + self.net(2 * latent)


def errors(decoder: Bent, data: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """`mean_n |y - Dec(z + n)|^2` of every row and latent: `(B, N)`."""
    decoded = decoder((latents[:, None] + noise).flatten(0, 1)).view(len(latents), -1, 2)
    mean, second = decoded.mean(1), decoded.square().sum(-1).mean(1)
    return (data.square().sum(-1)[:, None] - 2 * data @ mean.T + second).clamp_min(0.0)


def low_energy_share(regulariser: Callable[[Tensor], Tensor], noise: Tensor, *, weight: float) -> float:
    """The share of a square that is as low as the data, once the decoder has learnt `min_z C + weight R`."""
    torch.manual_seed(0)
    data, latents, decoder = spiral(200), plane(25), Bent()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    best = data
    for _ in range(150):
        price = weight * regulariser(torch.cat([latents, best]))[: len(latents)]
        loss, index = (errors(decoder, data, latents, noise) + price).min(1)
        best = latents[index.detach()]
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        on, off = ((errors(decoder, rows, latents, noise) + price).amin(1) for rows in (data, plane(41)))
    return (off < on.quantile(0.8).clamp_min(0.005)).float().mean().item()


def marginal_information(latents: Tensor, codes: Tensor) -> Tensor:
    """What `LogDet` of the codes grows by with one more code, times their number: a quadratic form."""
    centred = codes - codes.mean(0)
    spread = torch.eye(2).to(codes) + 100 * centred.T @ centred / len(codes)
    return 50 * (((latents - codes.mean(0)) @ spread.inverse()) * (latents - codes.mean(0))).sum(-1)


NUM_LATENTS = 625
SEVEN: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "effective dimension": (lambda z: marginal_information(z, z[NUM_LATENTS:]), 0.04),
    "quantisation": (lambda z: 1e3 * (((z / 0.4) - (z / 0.4).round()).abs() > 1e-3).any(-1).float(), 1.0),
    "L0": (lambda z: (z.abs() > 1e-3).sum(-1).float(), 0.1),
    "L1": (lambda z: z.abs().sum(-1), 0.4),
    "lateral inhibition": (LateralInhibition(2), 3.0),
    "noise and bounded L2": (lambda z: z.square().sum(-1), 0.025),
    "any callable": (lambda z: (1 + 20 * z.square()).log().sum(-1), 0.06),
}


@pytest.mark.slow
@pytest.mark.proof("A5")
def test_each_of_seven_limits_makes_less_of_the_plane_as_low_as_the_data(result: Said) -> None:
    exactly = torch.zeros(1, 2)
    blur = 0.15 * torch.randn(8, 2, generator=Generator().manual_seed(0))
    unlimited = low_energy_share(lambda z: z.new_zeros(len(z)), exactly, weight=0.0)
    shares = {
        name: low_energy_share(regulariser, blur if "noise" in name else exactly, weight=weight)
        for name, (regulariser, weight) in SEVEN.items()
    }
    assert unlimited > 0.6
    assert max(shares.values()) < 0.7 * unlimited
    said = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    result(f"share of the plane as low as the data: unlimited {unlimited:.2f}, {said}")


def test_the_price_of_a_code_is_its_share_of_the_information_of_all() -> None:
    codes = torch.randn(50, 2, generator=Generator().manual_seed(0), dtype=torch.float64)
    at = codes.clone().requires_grad_()
    (expected,) = torch.autograd.grad(50 * LogDet(noise=0.1)(at)[0], at)
    price = codes.clone().requires_grad_()
    (found,) = torch.autograd.grad(marginal_information(price, codes).sum(), price)
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
@pytest.mark.proof("A6")
def test_an_encoder_learns_to_guess_what_inference_finds(result: Said) -> None:
    """`E = C(y, Dec(z)) + D(z, Enc(y)) + R(z)`: descend in z, then move Enc to where z has come."""
    torch.manual_seed(0)
    decoder, encoder = mlp(2, 32, 6), mlp(6, 32, 2)
    for one in decoder.parameters():
        one.requires_grad_(False).mul_(2.0)

    def futures(number: int) -> Tensor:
        return decoder(torch.randn(number, 2)) + 0.05 * torch.randn(number, 6)

    def energy_of(data: Tensor, *, distance: float) -> Callable[[Tensor], EnergyTerms]:
        guess = encoder(data).detach()
        return lambda z: EnergyTerms(
            (decoder(z) - data).square().sum(-1),
            distance * (z - guess).square().sum(-1),
            0.01 * z.square().sum(-1),
        )

    def gap(data: Tensor) -> float:
        """By how much the encoder's guess is worse than the best z, of several starts."""
        energy = energy_of(data, distance=0.0)
        starts = [encoder(data).detach(), torch.zeros(len(data), 2), torch.randn(len(data), 2)]
        found = [infer_by_gradient(energy, one, num_steps=100, lr=0.1).energy for one in starts]
        return (energy(starts[0]).total - torch.stack(found).amin(0)).mean().item()

    test, gaps = futures(200), []
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    for step in range(120):
        if step % 40 == 0:
            gaps.append(gap(test))
        data = futures(200)
        start = encoder(data).detach()
        z = infer_by_gradient(energy_of(data, distance=0.01), start, num_steps=10, lr=0.1).latents
        optimizer.zero_grad()
        (encoder(data) - z).square().mean().backward()
        optimizer.step()
    gaps.append(gap(test))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.1 * gaps[0]
    energy = energy_of(test, distance=0.0)
    guessed = infer_by_gradient(energy, encoder(test).detach(), num_steps=3).energy.mean().item()
    blind = infer_by_gradient(energy, torch.zeros(200, 2), num_steps=3).energy.mean().item()
    later = infer_by_gradient(energy, torch.zeros(200, 2), num_steps=10).energy.mean().item()
    assert guessed < later < blind
    result(
        f"guess above the minimum by {gaps[0]:.2f} -> {gaps[-1]:.2g}; energy after 3 steps from it "
        f"{guessed:.2g}, after 10 from zero {later:.2g}"
    )
