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
_NOTES = {"declared": "features.declared", "context": "tables.context"}  # with the key of the project file


def note(workspace: Workspace) -> dict[str, str]:
    """The notes for the file of a snapshot that is made now; none without declared features and contexts."""
    spec = workspace.project.feature_spec.declared
    notes = {}
    if spec:
        contract = {name: tables.INPUTS[name].names for name in spec.tables}
        own = [
            (name, c.name, c.type)
            for name in spec.tables
            for c in spec.input(name).columns
            if c.name not in contract[name]
        ]
        notes["declared"] = hashlib.sha256(repr((spec.features, own)).encode()).hexdigest()[:16]
    if contexts := workspace.project.contexts:
        notes["context"] = hashlib.sha256(repr(contexts).encode()).hexdigest()[:16]
    return notes


def keys(workspace: Workspace) -> str:
    """The keys of the project file that declare features, in words."""
    return " or ".join(_NOTES[name] for name in note(workspace))


def made_under_others(workspace: Workspace, days: Iterable[date] | None = None) -> set[date]:
    """The days whose snapshot was made under other declarations; none if the project declares no features now."""
    if not (now := note(workspace)):
        return set()
    notes = workspace.partitions(SNAPSHOT).notes(days)
    return {
        date.fromisoformat(day)
        for day, stored in notes.items()
        if any(stored.get(name) != content for name, content in now.items())
    }
