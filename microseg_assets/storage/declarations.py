"""Which stored days were made under other declarations than the project has now.

A snapshot notes in its file the declarations that it was made under, and a day of facts what its events counted as.
Belongs here: the notes. Does not belong here: what follows from them (see `planning.staleness`), and what a declaration
means (see `ml.features`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date

from microseg_assets.workspace import Workspace
from ml import tables

FACTS, SNAPSHOT = "customer_days", "customer_features"
_NOTES = {  # with the key of the project file
    "roles": "event_roles", "margin": "tables.transactions",
    "declared": "features.declared", "context": "tables.context",
}  # fmt: skip


def note(workspace: Workspace, asset: str) -> dict[str, str]:
    """The notes for the file of a day that is made now; none of an asset that no declaration decides.

    Facts that an earlier version made without visits and margin have none either, where this version would note them.
    """
    return {FACTS: _of_facts, SNAPSHOT: _of_snapshot}.get(asset, _none)(workspace)


def _none(_: Workspace) -> dict[str, str]:
    return {}


def _of_facts(workspace: Workspace) -> dict[str, str]:
    project = workspace.project
    notes = {}
    if project.feature_spec.has_visits:
        notes["roles"] = _digest(project.event_roles)
    if project.feature_spec.has_margin:
        notes["margin"] = "summed"
    return notes


def _of_snapshot(workspace: Workspace) -> dict[str, str]:
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
        notes["declared"] = _digest((spec.features, own))
    if contexts := workspace.project.contexts:
        notes["context"] = _digest(contexts)
    return notes


def _digest(declared: object) -> str:
    return hashlib.sha256(repr(declared).encode()).hexdigest()[:16]


def made_under_others(workspace: Workspace, asset: str, days: Iterable[date] | None = None) -> dict[date, str]:
    """The days that were made under other declarations, each with the keys of the project file that have changed.

    None, if the project declares nothing that decides the asset now.
    """
    if not (now := note(workspace, asset)):
        return {}
    changed = {
        date.fromisoformat(day): [_NOTES[name] for name, content in now.items() if stored.get(name) != content]
        for day, stored in workspace.partitions(asset).notes(days).items()
    }
    return {day: " or ".join(keys) for day, keys in sorted(changed.items()) if keys}
