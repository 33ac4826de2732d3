"""Layers: the fitted clusters of every stage and layer together.

Belongs here: the model of the family, storing it, what it says of itself, and serving it. Does not belong here: one
stage's layer (see `layer_model`), placing customers (see `assignment`), fitting (see `fitting`), and whether a refit
replaces what is in force (see `training`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from ml import tables
from ml.segments.assignment import primary_strings
from ml.segments.identity import Event
from ml.segments.inputs import with_derived
from ml.segments.layer_model import LayerModel, layer_spec
from ml.segments.names import Difference, Names
from ml.segments.reasons import as_columns, words
from ml.segments.specs import LayerSpec
from ml.segments.structure import Point
from ml.segments.unknown import has_unknown

if TYPE_CHECKING:
    import pandas as pd

MOST_SAID = 3  # differences of a cluster that a row of its lineage tells


@dataclass(frozen=True)
class LayerModels:
    """The layers of every stage, fitted on one day. A stage without a fit has one cluster, A, in each of its layers.

    Parameters
    ----------
    layers : the project's, in the order of the string
    models : one per stage and layer that applies
    fitted_on : the newest fit among them
    off : layers for which this project has no data: they do not stand in any string
    letters_before : (stage, layer, letters) of what is no longer cut: its letters stay used
    """

    layers: tuple[LayerSpec, ...]
    models: tuple[LayerModel, ...]
    fitted_on: date
    off: tuple[str, ...] = ()
    letters_before: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    @property
    def live(self) -> tuple[LayerSpec, ...]:
        """The layers that stand in strings."""
        return tuple(layer for layer in self.layers if layer.name not in self.off)

    def of(self, stage: str, layer: LayerSpec) -> LayerModel:
        """The layer as it was fitted in the stage; a single cluster where it was not."""
        return self.find(stage, layer.name) or LayerModel(stage, layer)

    def find(self, stage: str, layer: str) -> LayerModel | None:
        """The layer as it was fitted in the stage, if it was."""
        return next((model for model in self.models if (model.stage, model.layer.name) == (stage, layer)), None)

    def letters_used(self, stage: str, layer: str) -> tuple[str, ...]:
        """Every letter ever given to a cluster of the layer in the stage."""
        found = self.find(stage, layer)
        if found is not None:
            return found.letters_used
        return next((used for s, name, used in self.letters_before if (s, name) == (stage, layer)), ())

    def save(self, folder: Path) -> None:
        stored = {
            "fitted_on": self.fitted_on.isoformat(),
            "layers": [asdict(layer) for layer in self.layers],
            "off": self.off,
            "letters_before": self.letters_before,
            "models": [model.to_json() for model in self.models],
        }
        (folder / "layers.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        stored = json.loads((folder / "layers.json").read_text(encoding="utf-8"))
        return cls(
            layers=tuple(layer_spec(layer) for layer in stored["layers"]),
            models=tuple(LayerModel.from_json(model) for model in stored["models"]),
            fitted_on=date.fromisoformat(stored["fitted_on"]),
            off=tuple(stored["off"]),
            letters_before=tuple((stage, layer, tuple(used)) for stage, layer, used in stored["letters_before"]),
        )

    def names(self) -> Names:
        """The name of every micro-segment and prefix, by its string."""
        return Names(
            {
                (model.stage, f"{model.layer.name}.{given}"): "" if len(model.letters) == 1 else name
                for model in self.models
                for given, name in zip(model.letters, model.names, strict=True)
            }
        )

    def evidence(self) -> pd.DataFrame:
        """What sets each cluster apart: stage, layer, cluster, name, customers, feature, value, difference, means."""
        import pandas as pd

        rows = [
            {"stage": model.stage, "layer": model.layer.name, "cluster": given, "cluster_name": name, "customers": size}
            | asdict(one)
            for model in self.models
            for given, name, size, found in zip(model.letters, model.names, model.sizes, model.evidence, strict=False)
            for one in found
        ]
        names = ["stage", "layer", "cluster", "cluster_name", "customers", *Difference.__dataclass_fields__]
        return pd.DataFrame(rows, columns=names)

    def structure(self) -> pd.DataFrame:
        """Why each layer has its clusters: stage, layer, kind, reason, clusters, and the figures of each k tried."""
        import pandas as pd

        rows = [
            {
                "stage": model.stage,
                "layer": model.layer.name,
                "kind": model.kind,
                "reason": words(model.reason),
                "clusters": len(model.letters),
            }
            | asdict(point)
            for model in self.models
            for point in model.curve or (Point(len(model.letters)),)
        ]
        names = ["stage", "layer", "kind", "reason", "clusters", *Point.__dataclass_fields__]
        return pd.DataFrame(rows, columns=names)

    def reasons(self) -> dict[str, str]:
        """Stage and layer to why it has the clusters it has, in a sentence."""
        return {f"{one.stage}/{one.layer.name}": f"{one.kind}: {words(one.reason)}" for one in self.models}

    def lineage(self, *, is_new: bool = True) -> pa.Table:
        """What became of each cluster in the fit that this model is, as the columns of `cluster_lineage`.

        Parameters
        ----------
        is_new : False if the model was in force before: all of its clusters are continued as they are
        """
        rows = []
        for model in self.models:
            events = model.events if is_new else kept_as_it_is(model).events
            rows += [_about(model) | asdict(event) | _of_cluster(model, event.letter) for event in events]
        return pa.Table.from_pylist(rows, schema=tables.CLUSTER_LINEAGE.schema())

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """The primary micro-segment of each row, by this row alone: without the weeks before, nothing is damped.

        Parameters
        ----------
        features : the snapshot's columns, ``stage`` and `customer_value`'s columns; those that no layer uses may lack

        Returns
        -------
        With the index of `features`: customer_id (if given), stage, micro_segment, micro_segment_id, name.

        Raises
        ------
        ValueError
            If there is no column ``stage``.
        """
        import pandas as pd

        if "stage" not in features.columns:
            raise ValueError(
                "layers are cut inside a stage: add a column 'stage' to the frame, as the lifecycle model predicts it"
            )
        table = pa.Table.from_pandas(features.reset_index(drop=True), preserve_index=False)
        stages = pa.array(features["stage"].astype(str).tolist(), pa.string())
        table = with_derived(table.set_column(table.column_names.index("stage"), "stage", stages))
        found = primary_strings(table, self, self.layers)
        names = self.names()
        result = {"customer_id": features["customer_id"].to_numpy()} if "customer_id" in features.columns else {}
        return pd.DataFrame(
            result
            | {
                "stage": stages.to_pylist(),
                "micro_segment": found["micro_segment"].to_pylist(),
                "micro_segment_id": found["micro_segment_id"].to_pylist(),
                "name": [names[one] for one in found["micro_segment"].to_pylist()],
            },
            index=features.index,
        )


def kept_as_it_is(model: LayerModel) -> LayerModel:
    """A fitted layer that goes on: what became of its clusters is that they are continued."""
    sizes = dict(zip(model.letters, model.sizes, strict=False))
    events = tuple(
        Event("continued", given, "", sizes.get(given, 0), sizes.get(given, 0), 1.0, 1.0) for given in model.letters
    )
    return replace(model, events=events, drift=None)


def _about(model: LayerModel) -> dict[str, object]:
    """Why a stage's layer has its clusters, and how sure that is."""
    found = len(model.letters) - has_unknown(model)  # the unknown were set apart before clusters were looked for
    point = next((one for one in model.curve if one.k == found), None)
    gains = [] if point is None else [gain for gain in (point.gain_spend, point.gain_stage) if gain is not None]
    return {
        "stage": model.stage,
        "layer": model.layer.name,
        "kind": model.kind,
        **as_columns(model.reason),
        "stability": point.stability if point is not None and model.kind == "natural" else None,
        "gain": max(gains, default=None) if model.kind == "cut" else None,
    }


def _of_cluster(model: LayerModel, letter: str) -> dict[str, object]:
    """What a cluster is; nothing of one that is gone."""
    if letter not in model.letters:
        return {"cluster": letter, "cluster_name": None, "since": None, "differences": ""}
    place = model.letters.index(letter)
    since = model.since[place] if place < len(model.since) else ""
    evidence = model.evidence[place] if place < len(model.evidence) else ()
    return {
        "cluster": letter,
        "cluster_name": model.names[place],
        "since": date.fromisoformat(since) if since else None,
        "differences": "; ".join(map(str, evidence[:MOST_SAID])),
    }
