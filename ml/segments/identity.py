"""Letters: how clusters keep their identity from one fit to the next.

Belongs here: handing out letters and carrying them on by shared customers. Does not belong here: the clusters (see
`fitting`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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


def matched_letters(old: np.ndarray, old_letters: Sequence[str], new: np.ndarray, count: int) -> list[str]:
    """For each of `count` new clusters the letter of the old one it continues, or an empty text.

    The assignment that keeps most customers under their letter (Hungarian algorithm); a pair without a shared customer
    continues nothing.

    Parameters
    ----------
    old, new : place of each customer's cluster before and after, shape (n,)
    """
    from scipy.optimize import linear_sum_assignment

    shared = np.zeros((len(old_letters), count))
    np.add.at(shared, (old, new), 1)
    found = [""] * count
    for before, after in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        if shared[before, after] > 0:
            found[after] = old_letters[before]
    return found
