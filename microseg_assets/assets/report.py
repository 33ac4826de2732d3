"""Report: one self-contained page for marketers."""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg
import pyarrow as pa

from microseg_assets.orchestration.declaration import asset
from microseg_assets.orchestration.step import Step, read_recent
from microseg_assets.partitions import Lookback
from microseg_assets.storage import choices
from ml import tables
from ml.report import TABLES, AtlasInputs, render
from ml.value import Basis


@asset(
    "report",
    writes=tables.SEGMENT_ATLAS,
    reads={
        **dict.fromkeys(TABLES, Lookback.SAME_DAY),
        "customer_value": Lookback.SAME_DAY,
        "movements": Lookback.SEVEN_DAYS,
        "segment_evidence": Lookback.LAST_ENDED_WEEK,
        "cluster_lineage": Lookback.LAST_ENDED_WEEK,
    },
    kinds=("html",),
)
def segment_atlas(step: Step) -> None:
    """Who the customers are, how they move, what they are worth and what to do about it, on one page."""
    for week, days in step.days_by_training_week():
        evidence, lineage = (_read_week(step, name, week) for name in ("segment_evidence", "cluster_lineage"))
        stages = choices.load_choice(step.workspace, "lifecycle", week).model
        windows = {
            "churn_after": stages.churn_after if stages else step.project.lifecycle.first_churn_after,
            "horizon": step.project.value.horizon_days,
        }
        for day in days:
            inputs = AtlasInputs(
                project=step.project.title or step.project.name,
                day=day,
                currency=step.project.currency,
                tables={name: step.read(name, [day]) for name in TABLES},
                moves=read_recent(step, "movements", day, timedelta(days=6)),
                evidence=evidence,
                lineage=lineage,
                choices=choices.read_choice_rows(step.workspace, week),
                switched_off=step.project.missing_tables(),
                treatments=step.project.lifecycle.treatments(),
                basis=Basis.of(step.engine, step.workspace.partitions("customer_value").files([day])),
                audience_words={one.name: one.description for one in step.project.audiences},
                windows=windows,
            )
            page = render(step.engine, inputs)
            url = step.own_partitions.put_file(day, "atlas.html", page.encode())
            rows = pa.table({"page": [page], "day": pa.array([day], pa.date32())})
            step.write(rows, [day], page=dg.MetadataValue.url(url))


def _read_week(step: Step, name: str, week: date | None) -> pa.Table:
    """A weekly partition; an empty table before the first week."""
    partitions = step.workspace.partitions(name)
    return partitions.read(week) if week else partitions.table.empty()
