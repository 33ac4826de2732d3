"""`microseg new`: a commented project file to start from, filled in from the data.

`profile` samples files; `columns`, `names` and `infer` guess what they hold; `assign` decides, and tries the decision
with the chain's own reader; `settle` makes the changes that a profile of the tables calls for; `render` writes the
project file, with the evidence beside each line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import click

from microseg_assets.check.assess import SourceState, find_equal_rows
from microseg_assets.check.report import equal_words
from microseg_assets.project import ProjectError
from microseg_assets.scaffold.assign import assign_tables, calendar
from microseg_assets.scaffold.names import plain
from microseg_assets.scaffold.profile import Delivery, read_deliveries
from microseg_assets.scaffold.render import count_todos, observation_lines, render_project, row_count, span
from microseg_assets.scaffold.settle import Draft, settle_tables

__all__ = ["new"]


def new(name: str, data: Sequence[str], folder: Path) -> Path:
    """Write ``NAME.yaml`` into a folder, and print what to do next.

    Raises
    ------
    ProjectError, SourceError
        If the name is invalid, the file exists, or the data cannot be read; nothing is written then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
        suggestion = re.sub(r"^[^a-z]+", "", plain(Path(name).stem))[:41] or "my_shop"
        rule = "it must begin with a lower-case letter, followed by at most 40 lower-case letters, digits or _"
        raise ProjectError(f"{name!r} is not a valid project name: {rule}; try {suggestion}")
    path = folder / f"{name}.yaml"
    if path.exists():
        raise ProjectError(f"{path} exists already and is not overwritten: choose another name, or another --folder")
    deliveries = read_deliveries(data, folder)
    draft = settle_tables(assign_tables(deliveries, folder), folder)
    used = [table.delivery for table in draft.tables.values()]
    text = render_project(
        name, draft, [delivery for delivery in deliveries if all(delivery is not one for one in used)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    _report(path, draft, deliveries, count_todos(text), find_equal_rows(str(path)))
    return path


def _report(
    path: Path, draft: Draft, deliveries: Sequence[Delivery], todos: int, equal: Mapping[str, SourceState]
) -> None:
    click.echo(f"Wrote {path}")
    for name, table in draft.tables.items():
        click.echo(f"  {name:13} {table.delivery.label}: {row_count(table.delivery.rows)}{span(table)}")
        if name in equal:
            click.echo(f"{'':16}{equal_words(equal[name])}")
        if table.guess.lacks:
            click.echo(f"{'':16}no column looks like {', '.join(table.guess.lacks)}: fill it in")
    for delivery in deliveries:
        if all(delivery is not table.delivery for table in draft.tables.values()):
            click.echo(f"  not used      {delivery.label}")
    for line in observation_lines(draft):
        click.echo(line)
    if todos:
        click.echo(f"  {todos} line{' is' if todos == 1 else 's are'} marked TODO: what only you can know.")
    bought = draft.tables.get("transactions")
    days = "YYYY-MM-DD"
    if bought and bought.days:
        first, last, _ = calendar(bought.days)
        days = f"{max(first, last - timedelta(days=6))} --to {last}"
    click.echo("Next:")
    click.echo(f"  microseg check {path}")
    click.echo(f"  microseg run --project {path} --from {days}")
