"""The fitted clusters of every stage and layer together.

Belongs here: the model of the family, storing it, its lineage, and serving it. Does not belong here: one stage's layer
(see `layer_model`), assigning customers (see `assignment`), fitting (see `fitting`), and whether a refit replaces what
is in force (see `training`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from ml import tables
from ml.layers.assignment import primary_strings
from ml.layers.identity import Event
from ml.layers.inputs import with_derived
from ml.layers.layer_model import LayerModel, layer_spec
from ml.layers.names import Names
from ml.layers.reasons import as_columns, words
from ml.layers.specs import LayerSpec
from ml.layers.unknown import has_unknown_cluster

if TYPE_CHECKING:
    import pandas as pd

MAX_DIFFERENCES = 3  # differences of a cluster in a row of its lineage


@dataclass(frozen=True)
class LayerModels:
    """The layers of every stage, fitted on one day. A stage without a fit has one cluster, A, in each of its layers.

    Parameters
    ----------
    layers : tuple of LayerSpec
        The project's layers, in the order of the string.
    models : tuple of LayerModel
        One per stage and layer that applies.
    fitted_on : date
        Day of the newest fit among them.
    off : tuple of str
        Layers for which this project has no data: they are left out of every string.
    letters_before : tuple of tuple
        Stage, layer and letters of what is no longer cut: its letters stay used.

    Examples
    --------
    >>> import pandas as pd
    >>> from ml.layers import LayerRule
    >>> value = LayerSpec("value", method="rules", rules=(LayerRule("big", "spend_90d >= 100"),))
    >>> fitted = LayerModel("active", value, rules=value.rules, letters=("A", "B"), names=("big", "others"))
    >>> models = LayerModels((value,), (fitted,), date(2024, 3, 1))
    >>> print(models.predict(pd.DataFrame({"stage": ["active", "active", "new"], "spend_90d": [250.0, 10.0, 5.0]})))
        stage   micro_segment micro_segment_id            name
    0  active  active/value.A       a5b7cacbc8     Active: big
    1  active  active/value.B       6653da3dd5  Active: others
    2     new     new/value.A       a1d5892e21    New: value.A
    """

    layers: tuple[LayerSpec, ...]
    models: tuple[LayerModel, ...]
    fitted_on: date
    off: tuple[str, ...] = ()
    letters_before: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    @property
    def live(self) -> tuple[LayerSpec, ...]:
        """The layers that strings contain."""
        return tuple(layer for layer in self.layers if layer.name not in self.off)

    def of(self, stage: str, layer: LayerSpec) -> LayerModel:
        """The layer as it was fitted in the stage; a single cluster where it was not.

        Parameters
        ----------
        stage : str
            Name of the stage.
        layer : LayerSpec
            Settings of the layer.

        Returns
        -------
        LayerModel
            The fitted layer, or one with a single cluster.
        """
        return self.find(stage, layer.name) or LayerModel(stage, layer)

    def find(self, stage: str, layer: str) -> LayerModel | None:
        """The layer as it was fitted in the stage, if it was.

        Parameters
        ----------
        stage, layer : str
            Names.

        Returns
        -------
        LayerModel or None
            The fitted layer.
        """
        return next((model for model in self.models if (model.stage, model.layer.name) == (stage, layer)), None)

    def letters_used(self, stage: str, layer: str) -> tuple[str, ...]:
        """Every letter ever given to a cluster of the layer in the stage.

        Parameters
        ----------
        stage, layer : str
            Names.

        Returns
        -------
        tuple of str
            Letters, in the order in which they were given.
        """
        model = self.find(stage, layer)
        if model is not None:
            return model.letters_used
        return next((used for s, name, used in self.letters_before if (s, name) == (stage, layer)), ())

    def save(self, folder: Path) -> None:
        """Store the model as ``layers.json``.

        Parameters
        ----------
        folder : Path
            An existing folder.
        """
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
        """Load a model that this version or an earlier one stored.

        Parameters
        ----------
        folder : Path
            Folder that `save` wrote to.

        Returns
        -------
        LayerModels
            The same model.
        """
        stored = json.loads((folder / "layers.json").read_text(encoding="utf-8"))
        return cls(
            layers=tuple(layer_spec(layer) for layer in stored["layers"]),
            models=tuple(LayerModel.from_json(model) for model in stored["models"]),
            fitted_on=date.fromisoformat(stored["fitted_on"]),
            off=tuple(stored["off"]),
            letters_before=tuple((stage, layer, tuple(used)) for stage, layer, used in stored["letters_before"]),
        )

    def names(self) -> Names:
        """The name of every micro-segment and prefix, by its string.

        Returns
        -------
        Names
            A mapping from strings to names.
        """
        return Names(
            {
                (model.stage, f"{model.layer.name}.{letter}"): "" if len(model.letters) == 1 else name
                for model in self.models
                for letter, name in zip(model.letters, model.names, strict=True)
            }
        )

    def reasons(self) -> dict[str, str]:
        """Why each stage's layer has the clusters it has.

        Returns
        -------
        dict of str to str
            Stage and layer to a sentence.
        """
        return {f"{model.stage}/{model.layer.name}": f"{model.kind}: {words(model.reason)}" for model in self.models}

    def lineage(self, *, is_new: bool = True) -> pa.Table:
        """What became of each cluster in this fit, as the columns of `cluster_lineage`.

        Parameters
        ----------
        is_new : bool
            False if the model was in force before: all of its clusters are continued unchanged.

        Returns
        -------
        pyarrow.Table
            One row per cluster, also of those that are gone.
        """
        rows = []
        for model in self.models:
            events = model.events if is_new else continued(model).events
            rows += [_layer_columns(model) | asdict(event) | _cluster_columns(model, event.letter) for event in events]
        return pa.Table.from_pylist(rows, schema=tables.CLUSTER_LINEAGE.schema())

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """Primary micro-segment of each row, from this row alone: without earlier weeks, nothing is damped.

        Parameters
        ----------
        features : pandas.DataFrame
            The snapshot's columns, ``stage`` and `customer_value`'s columns; those that no layer uses may be absent.

        Returns
        -------
        pandas.DataFrame
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
        strings = primary_strings(table, self, self.layers)
        names = self.names()
        result = {"customer_id": features["customer_id"].to_numpy()} if "customer_id" in features.columns else {}
        return pd.DataFrame(
            result
            | {
                "stage": stages.to_pylist(),
                "micro_segment": strings["micro_segment"].to_pylist(),
                "micro_segment_id": strings["micro_segment_id"].to_pylist(),
                "name": [names[text] for text in strings["micro_segment"].to_pylist()],
            },
            index=features.index,
        )


