"""The action response model: the effect of every action, overall, per micro-segment and per customer.

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
    """The evidence about one action.

    Parameters
    ----------
    design : {"randomised", "observational"}
        How treated customers were chosen.
    placebo : {"passed", "failed", "cannot tell", "not needed"}
        Verdict on the time before the exposure.
    effect, standard_error : float
        Overall effect per exposure and its standard error, in currency.
    placebo_effect, placebo_standard_error : float, optional
        The same for the time before the exposure; None if not needed or impossible.
    band : float
        Smallest effect of interest, in currency.
    auc : float, optional
        How well features distinguish treated from control; None where the propensity was known.
    overlap : float
        Share of the exposures inside the overlap.
    imbalance_before, imbalance_after : float
        Largest standardised mean difference, as delivered and weighted.
    findings : tuple of Finding
        What the audit of the arms found: objections to acting upon the effects, and caveats.
    """

    design: str
    placebo: Placebo
    effect: float
    standard_error: float
    placebo_effect: float | None
    placebo_standard_error: float | None
    band: float
    auc: float | None
    overlap: float
    imbalance_before: float
    imbalance_after: float
    findings: tuple[Finding, ...] = ()

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """The findings because of which the effects must not be acted upon."""
        return tuple(finding for finding in self.findings or () if finding.blocks)

    def supported(self, overall: Cell, spec: ActionPolicy) -> bool:
        """Whether the action's effects may be acted upon."""
        has_design = self.design == "randomised" or self.placebo == "passed"
        return overall.meets(spec) and has_design and not self.blocking

    def finding(self, overall: Cell, spec: ActionPolicy) -> Finding | None:
        """The first objection to acting upon the effects; without any, the first caveat, if there is one."""
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
    actions : mapping of str to ActionEvidence
        The evidence about each action.
    cells : mapping of str to mapping of str to Cell
        Per action, the estimate of each micro-segment and prefix.
    customer_effects : mapping of str to CustomerEffect
        Per action, the customer-level effect.
    columns : tuple of str
        Columns of the snapshot that the customer-level effect reads.
    newest : date
        Day of the newest exposure in the fit.
    exposures : int
        Treated exposures in the fit.
    levels : mapping of str to tuple of str
        Values of each string column, in the order of their codes.
    unmeasured : mapping of str to Finding
        Why an action that was delivered has no effect.

    Examples
    --------
    >>> from datetime import date
    >>> import pandas as pd
    >>> evidence = ActionEvidence("randomised", "not needed", 4.0, 1.0, None, None, 0.5, None, 1.0, 0.02, 0.02)
    >>> constant = CustomerEffect(overall=4.0, centre=4.0, slope=0.0, booster="")
    >>> model = ActionResponseModel(
    ...     {"mail": evidence}, {"mail": {}}, {"mail": constant}, ("spend",), date(2024, 1, 1), exposures=90
    ... )
    >>> model.predict(pd.DataFrame({"spend": [10.0, 250.0]}))["mail"].tolist()
    [4.0, 4.0]
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
        """Predict the effect of each action on each customer.

        Parameters
        ----------
        features : pd.DataFrame of shape (n_customers, n_features)
            At least the columns `columns` of a snapshot.

        Returns
        -------
        pd.DataFrame of shape (n_customers, n_actions)
            Expected effect in currency, one column per action.

        Raises
        ------
        ValueError
            If a column is missing.
        """
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
        """Write the model as `model.json`: strict JSON, in which NaN is null.

        Parameters
        ----------
        folder : Path
            An existing folder.
        """
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
        """Read a model that `save` wrote, in this version or an earlier one.

        Parameters
        ----------
        folder : Path
            The folder with `model.json`.

        Returns
        -------
        ActionResponseModel
            The stored model.
        """
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


# Names of fields in models of earlier versions.
_RENAMED = {
    "error": "standard_error", "placebo_error": "placebo_standard_error", "own": "shrinkage_weight"
}  # fmt: skip


def _stored(item: DataclassInstance) -> dict[str, Any]:
    """The fields of a dataclass for JSON, which has no NaN."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in asdict(item).items()}


def _restored(kind: type[Stored], stored: Mapping[str, Any]) -> Stored:
    """The stored dataclass; null is NaN again in a field that must be a number."""
    floats = {field.name for field in fields(kind) if field.type == "float"}
    values = {_RENAMED.get(name, name): value for name, value in stored.items()}
    return kind(**{name: math.nan if v is None and name in floats else v for name, v in values.items()})
