"""The field's word for each thing: what a name or a sentence of this project must not say, and what it says instead.

`python -m tests.glossary [PATH ...]` lists every place that uses a private word, and the field's word for it; without
paths it reads every source, test and page of the tree. Two kinds of words are kept apart. A *name* may not be one of
`NAMES`, for it says nothing of what it holds, though the word is plain English in a sentence ("is found", "at the
end"). A word or phrase of `PROSE` is unusual in a sentence too, and is looked for in all text, names among it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {".md", ".sql", ".html", ".yaml", ".ipynb", ".rst"}
# Released notes say what was; this file lists the words.
LEFT_ALONE = {"CHANGELOG.md", "tests/glossary.py", "tests/test_glossary.py"}

# Keys and sentences that earlier versions stored, where they are read.
STORED = {
    ("ml/value/model.py", "twin"), ("tests/ml/test_value.py", "twin"), ("ml/layers/names.py", "surer"),
    ("tests/ml/test_segments_identity.py", "surer"),
    ("tests/integration/test_earlier_version.py", "spend as it was"),
}  # fmt: skip

NOUN = "the noun of what it holds: result, rows, inputs, …"
NAMES: Mapping[str, str] = {
    **dict.fromkeys(("found", "given", "held", "here", "at", "place"), NOUN),
    "taken_in": "ingest_log",
    **dict.fromkeys(("trailing", "past_of"), "baseline"),
    "starting": "scaffold",
    **dict.fromkeys(("running", "checking", "finding"), "execution, check, lookup"),
    "leaving": "weekly_switch_probability",
    **dict.fromkeys(("lifted", "lift"), "corrected, correction"),
    "as_it_was": "persistence, the persistence baseline",
    "surprise": "negative_log_likelihood",
    "quiet_before": "without_recent_exposure",
    "training_result": "fit_result",
    "beside": "side_outputs, or the noun of what it holds",
    "fixed": "partition_prefix, or the noun of what it holds",
    "reach": "lookback, or the noun of what it holds",
    **dict.fromkeys(("sure", "better", "much", "apart", "least", "most"), "MIN_…, MAX_…: what is bounded"),
    **dict.fromkeys(("is_heaped", "heaped"), "has_point_mass"),
    "has_summits": "is_multimodal",
    "without_clusters": "sample_null",
    **dict.fromkeys(("main", "line"), "first_principal_component, or what it computes"),
    **dict.fromkeys(("strange", "strangers"), "unknown_customers, MAX_UNKNOWN_SEGMENT_SHARE"),
}
ALLOWED = {  # a name that is the field's own after all
    **dict.fromkeys(("finding", "Finding"), "an objection of an audit, or a caveat"),
    "main": "the entry point of a program",
    "line": "a line of a text, or of a receipt",
}
CLASSES: Mapping[str, str] = {
    "Training": "FitResult", "Facts": "CustomerHistory, AtlasData", "Reach": "Lookback", "ActionSpec": "Action",
    "ActionsSpec": "ActionPolicy", "RESTATING": "SEGMENT_DEFINING_FAMILIES", "LIFT": "CORRECTION",
}  # fmt: skip
COLUMNS: Mapping[str, str] = {
    "good": "ltv_tercile_low", "better": "ltv_tercile_mid", "best": "ltv_tercile_high", "kept": "retained_share",
    "came": "inherited_share",
}  # fmt: skip
PROSE: Mapping[str, str] = {
    r"told": "reported, predicted, described, flagged",
    r"tells? apart": "distinguishes",
    r"surer": "more likely",
    r"taken[ _]in": "ingested",
    r"twins?": "backtest fit",
    r"strangers?": "unknown customers",
    r"heaped": "with a point mass",
    r"anew": "again, rebuilt",
    r"stands? twice": "is given twice",
    r"spend as it was": "the persistence baseline",
    r"ours − it": "difference, 95 % CI",
}


@dataclass(frozen=True)
class Use:
    """A private word in one place of the tree.

    Parameters
    ----------
    path : Path
        File, relative to the root of the tree.
    line : int
        Line number, from 1.
    word : str
        The word as it is written there.
    instead : str
        The field's word.
    """

    path: Path
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word} → {self.instead}"


def names_of(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of everything that a module names itself: not what it takes from a library by the library's name.

    Members of an enumeration are codes, which stored tables hold, and are left out.
    """
    tree = ast.parse(source)
    codes = {
        id(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases)
        for statement in node.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store) and id(node) not in codes:
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname


def uses_in(path: Path, text: str) -> Iterator[Use]:
    """Every private word of a file."""
    if path.suffix == ".py":
        for number, name in names_of(text):
            plain = name.strip("_")
            if name in CLASSES:
                yield Use(path, number, name, CLASSES[name])
            elif plain.lower() in NAMES and not (plain in ALLOWED and not name.startswith("_")):
                yield Use(path, number, name, NAMES[plain.lower()])
    for number, row in enumerate(text.splitlines(), start=1):
        for match in _PROSE.finditer(row):
            if (path.as_posix(), match.group()) in STORED:
                continue
            yield Use(path, number, match.group(), _instead(match.group()))
        for match in _COLUMN.finditer(row):
            yield Use(path, number, match.group("name"), COLUMNS[match.group("name")])
        if path.suffix == ".sql":
            for match in _ALIAS.finditer(row):
                yield Use(path, number, match.group("name"), NAMES[match.group("name").lower()])


_PROSE = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(PROSE)})(?![A-Za-z])", re.IGNORECASE)
_COLUMN = re.compile(rf"_c\(\s*\"(?P<name>{'|'.join(COLUMNS)})\"")
_ALIAS = re.compile(rf"\bAS (?P<name>{'|'.join(name for name in NAMES if name not in ALLOWED)})\b", re.IGNORECASE)


def _instead(word: str) -> str:
    return next(said for pattern, said in PROSE.items() if re.fullmatch(pattern, word, re.IGNORECASE))


def files_of(paths: Sequence[str] = ()) -> Iterator[Path]:
    """The files of the tree that people read, by their paths relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *paths],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        raise SystemExit(f"the files of the tree are listed by git: {listed.stderr.strip()}")
    for name in listed.stdout.splitlines():
        path = Path(name)
        if (path.suffix == ".py" or path.suffix in PAGES) and name not in LEFT_ALONE and (ROOT / path).exists():
            yield path


def uses(paths: Sequence[str] = ()) -> list[Use]:
    """Every private word of the tree, or of some of its paths."""
    return [use for path in files_of(paths) for use in uses_in(path, (ROOT / path).read_text(encoding="utf-8"))]


if __name__ == "__main__":
    every = uses(sys.argv[1:])
    print("\n".join(map(str, every)) or "none")
    sys.exit(bool(every))
