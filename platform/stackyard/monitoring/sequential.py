"""A rollout is looked at all the time, and a test made for one look lies when it is asked a thousand times.

The tests here hold at every look: each keeps an e-value, a figure whose average is at most 1 while the null is true,
so the chance that it ever reaches 1 / alpha is at most alpha however often it is looked at (Ville 1939; Ramdas,
Gruenwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", 2023). All are functions of
the counts so far: there is no state that a killed controller could lose. Units are independent: requests, or callers
where they are kept on one arm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy.special import betaln, ndtr

_RATIOS: Final = np.geomspace(1.25, 1000.0, 40)
"""Odds ratios that an alternative may have: an e-value is a mixture over them, so none needs to be known before."""
_WEIGHTS: Final = -0.35 * np.log(_RATIOS) - np.logaddexp.reduce(-0.35 * np.log(_RATIOS))
"""Log weights of the mixture, half of them on ratios under 8: what is 1.5 or 4 times as bad is found first."""
_RATIO_PRIOR: Final = 200.0
"""Concentration of the Dirichlet prior of `sample_ratio`: shares within a few points of those asked for."""
_TUNED: Final = 500.0
"""Units at which the asymptotic confidence sequence is tightest."""
_STEP: Final = 0.05
"""Spacing of looks, as growth of the information: closer ones raise the boundary by less than 0.05."""


@dataclass(frozen=True)
class Evidence:
    """An e-value, as its natural logarithm: how far the counts speak against a null."""

    log: float

    @property
    def value(self) -> float:
        """The e-value, at most 1e300."""
        return math.exp(min(self.log, 690.0))

    def rejects(self, alpha: float) -> bool:
        """Whether the null falls: the chance that a true one ever does is at most `alpha`."""
        return self.log >= -math.log(alpha)


def above(count: int, trials: int, null: float) -> Evidence:
    """Evidence against a rate of at most `null` (0 < null < 1), from `count` of `trials`.

    A mixture of likelihood ratios over odds ratios from 1.25 to 1,000 (Wald 1945; Robbins 1970). Each is a
    supermartingale under every rate up to `null`, so it holds at every look. No power below the odds ratio 1.25.
    """
    return Evidence(_mixture(count, trials, null, _RATIOS))


def below(count: int, trials: int, null: float) -> Evidence:
    """Evidence against a rate of at least `null` (0 < null < 1), from `count` of `trials`; as `above`."""
    return Evidence(_mixture(count, trials, null, 1 / _RATIOS))


def upper(count: int, trials: int, alpha: float) -> float:
    """The upper end of a one-sided confidence sequence of a rate: at all looks together too low with chance `alpha`.

    It holds all rates that `below` does not reject, which are those up to a root, since `below` rises with the null.
    """
    if trials == 0:
        return 1.0
    low, high = count / trials, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if below(count, trials, middle).rejects(alpha) else (middle, high)
    return high


def lower(count: int, trials: int, alpha: float) -> float:
    """The lower end of a one-sided confidence sequence of a rate; see `upper`."""
    return 1.0 - upper(trials - count, trials, alpha)


@dataclass(frozen=True)
class TwoSampleRates:
    """Failures of two arms: `a` the champion, `b` the challenger, of so many requests each.

    `share` is the chance of a request to be `b`'s (a half where both answer every request).
    """

    failures_a: int
    requests_a: int
    failures_b: int
    requests_b: int
    share: float

    def harm(self) -> Evidence:
        """Evidence against "`b` fails at most as often as `a`".

        Given that a request fails it was `b`'s with chance `share` if both fail alike, whatever the rate and however
        it moves with the hour: a one-sample test of the failures alone (Lindon and Malek, "Anytime-Valid Inference
        for Multinomial Count Data", NeurIPS 2022). Where both arms answer each request, one that fails in both only
        lowers it: p (1 - p) is at most 1/4. With a share of 1 there is nobody to compare with, and no evidence.
        """
        if self.share >= 1:
            return Evidence(0.0)
        return above(self.failures_b, self.failures_a + self.failures_b, self.share)

    def excess(self, alpha: float) -> float:
        """The upper end of a confidence sequence of rate b - rate a: at all looks too low with chance `alpha`.

        Four fifths of alpha bound `b` from above, the rest `a` from below (union bound): `b` has the fewer requests.
        """
        highest = upper(self.failures_b, self.requests_b, alpha * 0.8)
        return highest - lower(self.failures_a, self.requests_a, alpha * 0.2)

    def excludes(self, margin: float, alpha: float) -> bool:
        """Whether harm above `margin` (rate b - rate a) is excluded; wrongly so with chance at most `alpha`."""
        return self.excess(alpha) < margin


def sample_ratio(assigned_a: int, assigned_b: int, share: float) -> Evidence:
    """Evidence against "each unit goes to `b` with chance `share`": routing or logging that loses some.

    Dirichlet-multinomial Bayes factor with the prior centred on the share (Lindon and Malek 2022, section 3).
    """
    if share >= 1:
        return Evidence(0.0 if assigned_a == 0 else math.inf)
    prior = (_RATIO_PRIOR * share, _RATIO_PRIOR * (1 - share))
    mixed = betaln(prior[0] + assigned_b, prior[1] + assigned_a) - betaln(*prior)
    return Evidence(float(mixed - assigned_b * math.log(share) - assigned_a * math.log1p(-share)))


def mean_width(units: int, error: float, alpha: float) -> float:
    """How far one end of a confidence sequence lies from a mean of `units` with standard error `error`.

    One-sided, at all looks together wrong with chance `alpha`, for means, their differences and what is as good as a
    mean (an AUC). Asymptotic: it holds from a hundred units on (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
    "Time-uniform central limit theory and asymptotic confidence sequences", 2024, proposition B.1).
    """
    if units == 0:
        return math.inf
    tuned = units * _tuning(alpha)
    return error * math.sqrt(2 * (tuned + 1) / tuned * math.log(1 + math.sqrt(tuned + 1) / (2 * alpha)))


@lru_cache(maxsize=256)
def boundary(growth: float, alpha: float) -> float:
    """What a standardised sum must exceed to be significant, when it is looked at from 1 to `growth` times the rows.

    A constant boundary over looks at every 5 % of growth (Pocock 1977), by the recursion over looks of Armitage,
    McPherson and Rowe, "Repeated significance tests on accumulating data" (1969). `growth` 1 is a single look. Its
    power is why: at twice the rows 2.1, against 2.9 or more of a test that never ends.
    """
    looks = math.ceil(math.log(max(growth, 1.0)) / _STEP) + 1
    low, high = 0.0, 6.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if _crossing(middle, looks) > alpha else (low, middle)
    return high


def _mixture(count: int, trials: int, null: float, ratios: np.ndarray) -> float:
    odds = null / (1 - null) * ratios
    rates = odds / (1 + odds)
    return float(
        np.logaddexp.reduce(
            _WEIGHTS
            + count * (np.log(rates) - math.log(null))
            + (trials - count) * (np.log1p(-rates) - math.log1p(-null))
        )
    )


def _tuning(alpha: float) -> float:
    """rho squared that makes `mean_width` least at `_TUNED` units (the same source, appendix C.3)."""
    spent = -2 * math.log(2 * alpha)
    return (spent + math.log(1 + spent)) / _TUNED


def _crossing(limit: float, looks: int) -> float:
    """Chance that a standardised Brownian motion is above `limit` at any of `looks`, each 5 % further than the last."""
    grid = np.linspace(-6.0, limit, 241)
    step = grid[1] - grid[0]
    weights = np.full(len(grid), step)
    weights[[0, -1]] = step / 2
    kept, spread = math.exp(-_STEP / 2), math.sqrt(1 - math.exp(-_STEP))
    moves = np.exp(-0.5 * ((grid[None, :] - kept * grid[:, None]) / spread) ** 2) / (spread * math.sqrt(2 * math.pi))
    density = np.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi)
    crossed = 1 - float(ndtr(limit))
    for _ in range(looks - 1):
        crossed += float((density * weights) @ (1 - ndtr((limit - kept * grid) / spread)))
        density = (density * weights) @ moves
    return crossed
