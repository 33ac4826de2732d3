"""Claims about reasons: each code has words, and nothing is decided by them."""

from __future__ import annotations

import json

import pytest

from ml.reasons import Reason, Vocabulary, with_remarks, words
from tests.ml.vocabularies import CODES, VOCABULARIES, figures


@pytest.mark.parametrize(("name", "code"), CODES, ids=lambda one: str(one))
def test_each_code_has_words_for_figures_of_the_declared_kinds(name: str, code: str) -> None:
    vocabulary = VOCABULARIES[name][1]
    parameters = figures(vocabulary, code)
    sentence = words(vocabulary, code, parameters)
    assert sentence.strip() == sentence and not sentence.endswith("."), sentence
    assert "None" not in sentence and "{" not in sentence, sentence
    stored = json.loads(json.dumps(Reason(code, parameters).stored()))
    assert Reason.from_stored(stored) == Reason(code, parameters)
    assert Reason.from_stored(stored).words(vocabulary) == sentence


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_vocabulary_has_words_for_its_codes_and_for_nothing_else(name: str) -> None:
    codes, vocabulary = VOCABULARIES[name]
    assert set(vocabulary) == set(codes)


def test_remarks_are_said_after_the_reason_and_survive_being_stored() -> None:
    vocabulary: Vocabulary = {"late": lambda *, days: f"{days} days late", "dark": lambda: "it was dark"}
    parameters = with_remarks({"days": 3}, [Reason("dark"), Reason(sentence="as was said before there were codes")])
    stored = json.loads(json.dumps(parameters))
    assert words(vocabulary, "late", stored) == "3 days late; it was dark; as was said before there were codes"
    assert with_remarks({"days": 3}, []) == {"days": 3}
