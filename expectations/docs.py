"""Data Docs: the page that shows what was expected of a day's rows and what came.

Belongs here: rendering a day's result with Great Expectations' own renderers. Does not belong here: deciding anything.
"""

from __future__ import annotations

import importlib
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from expectations import suites
from expectations.rules import ValidationSpec
from expectations.validation import judge_rows
from ml.tables import Table

if TYPE_CHECKING:
    from ml.engine import Engine


def data_docs(engine: Engine, table: Table, rows: pa.Table, day: date, spec: ValidationSpec) -> str:
    """The page of one table and day, as HTML.

    Parameters
    ----------
    rows : as a source gives them; those of other days are left out
    """
    of_day = rows.filter(pc.equal(rows["day"], pa.scalar(day, pa.date32())))
    result = suites.run(suites.suite(table, spec), judge_rows(engine, table, of_day, spec), examples=True)
    meta: dict[str, Any] = result.meta  # type: ignore[assignment]
    meta["run_id"] = {"run_name": f"{table.name}, {day.isoformat()}", "run_time": f"{day.isoformat()}T00:00:00+00:00"}
    renderer: Any = importlib.import_module("great_expectations.render.renderer")
    view: Any = importlib.import_module("great_expectations.render.view")
    return str(view.DefaultJinjaPageView().render(renderer.ValidationResultsPageRenderer().render(result)))
