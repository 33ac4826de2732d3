"""`microseg demo`: the whole chain on real customers, or on a small simulated business, and its results."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import click

from microseg_assets import project as projects
from microseg_assets.build import load_workspace
from microseg_assets.cli import summary
from microseg_assets.cli.run import materialize
from microseg_assets.file_lock import file_lock
from microseg_assets.home import LOCK, Home
from microseg_assets.project import SHIPPED, ProjectError
from microseg_assets.workspace import Workspace
from ml import tables

DAYS = 56
QUICK_DAYS = 14
QUICK_PROJECT = "simulated_shop"


def complete_journey() -> None:
    """Complete Journey: every day of 2017 to features, nine training weeks, the last 56 days to the atlas."""
    _demo("complete_journey", DAYS)


def quick() -> None:
    """A simulated shop with randomised campaigns, so that there are effects to act on."""
    home = Home.from_environment()
    _demo(str(write_simulated_shop(home)), QUICK_DAYS)


def write_simulated_shop(home: Home) -> Path:
    """Write the files and project file of the simulated shop to the state folder; the same bytes every time."""
    from ml.simulate import ShopSpec, simulate, write

    projects_folder = home.folder / "projects"
    projects_folder.mkdir(parents=True, exist_ok=True)
    folder, file = projects_folder / QUICK_PROJECT, projects_folder / f"{QUICK_PROJECT}.yaml"
    with file_lock(projects_folder / LOCK):
        if not file.exists():
            spec = ShopSpec()
            write(simulate(spec), folder)
            text = (SHIPPED.parent / "templates" / f"{QUICK_PROJECT}.yaml").read_text(encoding="utf-8")
            file.write_text(text, encoding="utf-8")
    return file


def _demo(name: str, days: int) -> None:
    home = Home.from_environment()
    started = time.perf_counter()
    settings = projects.load(name)
    if settings.end is None:
        raise ProjectError(f"{settings.path}: the demo needs a business whose data have ended; set `end`")
    first = settings.end - timedelta(days=days - 1)
    click.echo(f"{settings.title or settings.name}: the whole chain, into {home.folder}", err=True)
    took = materialize(name, first, settings.end, home, only_missing=True)
    workspace = load_workspace(name, home)
    summary.summary(workspace, settings.end)
    _accounts(workspace)
    _where_to_look(workspace, home)
    _time(took, time.perf_counter() - started)


def _accounts(workspace: Workspace) -> None:
    """Print that every delivered row is accepted or quarantined, and that the customers of each day add up."""
    click.echo(f"\n{click.style('Nothing was lost', bold=True)}")
    for name, table in workspace.project.inputs.items():
        source = workspace.sources[name]
        if source is None:
            click.echo(f"  {name:13} switched off (not in the project file)")
            continue
        dated = [row for row in source.counts_by_day().to_pylist() if row["day"]]
        delivered = sum(row["rows"] for row in dated) + source.undated().num_rows
        last = workspace.lake.keys(table)[-1]
        later = sum(row["rows"] for row in dated if row["day"].isoformat() > last)
        accepted = _rows(workspace, table)
        refused = _rows(workspace, tables.QUARANTINE, table=name)
        verdict = "" if delivered == accepted + refused + later else "   DOES NOT ADD UP"
        click.echo(
            f"  {name:13} {delivered:>9,} rows in = {accepted:,} accepted + {refused:,} quarantined"
            + (f" + {later:,} after {last}" if later else "") + verdict
        )  # fmt: skip
        for rule, count in _rules(workspace, name):
            click.echo(f"{'':16} {count:,}: {rule}")
    first, last = (workspace.lake.keys(tables.MOVEMENTS)[i] for i in (0, -1))
    buyers = workspace.engine.query(
        "SELECT COUNT(DISTINCT customer_id) AS n FROM accepted",
        accepted=workspace.lake.files(tables.TRANSACTIONS, workspace.lake.keys(tables.TRANSACTIONS)),
    )["n"][0].as_py()
    click.echo(f"  {buyers:,} customers with purchases; yesterday + entries = today on every day {first} … {last}")


def _rows(workspace: Workspace, table: tables.Table, /, **prefix: str) -> int:
    import pyarrow.parquet as pq

    files = workspace.lake.files(table, workspace.lake.keys(table, **prefix), **prefix)
    return sum(pq.read_metadata(path).num_rows for path in files.paths)


def _rules(workspace: Workspace, table: str) -> list[tuple[str, int]]:
    keys = workspace.lake.keys(tables.QUARANTINE, table=table)
    counts: dict[str, int] = {}
    for key in keys:
        for rule in workspace.lake.read(tables.QUARANTINE, key, table=table)["rule"].to_pylist():
            counts[rule] = counts.get(rule, 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])


def _where_to_look(workspace: Workspace, home: Home) -> None:
    last = workspace.lake.keys(tables.SEGMENT_ATLAS)[-1]
    atlas = f"{workspace.lake.root}/{workspace.project.name}/segment_atlas/day={last}/atlas.html"
    name = "" if workspace.project.name == "complete_journey" else f" --project {workspace.project.name}"
    commands = {
        f".venv/bin/microseg ui{name}" if name else "make ui": "Dagster's and MLflow's UI over this state",
        f".venv/bin/microseg show segments{name}": "every micro-segment",
        f".venv/bin/microseg status{name}": "what is there, missing or stale",
    }
    width = max(map(len, commands))
    click.echo(f"\n{click.style('Where to look next', bold=True)}")
    for command, what in commands.items():
        click.echo(f"  {command:{width}}  {what}")
    click.echo(f"  atlas: {atlas}")


def _time(took: dict[str, float], total: float) -> None:
    click.echo(f"\nTook {total:.0f} s: " + ", ".join(f"{title} {seconds:.0f} s" for title, seconds in took.items()))
