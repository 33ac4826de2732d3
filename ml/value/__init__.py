"""Value: what each known customer is expected to bring over a horizon.

Belongs here: the answer when there is no model (`baseline`), BG/NBD and Gamma-Gamma in closed form, trees, their
blend, the weekly fit, its figures, and how good it was (`evaluation`, `calibration_drift`). Every method answers the
same four columns, so nothing outside of this package knows which one is in force. Does not belong here: features (see
`ml.features`), and who decides on MLflow's side (see `microseg_assets.tracking`).
"""

from __future__ import annotations

from ml.value.basis import Basis, Outlook
from ml.value.bgnbd import BetaGeoModel
from ml.value.breakdown import Finding, findings
from ml.value.drift import CalibrationDrift, calibration_drift
from ml.value.gamma_gamma import GammaGammaModel
from ml.value.model import ValueModel, apply, inputs_of
from ml.value.spec import ValueSpec, baseline
from ml.value.training import train

__all__ = [
    "Basis", "BetaGeoModel", "CalibrationDrift", "Finding", "GammaGammaModel", "Outlook", "ValueModel", "ValueSpec",
    "apply", "baseline", "calibration_drift", "findings", "inputs_of", "train",
]  # fmt: skip
