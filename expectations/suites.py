"""Suites: when a whole day is refused. Great Expectations decides, on the day's rows as delivered and on its measures.

Belongs here: the suites of each table, derived from its columns, row rules and thresholds, and running them on a batch.
Does not belong here: judging single rows (see `expectations.rules`), measuring days (`expectations.measures`).

A suite has two kinds of expectations. *Critical* ones decide: the columns are present, the share of refused rows is
within its limit, there are enough rows. *Warnings* show for each column why rows were refused; an optional column that
two rows in a thousand fill cannot fail a day.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from expectations.rules import ValidationSpec, row_rules, unique_key
from ml.tables import Table

if TYPE_CHECKING:
    import great_expectations as gx
    import pandas as pd
    from great_expectations.core import ExpectationSuiteValidationResult

    from expectations.measures import Limit

REFUSED_BY = "refused_by"
REFUSED = f"{REFUSED_BY}: expect_column_values_to_be_null"
_ROW_COUNT = "expect_table_row_count_to_be_between"


def suite(
    table: Table, spec: ValidationSpec, *, mostly: float | None = None, only: Collection[str] | None = None
) -> gx.ExpectationSuite:
    """The suite of an input table's delivered rows, which have `day` and `refused_by` in addition to its own columns.

    Parameters
    ----------
    mostly : share of rows that must conform; ``1 - spec.max_refused_share`` if None (see `ValidationSpec.mostly`)
    only : names (see `label`) of the expectations to keep; all, if None
    """
    gx = _gx()
    gxe: Any = importlib.import_module("great_expectations.expectations")
    share = round(1 - spec.max_refused_share, 12) if mostly is None else mostly
    expectations: list[Any] = [
        gxe.ExpectTableColumnsToMatchSet(column_set=[*table.names, "day", REFUSED_BY], severity="critical"),
        gxe.ExpectColumnValuesToBeNull(column=REFUSED_BY, mostly=share, severity="critical"),
    ]
    if min_rows := spec.min_rows.get(table.name, 0):
        expectations.append(gxe.ExpectTableRowCountToBeBetween(min_value=min_rows, severity="critical"))
    for rule in row_rules(table, spec):
        if rule.required:
            expectations.append(gxe.ExpectColumnValuesToNotBeNull(column=rule.column, mostly=share, severity="warning"))
        elif rule.lower is not None or rule.upper is not None:
            expectations.append(
                gxe.ExpectColumnValuesToBeBetween(
                    column=rule.column, min_value=rule.lower, max_value=rule.upper, mostly=share, severity="warning"
                )
            )
    if key := unique_key(table):
        expectations.append(
            gxe.ExpectCompoundColumnsToBeUnique(
                column_list=["day", *key], ignore_row_if="any_value_is_missing", mostly=share, severity="warning"
            )
        )
    kept = [one for one in expectations if only is None or label(one) in only]
    return gx.ExpectationSuite(name=f"{table.name} as delivered", expectations=kept)


def day_suite(table: Table, limits: Collection[Limit]) -> gx.ExpectationSuite:
    """The suite of a table's day measures: one row a day, one column a measure; missing values are not judged."""
    gxe: Any = importlib.import_module("great_expectations.expectations")
    kept = [
        gxe.ExpectColumnValuesToBeBetween(
            column=one.measure, min_value=one.lower, max_value=one.upper,
            severity="critical" if one.severity == "error" else "warning",
        )
        for one in limits
    ]  # fmt: skip
    return _gx().ExpectationSuite(name=f"days of {table.name}", expectations=kept)


def labels(suite_: gx.ExpectationSuite) -> dict[str, bool]:
    """The names of a suite's expectations, in order, and whether each is critical."""
    return {label(one): is_critical(one) for one in suite_.expectations}


def run(
    suite_: gx.ExpectationSuite, batch: pd.DataFrame, *, examples: bool = False, positions: bool = False
) -> ExpectationSuiteValidationResult:
    """Run a suite on a frame.

    Parameters
    ----------
    examples : whether to return some values that do not conform; takes seconds on many rows
    positions : whether to return the positions of all rows that do not conform; for small frames

    Raises
    ------
    RuntimeError
        If an expectation could not be computed: a fault of the suite, not a verdict on the data.
    """
    if all(_names(one) for one in suite_.expectations):
        batch = batch[columns(suite_)]  # Great Expectations hashes every column of a frame
    result = _batch_definition().get_batch({"dataframe": batch}).validate(
        suite_, result_format="COMPLETE" if positions else "SUMMARY" if examples else "BASIC"
    )  # fmt: skip
    for one in result.results:
        if one.exception_info and one.exception_info.get("raised_exception"):
            raise RuntimeError(f"{label(one)} could not be computed: {one.exception_info.get('exception_message')}")
    return result


def label(expectation: Any) -> str:
    """A short name of an expectation, or of the result of one: ``amount: expect_column_values_to_be_between``."""
    return f"{subject(expectation)}: {kind(expectation)}"


def subject(expectation: Any) -> str:
    """What an expectation is about: a column, several of them, or the table."""
    kwargs: Mapping[str, Any] = _configuration(expectation).kwargs
    return kwargs.get("column") or ", ".join(kwargs.get("column_list", ())) or "table"


def kind(expectation: Any) -> str:
    """Great Expectations' name of the type of an expectation."""
    return str(_configuration(expectation).type)


def counts_rows(expectation: Any) -> bool:
    """Whether it bounds the number of rows, which must be checked for each day, never for several together."""
    return kind(expectation) == _ROW_COUNT


def is_critical(expectation: Any) -> bool:
    severity = _configuration(expectation).severity
    return str(getattr(severity, "value", severity)) == "critical"


def columns(suite_: gx.ExpectationSuite) -> list[str]:
    """The columns whose values a suite uses."""
    return list(dict.fromkeys(name for one in suite_.expectations for name in _names(one)))


def _names(expectation: Any) -> list[str]:
    """The columns of an expectation; none if it applies to the table."""
    kwargs = expectation.configuration.kwargs
    return [kwargs["column"]] if "column" in kwargs else list(kwargs.get("column_list", ()))


def _configuration(expectation: Any) -> Any:
    return getattr(expectation, "expectation_config", None) or expectation.configuration


@cache
def _gx() -> Any:
    """Great Expectations without telemetry; importing it takes seconds, so it is imported when first needed."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    return great_expectations


@cache
def _batch_definition() -> Any:
    """The batch of an ephemeral context, for whatever frame a run passes in."""
    gx = _gx()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("delivered").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("all")
