"""`microseg new`: a commented project file to start from, filled in from a look at the data.

`profile` reads a part of what is there; `columns`, `names` and `infer` say what it seems to be; `assign` decides,
and tries the decision with the chain's own reader; `settling` changes what the profile of that asks for; `render` puts
it down with the evidence beside each line.
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
from microseg_assets.scaffold.assign import assigned, calendar
from microseg_assets.scaffold.names import plain
from microseg_assets.scaffold.profile import Delivery, look
from microseg_assets.scaffold.render import asked, counted, looked, span, written
from microseg_assets.scaffold.settling import Settled, settled

__all__ = ["new"]


def new(name: str, data: Sequence[str], folder: Path) -> Path:
    """Write ``NAME.yaml`` into a folder and say what to do next.

    Raises
    ------
    ProjectError, SourceError
        If the name cannot be one, the file is there already, or the data cannot be read; nothing is written then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
        better = re.sub(r"^[^a-z]+", "", plain(Path(name).stem))[:41] or "my_shop"
        said = "begins with a small letter; small letters, digits and _ may follow, 41 in all"
        raise ProjectError(f"{name!r} cannot be a project's name, which {said}: try {better}")
    path = folder / f"{name}.yaml"
    if path.exists():
        raise ProjectError(f"{path} is there already and stays as it is: choose another name, or another --folder")
    deliveries = look(data, folder)
    start = settled(assigned(deliveries, folder), folder)
    found = start.found
    text = written(name, start, [d for d in deliveries if all(d is not f.delivery for f in found.values())])
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    _say(path, start, deliveries, asked(text), find_equal_rows(str(path)))
    return path


def _say(
    path: Path, start: Settled, deliveries: Sequence[Delivery], todo: int, equal: Mapping[str, SourceState]
) -> None:
    found = start.found
    click.echo(f"{path} is written.")
    for table, one in found.items():
        click.echo(f"  {table:13} {one.delivery.label}: {counted(one.delivery.rows)}{span(one)}")
        if table in equal:
            click.echo(f"{'':16}{equal_words(equal[table])}")
        if one.guess.lacks:
            click.echo(f"{'':16}nothing looks like {', '.join(one.guess.lacks)}: say what it is")
    for delivery in deliveries:
        if all(delivery is not one.delivery for one in found.values()):
            click.echo(f"  not used      {delivery.label}")
    for line in looked(start):
        click.echo(line)
    if todo:
        click.echo(f"  {todo} line{' is' if todo == 1 else 's are'} marked TODO: what only you can know.")
    bought = found.get("transactions")
    days = "YYYY-MM-DD"
    if bought and bought.days:
        first, last, _ = calendar(bought.days)
        days = f"{max(first, last - timedelta(days=6))} --to {last}"
    click.echo("Next:")
    click.echo(f"  microseg check {path}")
    click.echo(f"  microseg run --project {path} --from {days}")
