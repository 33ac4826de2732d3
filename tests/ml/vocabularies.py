"""Every vocabulary of reasons, and figures as its renderers declare them."""

from __future__ import annotations

import inspect
import json
import string
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from ml.actions import reasons as actions
from ml.choice import Code, FitResult
from ml.journeys import reasons as journeys
from ml.layers import reasons as layers
from ml.lifecycle import reasons as lifecycle
from ml.reasons import REMARKS, Reason, Vocabulary, words
from ml.value import reasons as value

# Name to the codes there are, and what puts them in words.
VOCABULARIES: dict[str, tuple[list[str], Vocabulary]] = {
    "layers": ([*layers.Code], layers.WORDS),
    "drift of layers": ([*layers.Drift], layers.DRIFT_WORDS),
    "choice of layers": ([*Code, *layers.ChoiceCode], layers.CHOICE_WORDS),
    "choice of value": ([*Code, *value.ChoiceCode, *value.Note], value.CHOICE_WORDS),
    "drift of value": ([*value.DriftCode], value.DRIFT_WORDS),
    "choice of transitions": ([*Code, *journeys.ChoiceCode], journeys.CHOICE_WORDS),
    "choice of stages": ([*Code, *lifecycle.ChoiceCode, *lifecycle.WindowCode], lifecycle.CHOICE_WORDS),
    "plan": ([*actions.PlanCode, *actions.FINDINGS], actions.PLAN_WORDS),
    "choice of action response": ([*Code, *actions.ChoiceCode, *actions.FINDINGS], actions.CHOICE_WORDS),
}
CODES = [(name, code) for name, (codes, _) in VOCABULARIES.items() for code in codes]


def lacking(training: FitResult) -> Reason:
    """What there was too little of."""
    assert training.reason_code == Code.NOT_ENOUGH_DATA
    return Reason.from_stored(training.reason_parameters["lacking"])


def remarks(training: FitResult) -> list[str]:
    """The codes of what else is said."""
    return [remark["code"] for remark in training.reason_parameters.get(REMARKS, ())]


def is_said_by_its_figures(training: FitResult, vocabulary: Vocabulary) -> bool:
    """Whether the words of a choice can be made again of what the lake keeps of it."""
    stored = json.loads(json.dumps(dict(training.reason_parameters), sort_keys=True))
    return training.reason == words(vocabulary, training.reason_code, stored)


def figures(vocabulary: Vocabulary, code: str) -> dict[str, Any]:
    """Parameters of the kinds that a code's renderer declares, as JSON has them."""
    renderer = vocabulary[code]
    text = getattr(renderer, "__self__", None)
    if isinstance(text, str):  # one with fields, of which figures have a format
        fields = [(name, form) for _, name, form, _ in string.Formatter().parse(text) if name]
        return {name: 0.256 if form else "some" for name, form in fields}
    hints = typing.get_type_hints(renderer)
    declared = inspect.signature(renderer).parameters.values()
    names = [one.name for one in declared if one.kind is not inspect.Parameter.VAR_KEYWORD]
    return {name: _example(hints[name], vocabulary) for name in names}


def _example(kind: Any, vocabulary: Vocabulary) -> Any:
    if kind in (int, float, str, bool):
        return {int: 1234, float: 0.256, str: "some", bool: True}[kind]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return next(iter(kind)).value
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in inner:
        return _example(inner[0], vocabulary)
    if origin is typing.Literal:
        return inner[0]
    if origin is Sequence:
        return [_example(inner[0], vocabulary)] * 2
    assert origin is Mapping, f"no figure is a {kind}"
    return Reason(sentence="some").stored()


def nonsense(vocabulary: Vocabulary) -> Vocabulary:
    """The same codes, all of which say the same."""

    def said(_: Callable[..., str]) -> Callable[..., str]:
        return lambda **_: "dada, 17 (42) asks for 9"

    return {code: said(renderer) for code, renderer in vocabulary.items()}
