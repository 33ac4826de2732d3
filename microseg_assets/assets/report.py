"""Report: one self-contained page a marketer can read."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pyarrow as pa

from microseg_assets.chain import Chain
from microseg_assets.partitions import Reach
from microseg_assets.step import Step
from ml import tables
from ml.atlas import TABLES, Atlas, render
from ml.value import Basis


def assets(chain: Chain) -> list[dg.AssetsDefinition]:
    @chain.asset(
        "report",
        writes=tables.SEGMENT_ATLAS,
        reads={
            **dict.fromkeys(TABLES, Reach.SAME_DAY),
            "customer_value": Reach.SAME_DAY,
            "movements": Reach.SEVEN_DAYS,
            "segment_evidence": Reach.LAST_ENDED_WEEK,
            "cluster_lineage": Reach.LAST_ENDED_WEEK,
        },
        kinds=("html",),
    )
    def segment_atlas(step: Step) -> None:
        """Who the customers are, where they are going, what they are worth and what to do about it, on one page."""
        for week, days in step.in_force():
            evidence = step.week("segment_evidence", week) if week else tables.SEGMENT_EVIDENCE.empty()
            lineage = step.week("cluster_lineage", week) if week else tables.CLUSTER_LINEAGE.empty()
            stages = chain.choice("lifecycle", week).model
            windows = {
                "churn_after": stages.churn_after if stages else step.project.lifecycle.first_churn_after,
                "horizon": step.project.value.horizon_days,
            }
            for day in days:
                atlas = Atlas(
                    project=step.project.title or step.project.name,
                    day=day,
                    currency=step.project.currency,
                    tables={name: step.read(name, [day]) for name in TABLES},
                    moves=step.recent("movements", day, timedelta(days=6)),
                    evidence=evidence,
                    lineage=lineage,
                    choices=chain.choice_rows(week),
                    switched_off=step.project.missing_tables(),
                    treatments=step.project.lifecycle.treatments(),
                    basis=Basis.of(step.engine, step.files("customer_value", [day])),
                    audience_words={one.name: one.description for one in step.project.audiences},
                    windows=windows,
                )
                page = render(step.engine, atlas)
                place = chain.lake.put_file(tables.SEGMENT_ATLAS, day, "atlas.html", page.encode())
                rows = pa.table({"page": [page], "day": pa.array([day], pa.date32())})
                step.write(rows, [day], page=dg.MetadataValue.url(place))

    return [segment_atlas]
