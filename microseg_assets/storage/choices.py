"""What each model family chose in a week: the rows of `model_choices`, and the models they name.

Does not belong here: how a choice is made (see `ml.choice`) and how it is recorded (see `orchestration.training`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from microseg_assets.families import FAMILIES, SEGMENT_DEFINING_FAMILIES
from microseg_assets.workspace import Workspace
from ml import tables
from ml.layers import SegmentSpec
from ml.restate import Models


@dataclass(frozen=True)
class Choice:
    """A family's choice in force.

    Parameters
    ----------
    model : the model, of the family's class; None if the baseline is in force
    label : name and version of the registered model, or ``baseline``
    version : version of the registered model; None if the baseline is in force
    reason : the reason, in a sentence
    """

    model: Any
    label: str
    version: int | None
    reason: str


def load_choice(workspace: Workspace, family: str, week: date | None) -> Choice:
    """What a family chose in `week`; the baseline if `week` is None."""
    if week is None:
        return Choice(None, "baseline", None, "no training week has ended before this day")
    row = workspace.lake.read(tables.MODEL_CHOICES, week, family=family).to_pylist()[0]
    if row["version"] is None:
        return Choice(None, "baseline", None, row["reason"])
    model = workspace.tracking.load(row["model_name"], row["version"])
    return Choice(model, f"{row['model_name']}/{row['version']}", row["version"], row["reason"])


def load_previous_choice(workspace: Workspace, family: str, week: date) -> Choice:
    """What a family chose the week before; the baseline if no choice of that week exists."""
    before = workspace.calendar.previous_week(week)
    is_there = before is not None and not workspace.lake.missing(tables.MODEL_CHOICES, [before], family=family)
    return load_choice(workspace, family, before if is_there else None)


def read_choice_rows(workspace: Workspace, week: date | None) -> list[dict[str, Any]]:
    """The rows of `model_choices` of a week that exist."""
    if week is None:
        return []
    rows = []
    for family in FAMILIES:
        if not workspace.lake.missing(tables.MODEL_CHOICES, [week], family=family):
            rows += workspace.lake.read(tables.MODEL_CHOICES, week, family=family).to_pylist()
    return [{**row, "week": week} for row in rows]


def load_models(workspace: Workspace, week: date | None, *, without: Sequence[str] = ()) -> Models:
    """The value, lifecycle and layer models chosen in a week, for restating days under them."""
    chosen: dict[str, Any] = {
        family: None if family in without else load_choice(workspace, family, week).model
        for family in SEGMENT_DEFINING_FAMILIES
    }
    specs = replace(workspace.project.specs, segments=_segment_spec(workspace, chosen["layers"]))
    return Models(**chosen, specs=specs)


def segments_in_force(workspace: Workspace, week: date | None) -> SegmentSpec:
    """The layers of the model in force; changes to the project file count from the next training week on."""
    return _segment_spec(workspace, load_choice(workspace, "layers", week).model)


def _segment_spec(workspace: Workspace, model: Any) -> SegmentSpec:
    spec = workspace.project.segments
    return spec if model is None else replace(spec, layers=model.layers)


def same_models(workspace: Workspace, left: date | None, right: date | None) -> bool:
    """Whether two weeks chose the same versions of the models that define micro-segments."""
    return left == right or all(
        load_choice(workspace, family, left).label == load_choice(workspace, family, right).label
        for family in SEGMENT_DEFINING_FAMILIES
    )
