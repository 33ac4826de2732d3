"""Letters: how clusters keep their identity from one fit to the next.

Belongs here: assigning letters, carrying them on by shared customers, and what became of each cluster; all of it on
arrays of labels, however they were made. Does not belong here: the clusters (see `clustering`).

Both fits label the same customers. A pair of clusters continues if the assignment that keeps most customers under their
letter (Hungarian algorithm) pairs it, and at least a third of the customers of either are in both. The others were
born, split off, merged or retired, by where most of their customers are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

MIN_OVERLAP = 1 / 3  # share of the customers of either cluster who are in both
MIN_ORIGIN_SHARE = 0.5  # share of a cluster that must come from, or go to, one other

Fate = Literal["first", "continued", "born", "split", "merged", "retired"]


# What stored models of earlier versions call a field.
_RENAMED = {"kept": "retained_share", "came": "inherited_share"}


@dataclass(frozen=True)
class Event:
    """What became of a cluster, or where it came from.

    Parameters
    ----------
    event : str
        ``first`` (nothing before), ``continued``, ``born`` (mostly of customers of no single old cluster), ``split``
        (mostly of one old cluster's customers, which may continue), ``merged`` (gone, mostly into `other`), ``retired``
        (gone, its customers scattered or lost).
    letter : str
        Letter of the cluster.
    other : str
        For ``split`` the old cluster it came from, for ``merged`` the one it went into.
    customers_before, customers : int
        Customers of the same snapshot in the cluster under the old fit and under the new one.
    retained_share : float
        Share of the old cluster's customers who are in the new one, 0 to 1; for ``split``, of the parent's.
    inherited_share : float
        Share of the new cluster's customers who were in the old one, 0 to 1.
    """

    event: Fate
    letter: str
    other: str = ""
    customers_before: int = 0
    customers: int = 0
    retained_share: float = 0.0
    inherited_share: float = 0.0

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Restore an event from the JSON of a model, of this version or an earlier one."""
        return cls(**{_RENAMED.get(name, name): value for name, value in stored.items()})


def letter(number: int) -> str:
    """0 → A, 25 → Z, 26 → AA."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def new_letters(count: int, used: Sequence[str]) -> list[str]:
    """The first `count` letters that were never used."""
    letters: list[str] = []
    number = 0
    while len(letters) < count:
        if letter(number) not in used:
            letters.append(letter(number))
        number += 1
    return letters


def shared_customers(old: np.ndarray, new: np.ndarray, before: int, after: int) -> np.ndarray:
    """Count the customers that each pair of an old and a new cluster shares. Shape (before, after)."""
    shared = np.zeros((before, after))
    inside = (old >= 0) & (new >= 0)
    np.add.at(shared, (old[inside], new[inside]), 1)
    return shared


def matched_letters(old: np.ndarray, old_letters: Sequence[str], new: np.ndarray, count: int) -> list[str]:
    """Carry letters on: for each of `count` new clusters the letter of the old one it continues, or an empty text.

    Parameters
    ----------
    old, new : ndarray of shape (n,)
        Each customer's cluster number before and after; −1 is none.
    old_letters : Sequence of str
        Letters of the old clusters.
    count : int
        Number of new clusters.

    Returns
    -------
    list of str
        One letter per new cluster.

    Examples
    --------
    >>> matched_letters(np.array([0, 0, 1, 1]), "AB", np.array([1, 1, 0, 2]), 3)
    ['B', 'A', '']
    """
    shared = shared_customers(old, new, len(old_letters), count)
    letters = [""] * count
    for i, j in _pairs(shared, np.bincount(new[new >= 0], minlength=count)):
        letters[j] = old_letters[i]
    return letters


def _pairs(shared: np.ndarray, sizes: np.ndarray) -> list[tuple[int, int]]:
    from scipy.optimize import linear_sum_assignment

    either = shared.sum(axis=1)[:, None] + sizes[None, :] - shared
    pairs = zip(*linear_sum_assignment(shared, maximize=True), strict=True)
    return [(i, j) for i, j in pairs if shared[i, j] > 0 and shared[i, j] >= MIN_OVERLAP * either[i, j]]


def lineage(
    old: np.ndarray, old_letters: Sequence[str], new: np.ndarray, new_letters: Sequence[str]
) -> tuple[Event, ...]:
    """What became of every old cluster, and where every new one came from, in the order of letters.

    Parameters
    ----------
    old, new : ndarray of shape (n,)
        Each customer's cluster number before and after; −1 of an old one is none.
    old_letters : Sequence of str
        Letters of the old clusters.
    new_letters : Sequence of str
        Letters of the new clusters: carried on by `matched_letters`, or new.

    Returns
    -------
    tuple of Event
        One per cluster.

    Examples
    --------
    >>> events = lineage(np.array([0, 0, 1, 1]), ["A", "B"], np.array([0, 0, 0, 1]), ["A", "B"])
    >>> [(event.letter, event.event, event.retained_share) for event in events]
    [('A', 'continued', 1.0), ('B', 'continued', 0.5)]
    """
    shared = shared_customers(old, new, len(old_letters), len(new_letters))
    sizes_before = np.bincount(old[old >= 0], minlength=len(old_letters))
    sizes_now = np.bincount(new, minlength=len(new_letters))
    events = []
    for j, letter in enumerate(new_letters):
        origin = int(np.argmax(shared[:, j])) if len(old_letters) else 0
        if letter in old_letters:
            i = list(old_letters).index(letter)
            events.append(_event("continued", letter, "", shared, sizes_before, sizes_now, i, j))
        elif not len(old_letters):
            events.append(Event("first", letter, customers=int(sizes_now[j])))
        elif shared[origin, j] >= MIN_ORIGIN_SHARE * max(sizes_now[j], 1):
            events.append(_event("split", letter, old_letters[origin], shared, sizes_before, sizes_now, origin, j))
        else:
            events.append(_event("born", letter, "", shared, sizes_before, sizes_now, origin, j))
    for i, letter in enumerate(old_letters):
        if letter not in new_letters:
            destination = int(np.argmax(shared[i]))
            is_merged = sizes_before[i] > 0 and shared[i, destination] >= MIN_ORIGIN_SHARE * sizes_before[i]
            fate: Fate = "merged" if is_merged else "retired"
            other = new_letters[destination] if is_merged else ""
            events.append(_event(fate, letter, other, shared, sizes_before, sizes_now, i, destination))
    return tuple(sorted(events, key=lambda event: (len(event.letter), event.letter)))


def _event(
    fate: Fate,
    letter: str,
    other: str,
    shared: np.ndarray,
    sizes_before: np.ndarray,
    sizes_now: np.ndarray,
    i: int,
    j: int,
) -> Event:
    is_gone = fate in ("merged", "retired")
    return Event(
        fate, letter, other,
        customers_before=0 if fate in ("born", "split") else int(sizes_before[i]),
        customers=0 if is_gone else int(sizes_now[j]),
        retained_share=float(shared[i, j] / max(sizes_before[i], 1)),
        inherited_share=float(shared[i, j] / max(sizes_now[j], 1)),
    )  # fmt: skip
