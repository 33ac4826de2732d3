"""Every vocabulary of reasons, and figures as its renderers declare them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from ml.reasons import Reason, Vocabulary
from ml.segments import reasons as layers

# Name to the codes there are, and what puts them in words.
VOCABULARIES: dict[str, tuple[type[StrEnum], Vocabulary]] = {
    "layers": (layers.Code, layers.WORDS),
    "drift of layers": (layers.Drift, layers.DRIFT_WORDS),
}
CODES = [(name, code) for name, (codes, _) in VOCABULARIES.items() for code in codes]


def figures(vocabulary: Vocabulary, code: str) -> dict[str, Any]:
    """Parameters of the kinds that a code's renderer declares, as JSON has them."""
    renderer = vocabulary[code]
    hints = typing.get_type_hints(renderer)
    names = inspect.signature(renderer).parameters
    return {name: _example(hints[name], vocabulary) for name in names}


def _example(kind: Any, vocabulary: Vocabulary) -> Any:
    if kind in (int, float, str, bool):
        return {int: 1234, float: 0.256, str: "some", bool: True}[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in inner:
        return _example(inner[0], vocabulary)
    if origin is typing.Literal:
        return inner[0]
    if origin is Sequence:
        return [_example(inner[0], vocabulary)] * 2
    assert origin is Mapping, f"no figure is a {kind}"
    plain = next(code for code, renderer in vocabulary.items() if not inspect.signature(renderer).parameters)
    return Reason(plain).stored()


def nonsense(vocabulary: Vocabulary) -> Vocabulary:
    """The same codes, all of which say the same."""

    def said(_: Callable[..., str]) -> Callable[..., str]:
        return lambda **_: "dada, 17 (42) asks for 9"

    return {code: said(renderer) for code, renderer in vocabulary.items()}
