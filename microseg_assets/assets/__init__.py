"""The chain, one module per group: ingest, validate, features, value, lifecycle, segments, journeys, actions, report.

A body reads, calls one function of `ml` or `expectations`, writes, and notes what people want to see. It can be called
with a `Step` on any lake. What assets share is in `microseg_assets.orchestration`: `declaration` (the decorators),
`step` (reading, writing, checks and notes), `metadata` (what Dagster shows), `chain` (keys and partitions) and
`execution` (refusing to run on missing inputs).
"""

from __future__ import annotations

from microseg_assets.assets import (
    actions,
    features,
    ingest,
    journeys,
    lifecycle,
    report,
    segments,
    validate,
    value,
)
from microseg_assets.orchestration.declaration import Declaration
from microseg_assets.project import Project

CHAIN: tuple[Declaration, ...] = (
    *ingest.ASSETS,
    *validate.ASSETS,
    features.customer_days,
    features.customer_features,
    value.value_model,
    value.customer_value,
    lifecycle.lifecycle_model,
    lifecycle.lifecycle_stages,
    segments.layer_models,
    segments.cluster_lineage,
    segments.segment_evidence,
    segments.layer_assignments,
    segments.micro_segments,
    segments.audiences,
    segments.micro_segment_profiles,
    journeys.transition_model,
    journeys.movements,
    journeys.journey_forecasts,
    actions.exposure_outcomes,
    actions.action_response_model,
    actions.action_effects,
    actions.action_plan,
    report.segment_atlas,
)


def chain_of(project: Project) -> tuple[Declaration, ...]:
    """The chain of a project: `CHAIN`, and the ingest and validation of each of its contexts."""
    names = {context.table: project.inputs[context.table].meaning for context in project.contexts}
    return (
        *(ingest.declare(name, meaning) for name, meaning in names.items()),
        *(validate.declare(name, is_of_customers=False) for name in names),
        *CHAIN,
    )
