"""What `microseg check` says of the types of events: the role of each, and whether it was guessed.

Belongs here: the lines about roles. Does not belong here: how a role is guessed (see `ml.features.event_roles`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.project import Project
from ml.features import ROLES

SHOWN_TYPES = 12  # of each role, the commonest first
_LABELS = {role: role.replace("_", " ") for role in ROLES}


def role_lines(project: Project, events: pa.Table) -> Iterator[tuple[str, str]]:
    """Each role that occurs with the types of its events, the commonest first; guessed ones are marked.

    Parameters
    ----------
    events : rows of events, a sample

    Yields
    ------
    tuple of str
        The role, or ``no role``, and the types.
    """
    counted = events.group_by("event_type").aggregate([([], "count_all")])
    counts = [
        row["event_type"]
        for row in counted.sort_by([("count_all", "descending"), ("event_type", "ascending")]).to_pylist()
        if row["event_type"] is not None
    ]
    roles = project.event_roles
    marked = {name: name if name in roles.declared else f"{name}*" for name in counts}
    types = {_LABELS[role]: [marked[name] for name in counts if role in roles.of(name)] for role in ROLES}
    types["no role"] = [marked[name] for name in counts if not roles.of(name)]
    for label, names in types.items():
        if names:
            yield label, _listed(names)


def is_guessed(project: Project, events: pa.Table) -> bool:
    """Whether the role of any type of a sample is guessed."""
    return any(name not in project.event_roles.declared for name in _types(events))


def absent_types(project: Project, events: pa.Table) -> Iterator[str]:
    """The listed types that a sample does not contain, a sentence each, with file, line and remedy."""
    occurring = _types(events)
    for name, hint in project.event_roles.absent(occurring).items():
        role = project.event_roles.declared[name]
        rows = f"{events.num_rows:,} newest events" if events.num_rows != 1 else "newest event"
        yield project.located(
            f"event_roles.{role}", f"no event of the {rows} is of type {name!r}; {hint if occurring else 'remove it'}"
        )


def _types(events: pa.Table) -> list[str]:
    return [name for name in pc.unique(events["event_type"]).to_pylist() if name is not None]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_TYPES:,} more" if len(names) > SHOWN_TYPES else ""
    return ", ".join(names[:SHOWN_TYPES]) + more
