"""Letters: how clusters keep their identity from one fit to the next.

Belongs here: handing out letters, carrying them on by shared customers, and what became of each cluster; all of it on
arrays of labels, whatever made them. Does not belong here: the clusters (see `fitting`).

Both fits label the same customers. A pair continues if the assignment that keeps most customers under their letter
(Hungarian algorithm) pairs it, and at least a third of all who are in either are in both. What is left over was born,
split off, merged or retired, by where most of its customers are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

CONTINUES = 1 / 3  # least share of those in either who are in both
MOST_OF = 0.5  # share of a cluster that must come from, or go to, one other
NOWHERE = -1  # label of a customer who was in none of the old clusters

Fate = Literal["first", "continued", "born", "split", "merged", "retired"]


# What stored models of earlier versions call a field.
_RENAMED = {"kept": "retained_share", "came": "inherited_share"}


@dataclass(frozen=True)
class Event:
    """What became of a cluster, or where it came from.

    Parameters
    ----------
    event : ``first`` (nothing before), ``continued``, ``born`` (mostly of customers of no single old cluster),
        ``split`` (mostly of one old cluster's customers, which may go on), ``merged`` (gone, mostly into `other`),
        ``retired`` (gone, its customers scattered or left)
    letter : of the cluster
    other : for ``split`` the old cluster it came from, for ``merged`` the one it went into
    customers_before, customers : of the same snapshot, under the old fit and under the new one
    retained_share : share of the old cluster's customers who are in the new one; for ``split`` of the parent's
    inherited_share : share of the new cluster's customers who were in the old one
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
        """From the JSON of a model, earlier versions' among it."""
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
    found: list[str] = []
    number = 0
    while len(found) < count:
        if letter(number) not in used:
            found.append(letter(number))
        number += 1
    return found


def shared_customers(old: np.ndarray, new: np.ndarray, before: int, after: int) -> np.ndarray:
    """How many customers each pair of an old and a new cluster shares, shape (before, after)."""
    shared = np.zeros((before, after))
    inside = (old >= 0) & (new >= 0)
    np.add.at(shared, (old[inside], new[inside]), 1)
    return shared


def matched_letters(old: np.ndarray, old_letters: Sequence[str], new: np.ndarray, count: int) -> list[str]:
    """For each of `count` new clusters the letter of the old one it continues, or an empty text.

    Parameters
    ----------
    old, new : place of each customer's cluster before and after, shape (n,); −1 of an old one is none
    """
    shared = shared_customers(old, new, len(old_letters), count)
    found = [""] * count
    for before, after in _pairs(shared, np.bincount(new[new >= 0], minlength=count)):
        found[after] = old_letters[before]
    return found


def _pairs(shared: np.ndarray, sizes: np.ndarray) -> list[tuple[int, int]]:
    from scipy.optimize import linear_sum_assignment

    either = shared.sum(axis=1)[:, None] + sizes[None, :] - shared
    pairs = zip(*linear_sum_assignment(shared, maximize=True), strict=True)
    return [(i, j) for i, j in pairs if shared[i, j] > 0 and shared[i, j] >= CONTINUES * either[i, j]]


def lineage(
    old: np.ndarray, old_letters: Sequence[str], new: np.ndarray, new_letters: Sequence[str]
) -> tuple[Event, ...]:
    """What became of every old cluster, and where every new one came from, in the order of letters.

    Parameters
    ----------
    old, new : place of each customer's cluster before and after, shape (n,); −1 of an old one is none
    new_letters : as `matched_letters` carried them on, with letters of their own where it found none
    """
    shared = shared_customers(old, new, len(old_letters), len(new_letters))
    was, now = np.bincount(old[old >= 0], minlength=len(old_letters)), np.bincount(new, minlength=len(new_letters))
    found = []
    for j, text in enumerate(new_letters):
        source = int(np.argmax(shared[:, j])) if len(old_letters) else 0
        if text in old_letters:
            i = list(old_letters).index(text)
            found.append(_event("continued", text, "", shared, was, now, i, j))
        elif not len(old_letters):
            found.append(Event("first", text, customers=int(now[j])))
        elif shared[source, j] >= MOST_OF * max(now[j], 1):
            found.append(_event("split", text, old_letters[source], shared, was, now, source, j))
        else:
            found.append(_event("born", text, "", shared, was, now, source, j))
    for i, text in enumerate(old_letters):
        if text not in new_letters:
            goal = int(np.argmax(shared[i]))
            merged = was[i] > 0 and shared[i, goal] >= MOST_OF * was[i]
            name: Fate = "merged" if merged else "retired"
            found.append(_event(name, text, new_letters[goal] if merged else "", shared, was, now, i, goal))
    return tuple(sorted(found, key=lambda one: (len(one.letter), one.letter)))


def _event(
    name: Fate, text: str, other: str, shared: np.ndarray, was: np.ndarray, now: np.ndarray, i: int, j: int
) -> Event:
    gone = name in ("merged", "retired")
    return Event(
        name, text, other,
        customers_before=0 if name in ("born", "split") else int(was[i]),
        customers=0 if gone else int(now[j]),
        retained_share=float(shared[i, j] / max(was[i], 1)),
        inherited_share=float(shared[i, j] / max(now[j], 1)),
    )  # fmt: skip
