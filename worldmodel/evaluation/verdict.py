"""Answers in words to what one asks of a trained model, from what a probe found. Knows no files, no Hydra."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from worldmodel.evaluation.probe import Findings
from worldmodel.evaluation.recalibration import every_second_vehicle, recalibrate
from worldmodel.evaluation.reliability import (
    bias,
    conformal_threshold,
    expected_calibration_error,
    rank_correlation,
    spread_ratio,
)
from worldmodel.evaluation.statistics import Interval, bootstrap_mean, paired_difference
from worldmodel.models import Inference

QUESTIONS = {
    "action": "is the action used?",
    "latent": "is the latent used?",
    "range": "better than copying?",
    "occupancy": "is occupancy honest?",
    "spread": "is the spread honest?",
    "bounds": "do bounds hold?",
    "growth": "do errors compound?",
}
HORIZONS = (0.5, 1.0, 2.0, 3.0)
"""Numbers are quoted there [s]."""
FREE = 1
"""Lowest bins of occupancy left out of its calibration error: what is surely free."""
HONEST = 0.05
"""Calibration error up to which occupancy counts as calibrated."""
FAINT = 0.05
"""Smaller changes, relative to the prediction's error, count as none."""
EMPTY_PROMISE = 0.5
"""A bound that holds by calling more of the road occupied than this says nothing."""


@dataclass(frozen=True)
class Answer:
    """An answer in words, with its numbers.

    Attributes:
        name: which of `QUESTIONS` it answers.
        is_good: whether it is as one would wish; None where that is a matter of the model's kind.
    """

    name: str
    verdict: str
    is_good: bool | None
    numbers: Mapping[str, Any]

    @property
    def question(self) -> str:
        """What was asked."""
        return QUESTIONS[self.name]


def judge(found: Findings, dt: float, *, miss: float) -> list[Answer]:
    """Returns the answers to all questions."""
    return [
        judge_action(found),
        judge_latent(found),
        judge_range(found, dt),
        judge_occupancy(found, dt),
        judge_spread(found, dt, miss=miss),
        judge_bounds(found, dt, miss=miss),
        judge_growth(found, dt),
    ]


def judge_action(found: Findings) -> Answer:
    """Says whether errors grow when the ego is told to do what another driver did."""
    right, wrong = (found.error[name].mean(1) for name in ("model", "shuffled"))
    extra = paired_difference(wrong, right, found.cluster)
    response = {name: _relative(found, change[:, -1]) for name, change in found.response.items()}
    share = Interval(*(getattr(extra, name) / right.mean() for name in ("estimate", "low", "high")))
    numbers = {"error_added_by_wrong_actions": asdict(share), "response": response}
    strongest = max(response, key=lambda name: response[name])
    detail = f"{strongest} changes the prediction by {_percent(response[strongest])} of its error"
    if response[strongest] < FAINT:
        return Answer("action", f"ignored: {detail}", False, numbers)
    words = f"another driver's actions add {_signed(share)} to the error; {detail}"
    if extra.low > 0:
        return Answer("action", f"yes: {words}", True, numbers)
    return Answer("action", f"felt, but to no use: {words}", None, numbers)


def judge_latent(found: Findings) -> Answer:
    """Says whether z does something, and whether it does too much."""
    if found.latent is None or found.gap is None:
        return Answer("latent", "none: the model is deterministic", None, {})
    use, gap = found.latent, found.gap
    numbers = {
        "error": {name: float(getattr(use, name).mean()) for name in ("posterior", "prior", "zero")},
        "gain": use.gain,
        "sensitivity": use.sensitivity,
        "energy_gap": {
            "inferred": gap.gap,
            "prior": gap.prior_gap,
            "retained": gap.retained,
            "forgiven": gap.forgiven,
        },
        "inference": energies_of(found.inference) if found.inference else {},
    }
    told = f"a z that saw the future removes {_percent(use.gain)} of the error"
    if gap.is_flat:  # first: an encoder that says nothing makes a free z look ignored
        words = f"too free: with it, futures that never happened fit as well ({told})"
        return Answer("latent", words, False, numbers)
    if use.is_ignored:
        words = f"ignored: {told}, drawing another changes {_percent(use.sensitivity)}"
        return Answer("latent", words, False, numbers)
    asked = f"{_percent(gap.accuracy)} of {len(gap.on)} windows"
    words = f"yes: {told}, and the true future still fits best in {asked}"
    return Answer("latent", words, True, numbers)


