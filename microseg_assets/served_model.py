"""The predictions of a registered model when it is served: MLflow runs this file; the chain does not import it.

The model is stored next to it as JSON, Parquet or LightGBM's text format, written by its class in `ml`; nothing is
pickled.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from ml.serving import as_inputs

INPUTS = "inputs.json"  # next to the model: its columns and their types (see `microseg_assets.tracking`)


class ServedModel(PythonModel):
    """Loads a model of `ml` from its folder and predicts from the snapshot's columns."""

    _skip_type_hint_validation = True  # the model has a signature; MLflow would warn about missing hints at each fit

    # No type hints on these two: MLflow would take them for the schema of the served data.
    def load_context(self, context):  # type: ignore[no-untyped-def]
        folder = Path(context.artifacts["model"])
        module, name = (folder / "class").read_text(encoding="utf-8").split(":")
        if not module.startswith("ml."):
            raise ValueError(f"{module} is not a module of ml")
        self.model = getattr(import_module(module), name).load(folder)
        inputs = folder / INPUTS
        self.inputs = json.loads(inputs.read_text(encoding="utf-8")) if inputs.exists() else {}

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        return self.model.predict(as_inputs(model_input, self.inputs))


set_model(ServedModel())
