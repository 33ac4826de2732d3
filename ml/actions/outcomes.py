"""Exposures whose outcome is complete, and the customers they are compared with.

Belongs here: who counts as treated or control, and the outcome. Does not belong here: the effect of the action (see
`ml.actions.estimation`).
"""

from __future__ import annotations

from datetime import date

import pyarrow as pa

from ml import tables
from ml.actions.spec import ActionPolicy
from ml.engine import sql_of
from ml.features import CustomerHistory

_LABELS = """
SELECT exposed.customer_id AS customer_id, exposed.exposed_on AS exposed_on, exposed.campaign_id AS campaign_id,
       exposed.action AS action, exposed.design AS design, exposed.propensity AS propensity,
       exposed.propensities AS propensities, exposed.exposures_before AS exposures_before,
       exposed.exposures_after AS exposures_after, exposed.sampled_share AS sampled_share,
       after.spend AS outcome, after.orders AS orders,
       CASE WHEN exposed.has_placebo THEN before.spend END AS placebo_outcome
FROM exposed
JOIN after ON after.customer_id = exposed.customer_id AND DATE_DIFF('day', after.day, exposed.exposed_on) = 1
LEFT JOIN before ON before.customer_id = exposed.customer_id
    AND DATE_DIFF('day', before.day, exposed.exposed_on) = 1 + $window
ORDER BY exposed.exposed_on, exposed.campaign_id, exposed.customer_id
"""
_PAIRS = """
SELECT DISTINCT customer_id, CAST(exposed_on - CAST($lag AS INTEGER) AS DATE) AS day FROM exposed
WHERE has_placebo OR NOT $placebo_only
ORDER BY day, customer_id
"""
_SENDING_DAYS = 7  # a campaign whose exposures lie within so many days is one sending


def exposure_outcomes(
    facts: CustomerHistory, exposures: pa.Table, as_of: date, spec: ActionPolicy, *, start: date
) -> pa.Table:
    """Collect matured exposures and their controls, with net revenue after and before the exposure.

    The features of an exposure on day e are those of e − 1, its outcome is the net revenue of e … e + window − 1, its
    placebo outcome that of e − window … e − 1. A row exists only if the outcome is complete by `as_of` and the customer
    was known on e − 1.

    *Randomised* exposures are used as delivered, including control and holdout rows. *Observational* ones get controls:
    customers known on e − 1 without an exposure on e or within the window before; one row per customer and campaign, a
    seeded sample of at most `spec.max_rows`. Other exposures within the window before and after are counted in both
    arms, and decide who is compared (`designs.is_compared`). As the day after the window must be known for that, an
    observational exposure matures one day later than its outcome.

    An arm with more than `spec.max_rows` exposures is sampled by customer; `sampled_share` is the sampled fraction.

    Parameters
    ----------
    facts : CustomerHistory
        Customer days up to `as_of` or beyond; nothing after `as_of` is used.
    exposures : pa.Table
        Columns of `tables.EXPOSURES` and `day`; missing optional columns count as empty.
    as_of : date
        Last day that may be used.
    spec : ActionPolicy
        Length of the window, and size of samples.
    start : date
        First day of history; a placebo window that begins before it is missing.

    Returns
    -------
    pa.Table
        Columns of `tables.EXPOSURE_OUTCOMES`, ordered by day, campaign and customer.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import DuckDB
    >>> from ml.features import FeatureSpec
    >>> rows = {name: table.empty_days() for name, table in tables.INPUTS.items()}
    >>> rows["customers"] = pa.table({"customer_id": ["ann", "bob"], "day": [date(2024, 1, 1)] * 2})
    >>> log = pa.table(
    ...     {
    ...         "customer_id": ["ann", "bob"],
    ...         "day": [date(2024, 1, 9)] * 2,
    ...         "action": ["mail", "control"],
    ...         "campaign_id": ["spring"] * 2,
    ...         "randomised": [True, True],
    ...     }
    ... )
    >>> history = CustomerHistory.from_rows(DuckDB(), FeatureSpec(), **rows)
    >>> outcomes = exposure_outcomes(history, log, date(2024, 2, 29), ActionPolicy(), start=date(2024, 1, 1))
    >>> outcomes.select(["customer_id", "action", "design", "outcome"]).to_pylist()
    [{'customer_id': 'ann', 'action': 'mail', 'design': 'randomised', 'outcome': 0.0},
     {'customer_id': 'bob', 'action': 'control', 'design': 'randomised', 'outcome': 0.0}]
    """
    window, exposures = spec.outcome_window_days, _complete(exposures)
    declared = [action.name for action in spec.actions]
    exposed = facts.engine.query(
        sql_of("ml.actions", "exposure_outcomes"),
        {
            "as_of": as_of,
            "start": start,
            "window": window,
            "sending": _SENDING_DAYS,
            "max_rows": spec.max_rows,
            "seed": str(spec.seed),
        },
        exposures=exposures,
        arms=tables.arms_table(exposures["action"].unique().to_pylist(), declared),
        customer_days=facts.customer_days,
    )
    after = facts.engine.query(_PAIRS, {"lag": 1, "placebo_only": False}, exposed=exposed)
    before = facts.engine.query(_PAIRS, {"lag": 1 + window, "placebo_only": True}, exposed=exposed)
    labelled = facts.engine.query(
        _LABELS,
        {"window": window},
        exposed=exposed,
        after=facts.outcomes(after, window, until=as_of),
        before=facts.outcomes(before, window, until=as_of),
    )
    return tables.EXPOSURE_OUTCOMES.conform(labelled)


def _complete(exposures: pa.Table) -> pa.Table:
    """Add the declared columns that are missing, empty."""
    for column in tables.EXPOSURES.columns:
        if column.name not in exposures.column_names:
            exposures = exposures.append_column(column.name, pa.nulls(exposures.num_rows, tables.ARROW[column.type]))
    return exposures.select([*tables.EXPOSURES.names, "day"])
