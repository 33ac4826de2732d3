"""Micro-segments: the string of stage and primary clusters, its id, and the memberships of those in between.

Belongs here: how clusters become strings, weights and ids, and how a string splits into its prefixes. Does not belong
here: where the clusters come from (see `layers`).
"""

from __future__ import annotations

import hashlib
from functools import cache

import pyarrow as pa
from sqlglot import exp

from ml import tables
from ml.engine import Engine
from ml.segments.specs import SegmentSpec

SECONDARY_WEIGHT = 0.1
SECONDARY_ROWS = 4


def micro_segment_id(text: str) -> str:
    """The first 10 hex digits of the string's SHA-256; SQL computes the same with ``sha256``."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def prefixes(text: str) -> list[str]:
    """``active/value.B/engagement.A`` → ``active``, ``active/value.B`` and itself."""
    parts = text.split("/")
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def micro_segments(engine: Engine, stages: pa.Table, assignments: pa.Table, spec: SegmentSpec) -> pa.Table:
    """The micro-segment of each customer and day, and those it also leans to, in one statement.

    Parameters
    ----------
    stages : customer_id, day, stage; one row per customer and day
    assignments : `layer_assignments` and day; empty before there is a model, and the string is the stage alone
    spec : its layers order the string; an assignment of a layer that is not in it is left out

    Returns
    -------
    The columns of `micro_segments` behind customer_id and day, by day, customer and weight. Exactly one row per
    customer and day is primary. The others are the combinations of clusters whose product of weights is at least .1,
    the four heaviest; products below are cut layer by layer, which loses nothing because a product only shrinks.
    """
    layers = [layer.name for layer in spec.layers]
    result = engine.query(
        _query(tuple(layers)),
        {"smallest": SECONDARY_WEIGHT, "most": SECONDARY_ROWS},
        stages=stages.select(["customer_id", "day", "stage"]),
        assignments=assignments.select(["customer_id", "day", "layer", "cluster", "weight", "is_primary"]),
        layers=pa.table(
            {"layer": pa.array(layers, pa.string()), "position": pa.array(list(range(len(layers))), pa.int64())}
        ),
    )
    return tables.MICRO_SEGMENTS.conform(result).add_column(1, pa.field("day", pa.date32()), result["day"])


@cache
def _query(layers: tuple[str, ...]) -> str:
    """Strings of the decided by one aggregation; of the undecided by multiplying their memberships layer by layer."""
    parts = (
        exp.select("assignments.customer_id AS customer_id", "assignments.day AS day")
        .select(
            "STRING_AGG(CASE WHEN assignments.is_primary THEN layers.layer || '.' || assignments.cluster END, '/' "
            "ORDER BY layers.position) AS path",
            "COUNT(*) AS memberships",
            "SUM(CASE WHEN assignments.is_primary THEN 1 ELSE 0 END) AS decided",
        )
        .from_("assignments")
        .join("layers", on="layers.layer = assignments.layer")
        .group_by("assignments.customer_id", "assignments.day")
    )
    paths = (
        exp.select("stages.customer_id AS customer_id", "stages.day AS day", "stages.stage AS stage")
        .select("stages.stage || COALESCE('/' || parts.path, '') AS micro_segment")
        .select("COALESCE(parts.memberships > parts.decided, FALSE) AS is_mixed")
        .from_("stages")
        .join("parts", on="parts.customer_id = stages.customer_id AND parts.day = stages.day", join_type="left")
    )
    query = exp.select().with_("parts", parts).with_("paths", paths)
    query = _with_mixed(query, layers)
    ranked = (
        exp.select("customer_id", "day", "stage", "micro_segment", "weight", "is_primary")
        .select(
            "ROW_NUMBER() OVER (PARTITION BY customer_id, day, is_primary ORDER BY weight DESC, micro_segment) AS place"
        )
        .from_(f"mixed_{len(layers)}")
    )
    kept = (
        exp.select("customer_id", "day", "stage", "micro_segment", "weight", "is_primary")
        .from_("ranked")
        .where("is_primary OR place <= $most", dialect="duckdb")
    )
    decided = (
        exp.select("customer_id", "day", "stage", "micro_segment", "CAST(1 AS DOUBLE) AS weight", "TRUE AS is_primary")
        .from_("paths")
        .where("NOT is_mixed")
    )
    return (
        query.with_("ranked", ranked)
        .with_("kept", kept)
        .with_("decided", decided)
        .with_("united", exp.union("SELECT * FROM decided", "SELECT * FROM kept", distinct=False))
        .select("customer_id", "day", "SUBSTRING(SHA256(micro_segment), 1, 10) AS micro_segment_id", "micro_segment")
        .select("stage", "weight", "is_primary")
        .from_("united")
        .order_by("day", "customer_id", "is_primary DESC", "weight DESC", "micro_segment")
        .sql("duckdb")
    )


def _with_mixed(query: exp.Select, layers: tuple[str, ...]) -> exp.Select:
    """Add `mixed_0` … : combinations of clusters after each layer, of those who have more than one in some layer."""
    step = (
        exp.select("customer_id", "day", "stage", "stage AS micro_segment", "CAST(1 AS DOUBLE) AS weight")
        .select("TRUE AS is_primary")
        .from_("paths")
        .where("is_mixed")
    )
    query = query.with_("mixed_0", step)
    for number, layer in enumerate(layers, start=1):
        before = f"mixed_{number - 1}"
        member = exp.column("layer", "member").eq(exp.Literal.string(layer))
        step = (
            exp.select("had.customer_id AS customer_id", "had.day AS day", "had.stage AS stage")
            .select("had.micro_segment || COALESCE('/' || member.layer || '.' || member.cluster, '') AS micro_segment")
            .select("had.weight * COALESCE(member.weight, 1) AS weight")
            .select("had.is_primary AND COALESCE(member.is_primary, TRUE) AS is_primary")
            .from_(f"{before} AS had")
            .join(
                "assignments AS member",
                on=exp.and_("member.customer_id = had.customer_id AND member.day = had.day", member),
                join_type="left",
            )
            .where(
                "had.weight * COALESCE(member.weight, 1) >= $smallest "
                "OR (had.is_primary AND COALESCE(member.is_primary, TRUE))",
                dialect="duckdb",
            )
        )
        query = query.with_(f"mixed_{number}", step)
    return query
