"""Titles and tables at a terminal.

Belongs here: how columns are aligned. Does not belong here: what is shown (see `summary` and `customer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click


def title(text: str) -> None:
    click.echo(f"\n{click.style(text, bold=True)}")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print aligned columns, numbers to the right."""
    cells = [[str(c) for c in row] for row in rows]
    if not cells:
        return
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]
    right = [
        all(row[i].strip("%-–+").replace(",", "").replace(".", "").isdigit() for row in cells) for i in range(len(head))
    ]
    for row in [list(head), *cells]:
        line = "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        click.echo(f"  {line.rstrip()}")
