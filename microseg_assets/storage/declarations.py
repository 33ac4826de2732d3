"""Which stored snapshots were made under other declarations of features than the project has now.

A snapshot notes the declarations it was made under in its file. Belongs here: the note. Does not belong here: what
follows from it (see `planning.staleness`), and what a declaration means (see `ml.features.declared`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date

from microseg_assets.workspace import Workspace
from ml import tables

SNAPSHOT = "customer_features"
_NOTE = "declared"


def note(workspace: Workspace) -> dict[str, str]:
    """The note for the file of a snapshot that is made now; empty if the project declares no features."""
    spec = workspace.project.feature_spec.declared
    if not spec:
        return {}
    contract = {name: tables.INPUTS[name].names for name in spec.tables}
    own = [
        (name, c.name, c.type) for name in spec.tables for c in spec.input(name).columns if c.name not in contract[name]
    ]
    content = repr((spec.features, own))
    return {_NOTE: hashlib.sha256(content.encode()).hexdigest()[:16]}


def made_under_others(workspace: Workspace, days: Iterable[date] | None = None) -> set[date]:
    """The days whose snapshot was made under other declarations; none if the project declares no features now."""
    if not (now := note(workspace)):
        return set()
    notes = workspace.partitions(SNAPSHOT).notes(days)
    return {date.fromisoformat(day) for day, stored in notes.items() if stored.get(_NOTE) != now[_NOTE]}
