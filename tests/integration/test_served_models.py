"""Registered models predict for rows of the lake, and contain no customer's data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.integration.shop import FRIDAY, Shop

FAMILIES = ("value", "lifecycle", "layers", "transitions", "action-response")
FURTHER_INPUTS = {"layers": ("customer_value", "lifecycle_stages"), "transitions": ("micro_segments",)}


def read(shop: Shop, family: str, **options: Any) -> pd.DataFrame:
    """The lake's features of a day as pandas reads them, with the other tables that a family uses."""
    folder = shop.folder / "lake" / shop.name
    rows = pd.read_parquet(folder / "customer_features" / f"day={FRIDAY}" / "part-0.parquet", **options)
    for table in FURTHER_INPUTS.get(family, ()):
        more = pd.read_parquet(folder / table / f"day={FRIDAY}" / "part-0.parquet", **options)
        more = more[more["is_primary"]] if "is_primary" in more else more
        rows = rows.merge(more, on="customer_id", validate="one_to_one")
    return rows


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rows_of_the_lake_are_served_without_any_conversion(friday: Shop, family: str) -> None:
    import mlflow

    with friday.environment():
        mlflow.set_registry_uri(friday.home.mlflow_uri)
        mlflow.set_tracking_uri(friday.home.mlflow_uri)
        served = mlflow.pyfunc.load_model(f"models:/{friday.name}.{family}/1")
        rows = read(friday, family)
        answer = served.predict(rows)
        for backend in ("numpy_nullable", "pyarrow"):
            pd.testing.assert_frame_equal(served.predict(read(friday, family, dtype_backend=backend)), answer)
        asked = served.metadata.signature.inputs.input_names()
        shown = served.predict(served.input_example)
    assert len(answer) == len(rows) > 300 and answer.notna().all(axis=None)
    assert not {"customer_id", "day"} & {*asked, *served.input_example.columns}
    assert len(shown) == 5 and shown.notna().all(axis=None)


def test_nothing_that_mlflow_stores_names_a_customer(friday: Shop) -> None:
    kept = [path for path in (friday.folder / "mlartifacts").rglob("*") if path.is_file()]
    kept.append(friday.folder / "mlflow.db")
    known = {row["customer_id"].encode() for row in friday.delivered("customers")}
    assert len(kept) > 50 and len(known) > 300
    assert [path for path in kept if named(path, known)] == []


def named(path: Path, known: set[bytes]) -> set[bytes]:
    return known & set(re.findall(rb"C\d{6}", path.read_bytes()))
