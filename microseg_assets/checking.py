"""`microseg check`: what a project file and its sources amount to, before anything runs."""

from __future__ import annotations

import click

from microseg_assets import project as projects
from ml import tables


def report(name: str) -> int:
    """Print what was found and every problem; returns the exit code, 0 or 2.

    Raises
    ------
    ProjectError
        If the project file itself cannot be used.
    """
    project = projects.load(name)
    problems: list[str] = []
    click.echo(f"{project.name}: {project.path}")
    click.echo(f"  days {project.start} … {project.end or 'today'}, {project.time_zone}, {project.currency}\n")
    for table in tables.INPUTS:
        source = project.source(table)
        if source is None:
            click.echo(f"  {table:14} off: the project file maps no {table}")
            continue
        found = source.check()
        problems += [project.located(f"tables.{problem.key}", problem.message) for problem in found]
        if found:
            click.echo(f"  {table:14} {len(found)} problem(s), see below")
            continue
        days = [row for row in source.counts_by_day().to_pylist() if row["day"] is not None]
        undated = source.undated().num_rows
        rows = sum(row["rows"] for row in days)
        span = f"{days[0]['day']} … {days[-1]['day']}" if days else "no day"
        click.echo(
            f"  {table:14} {rows + undated:>12,} rows, {span}"
            + (f", {undated:,} outside the calendar" if undated else "")
        )
    layers = ", ".join(layer.name for layer in project.segments.layers)
    click.echo(f"\n  {len(project.features_table.names) - 1} features; layers {layers}")
    for problem in problems:
        click.echo(f"microseg: {problem}", err=True)
    return 2 if problems else 0
