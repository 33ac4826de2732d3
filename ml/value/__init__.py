"""Value: what each known customer is expected to bring over a horizon.

Belongs here: the answer when there is no model (`baseline`), the boosted model, its weekly fit and its figures. Every
method of later days answers the same four columns, so nothing outside of this package knows which one is in force.
Does not belong here: features (see `ml.features`), and who decides on MLflow's side (see `microseg_assets.tracking`).
"""

from __future__ import annotations

from ml.value.model import ValueModel, apply
from ml.value.spec import ValueSpec, baseline
from ml.value.training import train

__all__ = ["ValueModel", "ValueSpec", "apply", "baseline", "train"]