def energies_of(found: Inference) -> dict[str, float]:
    """Returns the mean energy over windows by each way of inferring z, and of what remains without z.

    `minimum` is the least of each window; `gradient` is left out where no step was taken.
    """
    ways = {"encoder": found.encoder, "gradient": found.gradient, "search": found.search}
    energies = {name: one.energy for name, one in ways.items() if one is not None}
    energies |= {"minimum": found.minimum, "free_energy": found.free_energy}
    return {name: float(one.mean()) for name, one in energies.items()}


def judge_range(found: Findings, dt: float) -> Answer:
    """Says from when to when the prediction beats copying: the 95 % interval of the difference is below 0."""
    gained = differences(found)
    better = [one.high < 0 for one in gained]
    first, last = longest_run(better)
    numbers = {
        "better_from": first * dt + dt if last > first else None,
        "better_to": last * dt if last > first else None,
        "difference": [asdict(one) for one in gained],
    }
    if last == first:
        worse = any(one.low > 0 for one in gained)
        return Answer("range", "nowhere; worse at some horizons" if worse else "nowhere", False, numbers)
    to_end = last == len(better)
    words = f"from {first * dt + dt:.1f} s to {last * dt:.1f} s" + (", the end of the horizon" * to_end)
    return Answer("range", words, to_end, numbers)


def judge_occupancy(found: Findings, dt: float) -> Answer:
    """Says whether what is predicted with probability p comes true that often."""
    error = expected_calibration_error(found.occupancy, skip=FREE).numpy()
    over = bias(found.occupancy, skip=FREE).numpy()
    numbers = {"ece": at_horizons(error, dt), "bias": at_horizons(over, dt)}
    last = len(error) - 1
    words = f"off by {100 * error[last]:.0f} points at {(last + 1) * dt:.1f} s (pixels above 5 %)"
    if np.nanmax(error) <= HONEST:
        return Answer("occupancy", f"yes: {words}", True, numbers)
    kind = "expects too much" if over[last] > 0 else "expects too little"
    return Answer("occupancy", f"no, {kind}: {words}", False, numbers)


def judge_spread(found: Findings, dt: float, *, miss: float) -> Answer:
    """Says whether errors are as large as the spread of latents and dropout members, and where that is."""
    ratio = spread_ratio(found.spread).numpy()
    aleatoric, epistemic = found.variance.aleatoric.numpy(), found.variance.epistemic.numpy()
    # Single unbiased variances may lie below 0; to cut them off there would make their mean too large.
    known, unknown = (max(float(part.mean()), 0.0) for part in (aleatoric, epistemic))
    share = unknown / max(known + unknown, 1e-12)
    variance = np.maximum(aleatoric + epistemic, 0.0)
    ranks = rank_correlation(variance.mean(1), found.error["model"].mean(1))
    numbers = {
        "spread_over_error": [round(float(one), 4) for one in ratio],
        "epistemic_share": share,
        "rank_correlation": ranks,
    }
    words = (
        f"spread is {_percent(float(ratio[-1]))} of the error, {_percent(share)} of its variance epistemic"
    )
    words += f"; windows it is unsure of err more (rank correlation {ranks:.2f})" if ranks > 0.1 else ""
    if float(ratio[-1]) == 0:
        return Answer("spread", "there is none: no latent and no dropout", None, numbers)
    own = every_second_vehicle(found.cluster)
    if not own.all():
        mended = recalibrate(variance, found.error["limit"].clip(0), own, miss=miss)
        numbers["recalibration"] = {name: at_horizons(values, dt) for name, values in vars(mended).items()}
    good = bool(0.5 <= ratio[-1] <= 2.0)
    kind = "yes" if good else "too sure" if ratio[-1] < 1 else "too unsure"
    return Answer("spread", f"{kind}: {words}", good, numbers)


def judge_bounds(found: Findings, dt: float, *, miss: float) -> Answer:
    """Says below which occupancy a pixel may be called free, and whether that holds for other vehicles.

    Thresholds come from every second vehicle, their coverage from the others.
    """
    own = every_second_vehicle(found.cluster)
    if own.all():
        return Answer("bounds", "cannot be said of one vehicle", None, {})
    threshold = conformal_threshold(found.catching[own], miss=miss)
    held = (found.catching[~own] >= threshold).astype(float)
    last = bootstrap_mean(held[:, -1], found.cluster[~own])
    called, real = called_occupied(found, threshold), _occupied(found)
    numbers = {
        "miss": miss,
        "threshold": [round(float(one), 5) for one in threshold],
        "coverage": [round(float(one), 4) for one in held.mean(0)],
        "coverage_at_end": asdict(last),
        "called_occupied": [round(one, 4) for one in called],
        "occupied": [round(float(one), 4) for one in real],
    }
    holds, is_empty = last.high >= 1 - miss, called[-1] > EMPTY_PROMISE
    answer = "only by calling everything occupied" if is_empty else "yes"
    words = f"{answer if holds else 'no'}: what was promised for {_percent(1 - miss)} holds in "
    words += f"{_percent(last.estimate)} [{_percent(last.low)}, {_percent(last.high)}] of other vehicles' "
    words += (
        f"windows at {held.shape[1] * dt:.1f} s, where pixels above {threshold[-1]:.3f} count as occupied: "
    )
    words += f"{_percent(called[-1])} of the road, when {_percent(float(real[-1]))} are"
    return Answer("bounds", words, bool(holds and not is_empty), numbers)