def continued(model: LayerModel) -> LayerModel:
    """A fitted layer that stays in force: all of its clusters are continued."""
    sizes = dict(zip(model.letters, model.sizes, strict=False))
    events = tuple(
        Event("continued", letter, "", sizes.get(letter, 0), sizes.get(letter, 0), 1.0, 1.0) for letter in model.letters
    )
    return replace(model, events=events, drift=None)


def _layer_columns(model: LayerModel) -> dict[str, object]:
    """Columns of `cluster_lineage` about a stage's layer: why it has its clusters, and how strong the evidence is."""
    k = len(model.letters) - has_unknown_cluster(model)  # the curve is of the customers whose features are known
    point = next((point for point in model.curve if point.k == k), None)
    gains = [] if point is None else [gain for gain in (point.gain_spend, point.gain_stage) if gain is not None]
    return {
        "stage": model.stage,
        "layer": model.layer.name,
        "kind": model.kind,
        **as_columns(model.reason),
        "stability": point.stability if point is not None and model.kind == "natural" else None,
        "gain": max(gains, default=None) if model.kind == "cut" else None,
    }


def _cluster_columns(model: LayerModel, letter: str) -> dict[str, object]:
    """Columns of `cluster_lineage` about a cluster; empty for one that is gone."""
    if letter not in model.letters:
        return {"cluster": letter, "cluster_name": None, "since": None, "differences": ""}
    number = model.letters.index(letter)
    since = model.since[number] if number < len(model.since) else ""
    evidence = model.evidence[number] if number < len(model.evidence) else ()
    return {
        "cluster": letter,
        "cluster_name": model.names[number],
        "since": date.fromisoformat(since) if since else None,
        "differences": "; ".join(map(str, evidence[:MAX_DIFFERENCES])),
    }
