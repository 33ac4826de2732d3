"""Ingest: the rows of a day as the business delivers them, mapped to the contract."""

from __future__ import annotations

from collections import Counter

import dagster as dg
import pyarrow as pa

from microseg_assets.chain import Chain, Step
from microseg_assets.sources import BEFORE_START, Source
from ml import tables

RAW_COLUMNS = (
    tables.Column("source", "string", "the file or query the row came from"),
    tables.Column("problem", "string", "the column whose value could not be converted, and why; missing if all could"),
    tables.Column("delivered", "string", "the row as it came, where there is a problem", "JSON"),
)

ALL_AT_ONCE = 400  # days of one scan: reading a source again for every month would cost more than the rows weigh


def raw_name(table: str) -> str:
    return f"raw_{table}"


def assets(chain: Chain) -> list[dg.AssetsDefinition]:
    return [_raw(chain, name) for name in tables.INPUTS]


def _raw(chain: Chain, table: str) -> dg.AssetsDefinition:
    source = chain.sources[table]
    delivered = chain.project.inputs[table].plus(RAW_COLUMNS).named(raw_name(table))

    def body(step: Step) -> None:
        if source is not None:
            undated = source.undated()
            step.quarantine(table, "undated", undated_as_refused(table, undated))
            _refuse_undated(step, source, table, undated)
        for days in step.batches(ALL_AT_ONCE):
            if source is None:
                step.write(delivered.empty_days(), days, switched_off=f"the project file maps no {table}")
            else:
                step.write(source.rows(days[0], days[-1]), days)

    body.__name__ = raw_name(table)
    body.__doc__ = f"Delivered rows of `{table}`: {chain.project.inputs[table].meaning}. Mapped, not yet judged."
    return chain.asset("ingest", writes=delivered)(body)


def undated_as_refused(table: str, rows: pa.Table) -> pa.Table:
    """Rows that belong to no day of the project, as the quarantine keeps them."""
    return pa.table(
        {
            "table": pa.array([table] * rows.num_rows, pa.string()),
            "rule": rows["problem"],
            "row": rows["delivered"],
            "source": rows["source"],
        }
    )


def _refuse_undated(step: Step, source: Source, table: str, undated: pa.Table) -> None:
    """Stop where too many rows cannot be dated: no day would miss them, so no day's own gate can notice."""
    problems = Counter(problem for problem in undated["problem"].to_pylist() if BEFORE_START not in problem)
    lost = sum(problems.values())
    if not lost:
        return
    dated = sum(row["rows"] for row in source.counts_by_day().to_pylist() if row["day"] is not None)
    limit = step.project.validation.max_refused_share
    if lost > limit * (lost + dated):
        listed = "; ".join(f"{problem} ×{count:,}" for problem, count in problems.most_common(5))
        step.refuse(
            f"{lost:,} of {lost + dated:,} rows of {table} belong to no day ({listed}), more than the {limit:.0%} that "
            f"validation.max_refused_share allows. They are in quarantine, day=undated. Say in {step.project.path} how "
            f"the stamp is written, or correct the source"
        )
