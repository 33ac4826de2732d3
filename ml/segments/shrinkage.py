"""Group means shrunk up the prefix tree of the group's string.

Belongs here: the estimator that judges groupings out of time. Does not belong here: which groupings are judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ml.segments.micro_segments import prefixes


def shrunken_means(groups: Sequence[str] | np.ndarray, outcome: np.ndarray) -> dict[str, float]:
    """The mean outcome of each group and prefix, each shrunk towards its parent's; ``""`` is everybody.

    A group of n members keeps n / (n + κ) of its distance from the parent, κ = within variance over between variance of
    the groups at its depth, both estimated by moments (one-way random effects, unbalanced; Searle, Casella & McCulloch
    1992, §3.6). Where groups differ by no more than chance explains, κ is infinite and they take the parent's mean.

    Parameters
    ----------
    groups : strings such as ``active/value.B``, shape (n,)
    outcome : shape (n,)
    """
    outcome = np.asarray(outcome, dtype=float)
    if not len(outcome):
        return {"": 0.0}
    leaves, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sums = np.stack(
        [np.bincount(place, minlength=len(leaves)), np.bincount(place, outcome), np.bincount(place, outcome**2)], axis=1
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
    """The shrunken means of all groups of one depth, given those of their parents."""
    names = list(groups)
    n, total, squares = np.stack([groups[name] for name in names]).T
    parents, place = np.unique([_parent(name) for name in names], return_inverse=True)
    parent_n = np.bincount(place, n)
    parent_mean = (np.bincount(place, total) / parent_n)[place]
    mean = total / n
    spare = n.sum() - len(names)
    within = max(float((squares - n * mean**2).sum()), 0.0) / spare if spare > 0 else 0.0
    between_sum = float((n * (mean - parent_mean) ** 2).sum()) - (len(names) - len(parents)) * within
    scale = float(n.sum() - (np.bincount(place, n**2) / parent_n).sum())
    between = between_sum / scale if scale > 0 else 0.0
    keep = n / (n + within / between) if between > 0 else np.zeros(len(names))
    above = np.array([means[_parent(name)] for name in names])
    return dict(zip(names, (above + keep * (mean - above)).tolist(), strict=True))


def apply_means(means: Mapping[str, float], groups: Sequence[str] | np.ndarray) -> np.ndarray:
    """Each group's mean; of a group that was never met, its longest prefix's."""
    leaves, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    found = [next((means[p] for p in reversed(prefixes(str(leaf))) if p in means), means[""]) for leaf in leaves]
    result: np.ndarray = np.array(found, dtype=float)[place] if len(leaves) else np.zeros(0)
    return result


def r2(outcome: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the outcome's variance that the prediction explains; NaN if the outcome does not vary."""
    around = float(((outcome - outcome.mean()) ** 2).sum()) if len(outcome) else 0.0
    return 1 - float(((outcome - predicted) ** 2).sum()) / around if around > 0 else float("nan")


def _parent(name: str) -> str:
    return name.rpartition("/")[0]