def called_occupied(found: Findings, threshold: np.ndarray) -> list[float]:
    """Returns the share of pixels at or above the threshold of each step."""
    count = found.levels.count.numpy()
    level = np.minimum((threshold * count.shape[1]).astype(int), count.shape[1] - 1)
    above = [float(count[step, first:].sum()) for step, first in enumerate(level)]
    return [one / max(float(total), 1.0) for one, total in zip(above, count.sum(1), strict=True)]


def _occupied(found: Findings) -> np.ndarray:
    return (found.levels.observed.sum(1) / found.levels.count.sum(1).clamp_min(1.0)).numpy()


def judge_growth(found: Findings, dt: float) -> Answer:
    """Says how the error grows with the horizon."""
    error = found.error["model"].mean(0)
    power = growth(error)
    numbers = {
        "mse": at_horizons(error, dt),
        "copy": at_horizons(found.error["copy"].mean(0), dt),
        "power": power,
    }
    kind = "settling" if power < 0.9 else "steady" if power < 1.3 else "compounding"
    words = (
        f"{kind}: error grows like t^{power:.1f}, {error[0]:.4f} at {dt:.1f} s, {error[-1]:.4f} at the end"
    )
    return Answer("growth", words, power < 1.3, numbers)


def by_horizon(answers: Sequence[Answer], dt: float) -> dict[str, dict[str, float | None]]:
    """Returns `{quantity: {horizon [s]: value}}` of how honest the model is; without what was not found.

    `ece` and `bias` of occupancy, `spread_over_error`, the conformal `threshold` of one half of the vehicles
    and its `coverage` in the other.
    """
    numbers = {one.name: one.numbers for one in answers}
    found = {name: numbers["occupancy"][name] for name in ("ece", "bias")}
    for answer, names in (("spread", ("spread_over_error",)), ("bounds", ("threshold", "coverage"))):
        kept = [name for name in names if name in numbers[answer]]
        found |= {name: at_horizons(np.array(numbers[answer][name]), dt) for name in kept}
    return found


def differences(found: Findings) -> list[Interval]:
    """Returns the model's error minus copying's for each step, with intervals by vehicle."""
    ours, copies = found.error["model"], found.error["copy"]
    return [paired_difference(ours[:, t], copies[:, t], found.cluster) for t in range(ours.shape[1])]


def longest_run(flags: Sequence[bool]) -> tuple[int, int]:
    """Returns the first and one past the last index of the longest run of True; equal where there is none."""
    best, start = (0, 0), 0
    for index, flag in enumerate([*flags, False]):
        if not flag:
            best = max(best, (start, index), key=lambda one: one[1] - one[0])
            start = index + 1
    return best


def growth(error: np.ndarray) -> float:
    """Returns the power `p` of `error ~ t^p`, fitted from the fifth part of the horizon on."""
    first = len(error) // 5
    steps = np.arange(first, len(error)) + 1
    if len(steps) < 2:
        return 0.0
    return float(np.polyfit(np.log(steps), np.log(np.maximum(error[first:], 1e-12)), 1)[0])


def _relative(found: Findings, change: np.ndarray) -> float:
    """Root mean square of a change of the prediction at the horizon's end, relative to the error there."""
    return float(np.sqrt(change.mean() / max(found.error["model"][:, -1].mean(), 1e-12)))


def at_horizons(values: np.ndarray, dt: float) -> dict[str, float | None]:
    """Returns the values of the steps at those `HORIZONS` that there are; None for one that is not finite."""
    steps = {f"{one:.1f}": round(one / dt) - 1 for one in HORIZONS}
    return {
        name: float(values[step]) if np.isfinite(values[step]) else None
        for name, step in steps.items()
        if step < len(values)
    }


def _percent(share: float) -> str:
    return f"{100 * share + 0.0:.0f} %".replace("-0 ", "0 ")


def _signed(share: Interval) -> str:
    return f"{100 * share.estimate:+.1f} % [{100 * share.low:+.1f}, {100 * share.high:+.1f}]"
