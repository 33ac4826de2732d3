"""The experiment audit: whether arms that are declared randomised look as if chance had assigned them.

Belongs here: tests of the sample ratio and of balance, from arrays, with codes and figures. Does not belong here: which
rows are audited (see `ml.actions.estimation`) and whether an effect may be used once its audit is known.

A *sample ratio mismatch* means that rows are missing or were counted twice (Fabijan et al. 2019). It is a warning.
*Arms that differ before the exposure* mean that customers were not assigned, or are not missing, at random: the design
can then no longer be relied on, whatever the ratio.
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

BALANCE_LEVEL = 0.01  # false positive rate over all actions of a project
RATIO_LEVEL = 0.001  # the usual level of tests of the sample ratio
_MIN_VARYING_ROWS = 30  # rows in which a feature differs from its most frequent value, below which it is not tested
_MIN_EIGENVALUE = 0.02  # of the correlation matrix, below which a component is redundant
_MIN_CUSTOMERS_PER_COMPONENT = 10
_MIN_CAMPAIGN_VARIANCE = 5.0  # of the number treated in a campaign, below which it is pooled with other small ones


@dataclass(frozen=True)
class SampleRatio:
    """The number of exposures in each arm against what the stated propensities imply.

    Parameters
    ----------
    treated, control : float
        Exposures of each arm, before any sampling.
    expected : float
        Expected share of treated exposures, 0 to 1.
    p : float
        p-value of a chi-square test; NaN where no propensity was stated.
    """

    treated: float
    control: float
    expected: float
    p: float

    @property
    def is_treated_short(self) -> bool:
        """Whether treated rows are missing, not control rows."""
        return self.treated < self.expected * (self.treated + self.control)

    @property
    def missing(self) -> float:
        """Rows of the short arm that would make up for the difference."""
        odds = self.expected / max(1 - self.expected, 1e-9)
        return (
            odds * self.control - self.treated
            if self.is_treated_short
            else self.treated / max(odds, 1e-9) - self.control
        )


@dataclass(frozen=True)
class Balance:
    """Balance of the arms in what was known before the exposure.

    Parameters
    ----------
    p : float
        p-value of the joint test and the largest single difference together; 1 if nothing could be tested.
    feature : int
        Column of the feature that differs most; -1 if there is none.
    difference : float
        Its difference between the arms, treated minus control, in standard deviations of its ranks.
    features : int
        Number of features tested.
    """

    p: float
    feature: int
    difference: float
    features: int


def sample_ratio(
    treated: Mask, chance: Vector, stratum: Codes, customer: Codes, weight: Vector | None = None
) -> SampleRatio:
    """Test the arms' sizes against the stated propensities, overall and by campaign.

    The squared difference between the number treated and its expectation, over its variance, is chi-square, overall
    and summed over the campaigns. The result is the smaller of the two p-values, doubled.

    Parameters
    ----------
    treated : ndarray of shape (n_rows,)
        Whether the row got the action.
    chance : ndarray of shape (n_rows,)
        Stated propensity of the action against control; rows with NaN are left out.
    stratum, customer : ndarray of shape (n_rows,)
        Integer codes of campaign and customer; a customer's first exposure comes first.
    weight : ndarray of shape (n_rows,), optional
        Number of exposures that a row represents; 1 by default.

    Returns
    -------
    SampleRatio
        Sizes and p-value.
    """
    from scipy.special import chdtrc

    weight = np.ones(len(treated)) if weight is None else weight
    n_1, n_0 = float(weight[treated].sum()), float(weight[~treated].sum())
    known = np.isfinite(chance)
    if not known.any() or not n_1 + n_0:
        return SampleRatio(n_1, n_0, float("nan"), float("nan"))
    expected = float(np.average(chance[known], weights=weight[known]))
    excess = (weight * (treated - np.where(known, chance, 0.0)))[known]
    # A row that represents many exposures has their variance.
    independent = (weight * chance * (1 - chance))[known]
    person = np.unique(customer[known], return_inverse=True)[1]
    clustered = float(np.sum(np.bincount(person, weights=excess / np.sqrt(weight[known])) ** 2))
    # With one row per customer the variance is known; with repeats it is the clustered one, if that is larger.
    has_repeats = int(person.max()) + 1 < len(person)
    total = max(float(independent.sum()), clustered if has_repeats else 0.0, 1e-12)
    p = float(chdtrc(1, excess.sum() ** 2 / total))
    # By campaign, each customer counts once: one draw may have decided all of a customer's exposures.
    first = np.unique(person, return_index=True)[1]
    campaign = np.unique(stratum[known][first], return_inverse=True)[1]
    # The weights of a sample are exact for an arm as a whole but only approximate within a campaign, where a row
    # therefore counts with the square of its weight.
    spread = independent[first]
    sums, variance = np.bincount(campaign, excess[first]), np.bincount(campaign, weight[known][first] * spread)
    of_rows = np.bincount(campaign, spread / weight[known][first])  # normality depends on the number of rows
    large = of_rows >= _MIN_CAMPAIGN_VARIANCE
    pairs = [*zip(sums[large], variance[large], strict=True)]
    if of_rows[~large].sum() >= _MIN_CAMPAIGN_VARIANCE:
        pairs.append((sums[~large].sum(), variance[~large].sum()))
    if len(pairs) > 1:
        p = min(1.0, 2 * min(p, float(chdtrc(len(pairs), sum(s**2 / v for s, v in pairs)))))
    return SampleRatio(n_1, n_0, expected, p)


def balance(features: Vector, treated: Mask, chance: Vector, stratum: Codes, customer: Codes) -> Balance:
    """Test whether features known before the exposure predict the arm, beyond what the propensities explain.

    The score test of a logistic regression of the arm on the ranks of all features, with the logit of the known
    propensity as offset and an intercept per campaign, so that a mere difference in the arms' sizes does not count.
    Ranks are used because spend is too heavy-tailed for a normal approximation. Sums are clustered by customer. The
    joint statistic (Hotelling's T², as F) detects many small differences, the largest single one (Bonferroni) a large
    one; the result is the smaller of the two p-values, doubled.

    Parameters
    ----------
    features : ndarray of shape (n_rows, n_columns)
        Values before the exposure; NaN where missing, and missingness is tested too.
    treated : ndarray of shape (n_rows,)
        Whether the row got the action.
    chance : ndarray of shape (n_rows,)
        Propensity of the action against control.
    stratum, customer : ndarray of shape (n_rows,)
        Integer codes of campaign and customer.

    Returns
    -------
    Balance
        p-value and largest difference.
    """
    from scipy.special import fdtrc, ndtr

    residual = treated - _recalibrated(chance, treated, stratum)
    used = np.abs(residual) > 1e-9
    customers = min(len(np.unique(customer[used & treated])), len(np.unique(customer[used & ~treated])))
    ranks, column = _ranks(features[used])
    if customers < _MIN_VARYING_ROWS or not len(column):
        return Balance(1.0, -1, 0.0, 0)
    weight = (np.abs(residual) * (1 - np.abs(residual)))[used]
    campaign = np.unique(stratum[used], return_inverse=True)[1]
    ranks = ranks - _group_means(ranks, weight, campaign)[campaign]
    size = np.bincount(campaign)[campaign]
    rows = residual[used][:, None] * ranks * np.sqrt(size / np.maximum(size - 1, 1))[:, None]
    person = np.unique(customer[used], return_inverse=True)[1]
    sums = _group_sums(rows, person)
    score, covariance = (residual[used][:, None] * ranks).sum(axis=0), sums.T @ sums
    standard_error = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    z = score / standard_error
    largest = int(np.argmax(np.abs(z)))
    single = min(1.0, len(z) * 2 * float(ndtr(-abs(z[largest]))))
    values, vectors = np.linalg.eigh(covariance / np.outer(standard_error, standard_error))
    max_components = max(1, customers // _MIN_CUSTOMERS_PER_COMPONENT)
    components = np.flatnonzero(values > _MIN_EIGENVALUE)[::-1][:max_components]
    statistic = float(np.sum((vectors[:, components].T @ z) ** 2 / values[components]))
    k, g = len(components), len(sums)
    joint = float(fdtrc(k, g - k, statistic * (g - k) / (k * (g - 1)))) if g > k + 1 else 1.0
    arm = treated[used]
    spread = max(float(ranks[:, largest].std()), 1e-12)
    difference = float(ranks[arm, largest].mean() - ranks[~arm, largest].mean()) / spread
    return Balance(min(1.0, 2 * min(joint, single)), int(column[largest]), difference, len(np.unique(column)))


def audit_findings(
    ratio: SampleRatio, balanced: Balance, names: Sequence[str], action: str, actions: int
) -> list[Finding]:
    """List what the tests found; empty for a clean experiment.

    Parameters
    ----------
    ratio, balanced : SampleRatio, Balance
        Results of both tests.
    names : sequence of str
        Names of the features that were tested.
    action : str
        The action.
    actions : int
        Number of actions audited together: the levels hold for all of them.

    Returns
    -------
    list of Finding
        An imbalance, which blocks the action, and a sample ratio mismatch, which does not.
    """
    findings = []
    figures: Figures
    if balanced.p < BALANCE_LEVEL / max(actions, 1):
        figures = {"p": balanced.p, "feature": names[balanced.feature], "difference": balanced.difference,
                   "features": float(balanced.features)}  # fmt: skip
        findings.append(Finding("arms_unbalanced", figures))
    if ratio.p < RATIO_LEVEL / max(actions, 1):
        short = action if ratio.is_treated_short else "control"
        figures = {"treated": ratio.treated, "control": ratio.control, "expected": ratio.expected, "p": ratio.p,
                   "missing": ratio.missing, "short": short}  # fmt: skip
        findings.append(Finding("sample_ratio_mismatch", figures, blocks=False))
    return findings


def _recalibrated(chance: Vector, treated: Mask, stratum: Codes) -> Vector:
    """The propensities, with the odds of each stratum multiplied so that they expect the observed number treated.

    In strata with one arm only they equal the arm: such strata carry no information.
    """
    code = np.unique(stratum, return_inverse=True)[1]
    observed, size = np.bincount(code, weights=treated), np.bincount(code)
    one_arm = (observed == 0) | (observed == size)
    logit = np.log(np.clip(chance, 1e-6, 1 - 1e-6) / np.clip(1 - chance, 1e-6, 1))
    shift = np.zeros(len(size))
    for _ in range(30):
        p = 1 / (1 + np.exp(-(logit + shift[code])))
        step = (observed - np.bincount(code, weights=p)) / np.maximum(np.bincount(code, weights=p * (1 - p)), 1e-9)
        step = np.where(one_arm, 0.0, np.clip(step, -2, 2))
        shift += step
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    p = 1 / (1 + np.exp(-(logit + shift[code])))
    return np.where(one_arm[code], treated.astype(float), p)


def _ranks(features: Vector) -> tuple[Vector, Codes]:
    """Centred ranks of each feature that varies, ties averaged, and indicators of missing values that vary.

    The second array has the column of `features` that each column of the first is made of.
    """
    from scipy.stats import rankdata

    columns, positions = [], []
    for position in range(features.shape[1]):
        values = features[:, position]
        known = np.isfinite(values)
        count = int(known.sum())
        if min(count, len(known) - count) >= _MIN_VARYING_ROWS:
            columns.append((~known).astype(float))
            positions.append(position)
        if count < 2 * _MIN_VARYING_ROWS:
            continue
        _, counts = np.unique(values[known], return_counts=True)
        if count - counts.max() < _MIN_VARYING_ROWS:
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
