"""Value: what each known customer is expected to spend over a horizon.

Belongs here: the value without a model (`baseline`), BG/NBD and Gamma-Gamma in closed form, trees, their blend, the
weekly fit, its figures, and how good it was (`evaluation`, `calibration_drift`). Every method has the same four
outputs, so nothing outside of this package knows which one is in force. Does not belong here: features (see
`ml.features`), and the registry (see `microseg_assets.tracking`).
"""

from __future__ import annotations

from ml.value.basis import Basis, Outlook
from ml.value.bgnbd import BetaGeoModel
from ml.value.breakdown import Caveat, find_caveats
from ml.value.drift import CalibrationDrift, calibration_drift
from ml.value.gamma_gamma import GammaGammaModel
from ml.value.model import ValueModel, apply, inputs_of
from ml.value.spec import ValueSpec, baseline
from ml.value.training import train

__all__ = [
    "Basis", "BetaGeoModel", "CalibrationDrift", "Caveat", "GammaGammaModel", "Outlook", "ValueModel", "ValueSpec",
    "apply", "baseline", "calibration_drift", "find_caveats", "inputs_of", "train",
]  # fmt: skip
