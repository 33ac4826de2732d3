"""Why something was decided: a code that stays the same, its figures, and the words made of both.

Belongs here: what a reason is, and how one is put in words by a vocabulary. Does not belong here: the vocabularies
(each beside what it speaks of: `ml.choice`, `ml.segments.reasons`, …), and any decision.

A decision reads codes and figures, never words. A renderer is a function whose named parameters say, by their types,
which figures a reason of its code has; so a vocabulary is its own declaration, and what is stored as JSON can be put in
words again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Self, TypeAlias

Vocabulary: TypeAlias = Mapping[str, Callable[..., str]]  # code to what puts its figures in words
REMARKS = "remarks"  # the parameter that holds what else must be known, as reasons of the same vocabulary


@dataclass(frozen=True)
class Reason:
    """A kind of reason, and its figures.

    Parameters
    ----------
    code : of a vocabulary; empty if the reason was stored before there were codes
    parameters : what stands in its sentence: numbers, texts, and lists of them, as JSON has them
    sentence : the words of a reason without a code
    """

    code: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sentence: str = ""

    def words(self, vocabulary: Vocabulary) -> str:
        """The sentence, without a full stop."""
        return words(vocabulary, self.code, self.parameters) if self.code else self.sentence

    @property
    def kind(self) -> str:
        """What two reasons have in common that differ in their numbers alone; without a code, the words."""
        if not self.code:
            return self.sentence
        return json.dumps([str(self.code), _without_numbers(self.parameters)], sort_keys=True)

    def stored(self) -> dict[str, Any]:
        """What goes into JSON."""
        coded = {"code": str(self.code), "parameters": dict(self.parameters)}
        return coded if self.code else {**coded, "said": self.sentence}

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Self:
        return cls(stored["code"], stored["parameters"], stored.get("said", ""))

    @classmethod
    def from_row(cls, row: Mapping[str, Any], vocabulary: Vocabulary) -> Self:
        """From the columns reason, reason_code and reason_parameters of a table.

        Rows of versions that had no codes, or codes that this version does not know, say what they said then.
        """
        if row.get("reason_code") not in vocabulary or row.get("reason_parameters") is None:
            return cls(sentence=str(row["reason"] or ""))
        return cls(row["reason_code"], json.loads(row["reason_parameters"]))

    def as_columns(self, vocabulary: Vocabulary) -> dict[str, str | None]:
        """The same three columns of a row."""
        columns = {"reason_code": str(self.code), "reason_parameters": as_json(self.parameters)} if self.code else {}
        return {"reason": self.words(vocabulary), "reason_code": None, "reason_parameters": None} | columns


def stored_as(**keys: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Decorate a renderer whose parameters have other names than the figures of its code have where they are stored.

    Parameters
    ----------
    **keys : str
        Key of the figure in stored reasons, by the renderer's parameter.

    Returns
    -------
    callable
        The decorator. The decorated renderer takes a figure under either name.

    Examples
    --------
    >>> @stored_as(days="held")
    ... def late(*, days: int) -> str:
    ...     return f"{days} days late"
    >>> late(held=3)
    '3 days late'
    """
    names = {key: name for name, key in keys.items()}

    def decorate(renderer: Callable[..., str]) -> Callable[..., str]:
        @wraps(renderer)
        def by_stored_keys(**figures: Any) -> str:
            return renderer(**{names.get(key, key): value for key, value in figures.items()})

        return by_stored_keys

    return decorate


def as_json(parameters: Mapping[str, Any]) -> str:
    """Figures as strict JSON, which has no infinity and no NaN: those become null.

    Examples
    --------
    >>> as_json({"high": float("inf"), "low": [0.5, float("nan")]})
    '{"high": null, "low": [0.5, null]}'
    """
    return json.dumps(_finite(parameters), sort_keys=True, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_numbers(one) for name, one in value.items() if not isinstance(one, int | float)}
    if isinstance(value, list | tuple):
        return [_without_numbers(one) for one in value if not isinstance(one, int | float)]
    return value


def words(vocabulary: Vocabulary, code: str, parameters: Mapping[str, Any]) -> str:
    """What a code says with its figures, and after it what else must be known; without a full stop.

    Examples
    --------
    >>> words({"late": lambda *, days: f"{days} days late"}, "late", {"days": 3})
    '3 days late'
    """
    figures = {name: value for name, value in parameters.items() if name != REMARKS}
    remarks = [Reason.from_stored(stored).words(vocabulary) for stored in parameters.get(REMARKS, ())]
    return "; ".join(part for part in (vocabulary[code](**figures), *remarks) if part)


def with_remarks(parameters: Mapping[str, Any], remarks: Sequence[Reason]) -> dict[str, Any]:
    """Figures with what else must be known beside the reason, after what is remarked already."""
    said = [*parameters.get(REMARKS, ()), *(remark.stored() for remark in remarks)]
    return {**parameters, REMARKS: said} if said else dict(parameters)
