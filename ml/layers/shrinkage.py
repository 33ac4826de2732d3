"""Group means, shrunk along the prefixes of the group's string.

Belongs here: the estimator that compares groupings out of time. Does not belong here: which groupings are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ml.layers.strings import prefixes


def shrunken_means(groups: Sequence[str] | np.ndarray, outcome: np.ndarray) -> dict[str, float]:
    """Mean outcome of each group and prefix, each shrunk towards its parent's; ``""`` is everybody.

    A group of n members keeps n / (n + κ) of its distance from the parent, where κ is the variance within groups over
    the variance between groups of the same depth, both estimated by moments (one-way random effects, unbalanced [1]_).
    Where groups differ by no more than chance, κ is infinite and they take the parent's mean.

    Parameters
    ----------
    groups : Sequence of str, of shape (n,)
        Strings such as ``active/value.B``.
    outcome : ndarray of shape (n,)
        Outcome of each row.

    Returns
    -------
    dict of str to float
        Mean of each group and prefix.

    References
    ----------
    .. [1] Searle, S. R., Casella, G. & McCulloch, C. E. (1992). Variance Components, §3.6. Wiley.

    Examples
    --------
    >>> groups = ["active/value.A"] * 4 + ["active/value.B"] * 4
    >>> means = shrunken_means(groups, np.array([9.0, 11, 10, 10, 1, 3, 2, 2]))
    >>> {group: round(mean, 2) for group, mean in means.items()}
    {'': 6.0, 'active': 6.0, 'active/value.A': 9.98, 'active/value.B': 2.02}
    """
    outcome = np.asarray(outcome, dtype=float)
    if not len(outcome):
        return {"": 0.0}
    leaves, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sums = np.stack(
        [np.bincount(index, minlength=len(leaves)), np.bincount(index, outcome), np.bincount(index, outcome**2)], axis=1
    )
    by_depth: dict[int, dict[str, np.ndarray]] = defaultdict(dict)
    for leaf, of_leaf in zip(leaves, sums, strict=True):
        for depth, prefix in enumerate(prefixes(str(leaf))):
            by_depth[depth][prefix] = by_depth[depth].get(prefix, np.zeros(3)) + of_leaf
    means = {"": float(outcome.mean())}
    for depth in sorted(by_depth):
        means |= _level(by_depth[depth], means)
    return means


def _level(groups: Mapping[str, np.ndarray], means: Mapping[str, float]) -> dict[str, float]:
    """Shrunken means of all groups of one depth, given those of their parents."""
    names = list(groups)
    n, total, squares = np.stack([groups[name] for name in names]).T
    parents, index = np.unique([_parent(name) for name in names], return_inverse=True)
    parent_n = np.bincount(index, n)
    parent_mean = (np.bincount(index, total) / parent_n)[index]
    mean = total / n
    degrees_of_freedom = n.sum() - len(names)
    within = max(float((squares - n * mean**2).sum()), 0.0) / degrees_of_freedom if degrees_of_freedom > 0 else 0.0
    between_sum = float((n * (mean - parent_mean) ** 2).sum()) - (len(names) - len(parents)) * within
    scale = float(n.sum() - (np.bincount(index, n**2) / parent_n).sum())
    between = between_sum / scale if scale > 0 else 0.0
    weight = n / (n + within / between) if between > 0 else np.zeros(len(names))
    parent_means = np.array([means[_parent(name)] for name in names])
    return dict(zip(names, (parent_means + weight * (mean - parent_means)).tolist(), strict=True))


def apply_means(means: Mapping[str, float], groups: Sequence[str] | np.ndarray) -> np.ndarray:
    """Look up each group's mean, or its longest known prefix's.

    Parameters
    ----------
    means : Mapping of str to float
        As `shrunken_means` returns them.
    groups : Sequence of str, of shape (n,)
        Strings such as ``active/value.B``.

    Returns
    -------
    ndarray of shape (n,)
        A mean for each row.

    Examples
    --------
    >>> means = {"": 6.0, "active": 7.0, "active/value.A": 9.0}
    >>> apply_means(means, ["active/value.A", "active/value.C", "new"]).tolist()
    [9.0, 7.0, 6.0]
    """
    leaves, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    leaf_means = [next((means[p] for p in reversed(prefixes(str(leaf))) if p in means), means[""]) for leaf in leaves]
    result: np.ndarray = np.array(leaf_means, dtype=float)[index] if len(leaves) else np.zeros(0)
    return result


def r2(outcome: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the outcome's variance that a prediction explains.

    Parameters
    ----------
    outcome : ndarray of shape (n,)
        Observed outcome.
    predicted : ndarray of shape (n,)
        Its prediction.

    Returns
    -------
    float
        1 at best; below 0 if the prediction is worse than the mean; NaN if the outcome does not vary.

    Examples
    --------
    >>> round(r2(np.array([1.0, 2, 3, 4]), np.array([1.5, 2, 3, 3.5])), 2)
    0.9
    """
    total = float(((outcome - outcome.mean()) ** 2).sum()) if len(outcome) else 0.0
    return 1 - float(((outcome - predicted) ** 2).sum()) / total if total > 0 else float("nan")


def _parent(name: str) -> str:
    return name.rpartition("/")[0]
