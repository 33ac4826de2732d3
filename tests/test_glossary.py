"""The tree speaks the field's language: no private word in a name, and no odd one in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import docstrings, glossary


def test_no_private_word_is_left_in_sources_tests_or_pages() -> None:
    assert [str(use) for use in glossary.uses()] == []


@pytest.mark.parametrize(
    ("suffix", "text", "word"),
    [
        (".py", "found = rows()", "found"),
        (".py", "def f(place: int) -> int: ...", "place"),
        (".py", "for _held in rows: ...", "_held"),
        (".py", "class Facts: ...", "Facts"),
        (".py", "import pyarrow as given", "given"),
        (".py", "LEAST = 3", "LEAST"),
        (".py", '_c("kept", "double", "a share")', "kept"),
        (".py", "def test_a_gap_is_told() -> None: ...", "told"),
        (".sql", "SELECT 1 AS found", "found"),
        (".md", "Rows are taken in twice.", "taken in"),
    ],
)
def test_a_private_word_is_reported_with_the_field_s_word(suffix: str, text: str, word: str) -> None:
    (use,) = glossary.uses_in(Path(f"page{suffix}"), text)
    assert use.word == word and use.instead


@pytest.mark.parametrize(
    "text",
    [
        "rows = table.found",  # a library's attribute
        "# a cluster is found at the given place",  # plain English
        "class Code(StrEnum):\n    BETTER = 'better'",  # a stored code
        "def main() -> None: ...",
    ],
)
def test_plain_english_and_names_of_libraries_are_no_private_words(text: str) -> None:
    assert list(glossary.uses_in(Path("module.py"), text)) == []


@pytest.mark.parametrize("package", docstrings.packages())
def test_public_docstrings_are_complete_numpydoc(package: str) -> None:
    assert docstrings.shortcomings(package) == []


@pytest.mark.parametrize("module", docstrings.modules())
def test_examples_in_docstrings_run(module: str) -> None:
    assert docstrings.run_examples(module).failed == 0
