"""The experiment auditor: whether arms that are said to be randomised look as if chance had chosen them.

Belongs here: tests of the sample ratio and of balance, from arrays, with codes and figures. Does not belong here: which
rows are audited (see `ml.actions.estimation`) and what an effect is worth once its audit is known.

A *sample ratio* that the stated chances do not explain says that rows are missing or were counted twice (Fabijan et
al. 2019). It warns. *Arms that differ before the exposure* say that who is missing, or who was chosen, was no accident:
then nothing stands on the design any more, whatever the ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml.actions.reasons import Figures, Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Codes = NDArray[np.int64]
    Mask = NDArray[np.bool_]

BALANCE_LEVEL = 0.01  # chance that a clean project, with all of its actions, is taken for one that is not randomised
RATIO_LEVEL = 0.001  # the usual level of sample-ratio tests: below it nobody looks for another explanation
_LEAST_VARIED = 30  # rows in which a feature differs from its most frequent value, below which it is not tested
_LEAST_DIRECTION = 0.02  # directions with less variance than this share of a feature's own repeat what others say
_CUSTOMERS_PER_DIRECTION = 10
_LEAST_VARIANCE = 5.0  # of the treated in a campaign, below which it is pooled with others like it


@dataclass(frozen=True)
class SampleRatio:
    """How many exposures each arm has, and how many the stated chances expect.

    Parameters
    ----------
    treated, control : exposures of each arm; where a sample was taken, of which it is one
    expected : share of treated ones that the chances expect
    p : of a chi-square test; NaN where no chance was stated
    missing : how many rows of one arm would make up for the difference
    """

    treated: float
    control: float
    expected: float
    p: float

    @property
    def short(self) -> bool:
        """Whether treated rows are those that are missing."""
        return self.treated < self.expected * (self.treated + self.control)

    @property
    def missing(self) -> float:
        odds = self.expected / max(1 - self.expected, 1e-9)
        return odds * self.control - self.treated if self.short else self.treated / max(odds, 1e-9) - self.control


@dataclass(frozen=True)
class Balance:
    """Whether what was known before the exposure tells the arms apart.

    Parameters
    ----------
    p : of the joint and the largest single difference together; 1 if nothing could be tested
    feature : position of the feature that differs most, in `features`; -1 if there is none
    difference : its difference between the arms, treated minus control, in standard deviations of its ranks
    features : how many were tested
    """

    p: float
    feature: int
    difference: float
    features: int


def sample_ratio(
    treated: Mask, chance: Vector, stratum: Codes, customer: Codes, weight: Vector | None = None
) -> SampleRatio:
    """Compare the arms' sizes with the stated chances, overall and campaign by campaign.

    The number of treated less its expectation, squared over its variance, is chi-square, overall and as a sum over the
    campaigns. The smaller p of the two counts, doubled.

    Parameters
    ----------
    treated : got the action, shape (n,)
    chance : stated chance of the action against control, shape (n,); NaN rows are left out
    stratum, customer : integer codes of campaign and customer, shape (n,); a customer's first exposure comes first
    weight : how many exposures a row stands for, shape (n,); 1 by default
    """
    from scipy.special import chdtrc

    weight = np.ones(len(treated)) if weight is None else weight
    n_1, n_0 = float(weight[treated].sum()), float(weight[~treated].sum())
    known = np.isfinite(chance)
    if not known.any() or not n_1 + n_0:
        return SampleRatio(n_1, n_0, float("nan"), float("nan"))
    expected = float(np.average(chance[known], weights=weight[known]))
    excess = (weight * (treated - np.where(known, chance, 0.0)))[known]
    # A row that stands for many exposures varies like as many.
    independent = (weight * chance * (1 - chance))[known]
    person = np.unique(customer[known], return_inverse=True)[1]
    clustered = float(np.sum(np.bincount(person, weights=excess / np.sqrt(weight[known])) ** 2))
    # With one row a customer the variance is known; where there are more, it is that of customers, if that is larger.
    has_repeats = int(person.max()) + 1 < len(person)
    total = max(float(independent.sum()), clustered if has_repeats else 0.0, 1e-12)
    p = float(chdtrc(1, excess.sum() ** 2 / total))
    # Campaign by campaign, each customer counts once: one lot may have decided all of a customer's exposures.
    first = np.unique(person, return_index=True)[1]
    place = np.unique(stratum[known][first], return_inverse=True)[1]
    # A sample of an arm holds as much of it in all as its weights say, but of each campaign only about so: there a row
    # counts with the square of its weight.
    spread = independent[first]
    sums, variance = np.bincount(place, excess[first]), np.bincount(place, weight[known][first] * spread)
    of_rows = np.bincount(place, spread / weight[known][first])  # how normal a sum is depends on how many rows it has
    large = of_rows >= _LEAST_VARIANCE
    pairs = [*zip(sums[large], variance[large], strict=True)]
    if of_rows[~large].sum() >= _LEAST_VARIANCE:
        pairs.append((sums[~large].sum(), variance[~large].sum()))
    if len(pairs) > 1:
        p = min(1.0, 2 * min(p, float(chdtrc(len(pairs), sum(s**2 / v for s, v in pairs)))))
    return SampleRatio(n_1, n_0, expected, p)


def balance(features: Vector, treated: Mask, chance: Vector, stratum: Codes, customer: Codes) -> Balance:
    """Test whether features known before the exposure tell the arms apart, beyond what the chances explain.

    The score test of a logistic regression of the arm on the ranks of all features, with the logit of the known chance
    as offset and an intercept per campaign, so that a mere difference in the arms' sizes is none between them. Ranks,
    since spend has tails that no normal approximation survives. Sums are clustered by customer. The joint statistic
    (Hotelling's T², as F) finds many small differences, the largest single one (Bonferroni) one of one kind; the
    smaller p of the two counts, doubled.

    Parameters
    ----------
    features : shape (n, columns); NaN where missing, which is tested too
    treated : got the action, shape (n,)
    chance : chance of the action against control, shape (n,)
    stratum, customer : integer codes of campaign and customer, shape (n,)
    """
    from scipy.special import fdtrc, ndtr

    residual = treated - _shifted(chance, treated, stratum)
    used = np.abs(residual) > 1e-9
    people = min(len(np.unique(customer[used & treated])), len(np.unique(customer[used & ~treated])))
    ranks, column = _ranks(features[used])
    if people < _LEAST_VARIED or not len(column):
        return Balance(1.0, -1, 0.0, 0)
    weight = (np.abs(residual) * (1 - np.abs(residual)))[used]
    place = np.unique(stratum[used], return_inverse=True)[1]
    ranks = ranks - _group_means(ranks, weight, place)[place]
    size = np.bincount(place)[place]
    rows = residual[used][:, None] * ranks * np.sqrt(size / np.maximum(size - 1, 1))[:, None]
    person = np.unique(customer[used], return_inverse=True)[1]
    sums = _group_sums(rows, person)
    score, covariance = (residual[used][:, None] * ranks).sum(axis=0), sums.T @ sums
    own = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    z = score / own
    largest = int(np.argmax(np.abs(z)))
    single = min(1.0, len(z) * 2 * float(ndtr(-abs(z[largest]))))
    values, vectors = np.linalg.eigh(covariance / np.outer(own, own))
    most = max(1, people // _CUSTOMERS_PER_DIRECTION)
    kept = np.flatnonzero(values > _LEAST_DIRECTION)[::-1][:most]
    statistic = float(np.sum((vectors[:, kept].T @ z) ** 2 / values[kept]))
    k, g = len(kept), len(sums)
    joint = float(fdtrc(k, g - k, statistic * (g - k) / (k * (g - 1)))) if g > k + 1 else 1.0
    arm = treated[used]
    spread = max(float(ranks[:, largest].std()), 1e-12)
    apart = float(ranks[arm, largest].mean() - ranks[~arm, largest].mean()) / spread
    return Balance(min(1.0, 2 * min(joint, single)), int(column[largest]), apart, len(np.unique(column)))


def audited(ratio: SampleRatio, balanced: Balance, names: Sequence[str], action: str, actions: int) -> list[Finding]:
    """What the tests amount to; empty for a clean experiment.

    Parameters
    ----------
    names : of the features that were tested
    actions : how many are audited with this one: the levels hold for all of them together
    """
    findings = []
    figures: Figures
    if balanced.p < BALANCE_LEVEL / max(actions, 1):
        figures = {"p": balanced.p, "feature": names[balanced.feature], "difference": balanced.difference,
                   "features": float(balanced.features)}  # fmt: skip
        findings.append(Finding("arms_unbalanced", figures))
    if ratio.p < RATIO_LEVEL / max(actions, 1):
        short = action if ratio.short else "control"
        figures = {"treated": ratio.treated, "control": ratio.control, "expected": ratio.expected, "p": ratio.p,
                   "missing": ratio.missing, "short": short}  # fmt: skip
        findings.append(Finding("sample_ratio_mismatch", figures, blocks=False))
    return findings


def _shifted(chance: Vector, treated: Mask, stratum: Codes) -> Vector:
    """The chances with their odds multiplied, stratum by stratum, until they expect the treated that there are.

    Strata with one arm only expect exactly what is there: they tell nothing.
    """
    place = np.unique(stratum, return_inverse=True)[1]
    wanted, size = np.bincount(place, weights=treated), np.bincount(place)
    one_arm = (wanted == 0) | (wanted == size)
    logit = np.log(np.clip(chance, 1e-6, 1 - 1e-6) / np.clip(1 - chance, 1e-6, 1))
    shift = np.zeros(len(size))
    for _ in range(30):
        p = 1 / (1 + np.exp(-(logit + shift[place])))
        step = (wanted - np.bincount(place, weights=p)) / np.maximum(np.bincount(place, weights=p * (1 - p)), 1e-9)
        step = np.where(one_arm, 0.0, np.clip(step, -2, 2))
        shift += step
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    p = 1 / (1 + np.exp(-(logit + shift[place])))
    return np.where(one_arm[place], treated.astype(float), p)


def _ranks(features: Vector) -> tuple[Vector, Codes]:
    """Centred ranks of each feature that varies, ties averaged, and whether it is missing where that varies too.

    Returns
    -------
    Shape (n, tested), and the position in `features` that each column is about.
    """
    from scipy.stats import rankdata

    columns, positions = [], []
    for position in range(features.shape[1]):
        values = features[:, position]
        known = np.isfinite(values)
        count = int(known.sum())
        if min(count, len(known) - count) >= _LEAST_VARIED:
            columns.append((~known).astype(float))
            positions.append(position)
        if count < 2 * _LEAST_VARIED:
            continue
        _, counts = np.unique(values[known], return_counts=True)
        if count - counts.max() < _LEAST_VARIED:
            continue
        column = np.zeros(len(values))
        column[known] = (rankdata(values[known]) - (count + 1) / 2) / count
        columns.append(column)
        positions.append(position)
    if not columns:
        return np.empty((len(features), 0)), np.zeros(0, dtype=np.int64)
    return np.column_stack(columns), np.array(positions, dtype=np.int64)


def _group_sums(values: Vector, group: Codes) -> Vector:
    """Sums of the rows of each group, shape (groups, columns)."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(int(group.max()) + 1))
    return np.asarray(np.add.reduceat(values[order], starts, axis=0))


def _group_means(values: Vector, weight: Vector, group: Codes) -> Vector:
    total = np.maximum(np.bincount(group, weights=weight), 1e-12)
    return _group_sums(values * weight[:, None], group) / total[:, None]
