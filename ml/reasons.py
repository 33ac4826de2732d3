"""Why something was decided: a code that never changes, its figures, and the sentence made of both.

Belongs here: what a reason is, and how a vocabulary puts one in words. Does not belong here: the vocabularies (each
beside the decisions it describes: `ml.choice`, `ml.layers.reasons`, …), and any decision.

A decision reads codes and figures, never words. A renderer is a function whose named parameters declare, by their
types, which figures a reason of its code has; so a vocabulary is its own declaration, and reasons stored as JSON can be
put in words again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Self, TypeAlias

Vocabulary: TypeAlias = Mapping[str, Callable[..., str]]  # code to what puts its figures in words
REMARKS = "remarks"  # the parameter that holds remarks, as reasons of the same vocabulary


@dataclass(frozen=True)
class Reason:
    """A kind of reason, and its figures.

    Parameters
    ----------
    code : str
        From a vocabulary; empty if the reason was stored before there were codes.
    parameters : Mapping of str to Any
        The figures in its sentence: numbers, texts, and lists of them, as JSON has them.
    sentence : str
        The words of a reason without a code.

    Examples
    --------
    >>> reason = Reason("late", {"days": 3})
    >>> reason.words({"late": lambda *, days: f"{days} days late"})
    '3 days late'
    >>> Reason.from_stored(reason.stored()) == reason
    True
    """

    code: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sentence: str = ""

    def words(self, vocabulary: Vocabulary) -> str:
        """Put the reason in words.

        Parameters
        ----------
        vocabulary : Vocabulary
            Code to the function that puts its figures in words.

        Returns
        -------
        str
            A sentence without a full stop.
        """
        return words(vocabulary, self.code, self.parameters) if self.code else self.sentence

    @property
    def kind(self) -> str:
        """A key shared by reasons that differ in their numbers alone; without a code, the sentence."""
        if not self.code:
            return self.sentence
        return json.dumps([str(self.code), _without_numbers(self.parameters)], sort_keys=True)

    def stored(self) -> dict[str, Any]:
        """List the fields as JSON has them.

        Returns
        -------
        dict
            `code` and `parameters`, and `said` for the sentence of a reason without a code.
        """
        coded = {"code": str(self.code), "parameters": dict(self.parameters)}
        return coded if self.code else {**coded, "said": self.sentence}

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `stored` returned.

        Parameters
        ----------
        stored : Mapping of str to Any
            Fields as JSON has them.

        Returns
        -------
        Reason
            The same reason.
        """
        return cls(stored["code"], stored["parameters"], stored.get("said", ""))

    @classmethod
    def from_row(cls, row: Mapping[str, Any], vocabulary: Vocabulary) -> Self:
        """Read a reason from the columns reason, reason_code and reason_parameters of a table.

        Parameters
        ----------
        row : Mapping of str to Any
            A row with these columns.
        vocabulary : Vocabulary
            The codes that are known.

        Returns
        -------
        Reason
            Without a code, but with the stored sentence, for rows of versions that had no codes or other ones.
        """
        if row.get("reason_code") not in vocabulary or row.get("reason_parameters") is None:
            return cls(sentence=str(row["reason"] or ""))
        return cls(row["reason_code"], json.loads(row["reason_parameters"]))

    def as_columns(self, vocabulary: Vocabulary) -> dict[str, str | None]:
        """Write the same three columns of a row.

        Parameters
        ----------
        vocabulary : Vocabulary
            Code to the function that puts its figures in words.

        Returns
        -------
        dict of str to str or None
            `reason`, `reason_code` and `reason_parameters` (JSON).
        """
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
    """Write figures as strict JSON, in which infinity and NaN become null.

    Parameters
    ----------
    parameters : Mapping of str to Any
        Figures of a reason.

    Returns
    -------
    str
        JSON with sorted keys.

    Examples
    --------
    >>> as_json({"high": float("inf"), "low": [0.5, float("nan")]})
    '{"high": null, "low": [0.5, null]}'
    """
    return json.dumps(_finite(parameters), sort_keys=True, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_numbers(inner) for name, inner in value.items() if not isinstance(inner, int | float)}
    if isinstance(value, list | tuple):
        return [_without_numbers(inner) for inner in value if not isinstance(inner, int | float)]
    return value


def words(vocabulary: Vocabulary, code: str, parameters: Mapping[str, Any]) -> str:
    """Put a code and its figures in words, followed by the remarks.

    Parameters
    ----------
    vocabulary : Vocabulary
        Code to the function that puts its figures in words.
    code : str
        A code of the vocabulary.
    parameters : Mapping of str to Any
        Its figures, and `remarks` if there are any.

    Returns
    -------
    str
        A sentence without a full stop; remarks follow semicolons.

    Examples
    --------
    >>> words({"late": lambda *, days: f"{days} days late"}, "late", {"days": 3})
    '3 days late'
    """
    figures = {name: value for name, value in parameters.items() if name != REMARKS}
    remarks = [Reason.from_stored(stored).words(vocabulary) for stored in parameters.get(REMARKS, ())]
    return "; ".join(part for part in (vocabulary[code](**figures), *remarks) if part)


def with_remarks(parameters: Mapping[str, Any], remarks: Sequence[Reason]) -> dict[str, Any]:
    """Add remarks to the figures of a reason.

    Parameters
    ----------
    parameters : Mapping of str to Any
        Figures of a reason, and the remarks it has.
    remarks : sequence of Reason
        From the same vocabulary.

    Returns
    -------
    dict of str to Any
        The figures, with the remarks after those it has.

    Examples
    --------
    >>> vocabulary = {"late": lambda *, days: f"{days} days late", "dark": lambda: "it was dark"}
    >>> words(vocabulary, "late", with_remarks({"days": 3}, [Reason("dark")]))
    '3 days late; it was dark'
    """
    stored = [*parameters.get(REMARKS, ()), *(remark.stored() for remark in remarks)]
    return {**parameters, REMARKS: stored} if stored else dict(parameters)
