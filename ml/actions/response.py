"""The action response model: what every action does, overall, per micro-segment and per customer.

Belongs here: what a fitted model is, how it is stored and what it predicts. Does not belong here: how it is fitted (see
`ml.actions.training`) and what a verdict means (see `ml.actions.diagnostics`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ml.actions.cells import Cell
from ml.actions.diagnostics import Placebo
from ml.actions.learners import CustomerEffect, encoded
from ml.actions.reasons import Finding
from ml.actions.spec import ActionPolicy

if TYPE_CHECKING:
    import pandas as pd
    from _typeshed import DataclassInstance

    Stored = TypeVar("Stored", bound=DataclassInstance)


@dataclass(frozen=True)
class ActionEvidence:
    """What stands behind one action.

    Parameters
    ----------
    design : randomised or observational
    placebo : verdict on the time before the exposure
    effect, error : overall effect per exposure and its standard error, in currency
    placebo_effect, placebo_error : the same for the time before; None if not needed or impossible
    band : smallest effect of interest, in currency
    auc : how well features tell treated from control; None where the chance was known
    overlap : share of the exposures inside the overlap
    imbalance_before, imbalance_after : largest standardised mean difference, as delivered and weighted
    findings : what was found out about the arms: what forbids to act upon the effects, or must be known beside them
    """

    design: str
    placebo: Placebo
    effect: float
    error: float
    placebo_effect: float | None
    placebo_error: float | None
    band: float
    auc: float | None
    overlap: float
    imbalance_before: float
    imbalance_after: float
    findings: tuple[Finding, ...] = ()

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """The findings that forbid to act upon the effects."""
        return tuple(finding for finding in self.findings or () if finding.blocks)

    def supported(self, overall: Cell, spec: ActionPolicy) -> bool:
        """Whether the action's effects may be acted upon."""
        has_design = self.design == "randomised" or self.placebo == "passed"
        return overall.meets(spec) and has_design and not self.blocking

    def finding(self, overall: Cell, spec: ActionPolicy) -> Finding | None:
        """Why the effects must not be acted upon; where they may be, what must be known beside them, if anything."""
        if self.blocking:
            return self.blocking[0]
        if lacking := overall.lacks(spec):
            return lacking
        if self.design != "randomised" and self.placebo != "passed":
            return Finding("placebo_failed" if self.placebo == "failed" else "placebo_unclear")
        return self.findings[0] if self.findings else None


@dataclass(frozen=True)
class ActionResponseModel:
    """Effects of every action: overall, per micro-segment and prefix, and per customer.

    Parameters
    ----------
    actions : what stands behind each action
    cells : per action, the estimate of each micro-segment and prefix
    customer_effects : per action, the customer-level effect
    columns : columns of the snapshot that the customer-level effect reads
    newest : day of the newest exposure that went in
    exposures : treated exposures that went in
    levels : values of each string column, in the order of the numbers that stand for them
    unmeasured : why an action that was delivered has no effect
    """

    actions: Mapping[str, ActionEvidence]
    cells: Mapping[str, Mapping[str, Cell]]
    customer_effects: Mapping[str, CustomerEffect]
    columns: tuple[str, ...]
    newest: date
    exposures: int
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unmeasured: Mapping[str, Finding] = field(default_factory=dict)

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """The expected effect of each action on each customer, in currency, from the columns of a snapshot."""
        import pandas as pd

        missing = [name for name in self.columns if name not in features.columns]
        if missing:
            raise ValueError(f"features lack {', '.join(missing)}")
        values = encoded(features, self.columns, self.levels)
        return pd.DataFrame(
            {action: self.customer_effects[action].predict(values) for action in sorted(self.actions)},
            index=features.index,
        )

    def save(self, folder: Path) -> None:
        """Write `model.json` into an existing folder: strict JSON, in which a number that is none is null."""
        content = {
            "actions": {name: _stored(evidence) for name, evidence in self.actions.items()},
            "cells": {name: [_stored(cell) for cell in tree.values()] for name, tree in self.cells.items()},
            "customer_effects": {name: _stored(effect) for name, effect in self.customer_effects.items()},
            "columns": self.columns,
            "newest": self.newest.isoformat(),
            "exposures": self.exposures,
            "levels": {name: list(values) for name, values in self.levels.items()},
            "unmeasured": {name: finding.stored() for name, finding in self.unmeasured.items()},
        }
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        (folder / "model.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        return cls(
            actions={name: _evidence(values) for name, values in content["actions"].items()},
            cells={
                name: {cell["micro_segment"]: _restored(Cell, cell) for cell in tree}
                for name, tree in content["cells"].items()
            },
            customer_effects={name: _restored(CustomerEffect, v) for name, v in content["customer_effects"].items()},
            columns=tuple(content["columns"]),
            newest=date.fromisoformat(content["newest"]),
            exposures=content["exposures"],
            levels={name: tuple(values) for name, values in content.get("levels", {}).items()},
            unmeasured={name: Finding(**stored) for name, stored in content.get("unmeasured", {}).items()},
        )


def _evidence(stored: Mapping[str, Any]) -> ActionEvidence:
    findings = tuple(Finding(**finding) for finding in stored.get("findings", ()))
    return _restored(ActionEvidence, {**stored, "findings": findings})


def _stored(item: DataclassInstance) -> dict[str, Any]:
    """The fields of a dataclass for JSON, which knows no NaN."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in asdict(item).items()}


def _restored(kind: type[Stored], stored: Mapping[str, Any]) -> Stored:
    """The dataclass that was stored; null is NaN again in a field that must be a number."""
    floats = {field.name for field in fields(kind) if field.type == "float"}
    return kind(**{name: math.nan if v is None and name in floats else v for name, v in stored.items()})
