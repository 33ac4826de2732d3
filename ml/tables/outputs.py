"""What the chain makes of the inputs, in its order: refused rows, facts, the snapshot, and all results.

Belongs here: the columns of each table in the lake. Does not belong here: how a table is computed.
"""

from __future__ import annotations

from ml.tables.contract import CUSTOMER_ID, Table
from ml.tables.contract import Column as _c

QUARANTINE = Table(
    "quarantine",
    "refused rows, each with the rule it broke",
    (
        _c("table", "string", "the input table", required=True),
        _c("rule", "string", "the rule it broke", required=True),
        _c("row", "string", "the row as delivered", "JSON", required=True),
        _c("source", "string", "the file or query it came from", required=True),
    ),
    dimensions=("table", "day"),
)

INPUT_PROFILES = Table(
    "input_profiles",
    "counts of the accepted rows of a day, which later days are compared with",
    (
        _c("column", "string", "the counted column; `*` for the table itself", required=True),
        _c("bin", "string", "a value; for numbers the bound nearer to 0, a power of two with its sign: 4.0 is from 4 "
           "to below 8; `any` where only presence counts; `…` for all but the commonest values; missing for missing "
           "values. For `*`: rows, customers"),
        _c("rows", "bigint", "number of rows", required=True),
    ),
    key=("column", "bin"),
    dimensions=("table", "day"),
)  # fmt: skip

CUSTOMER_DAYS = Table(
    "customer_days",
    "one row per customer and day with any activity: all that a snapshot is made of",
    (
        CUSTOMER_ID,
        _c("orders", "bigint", "orders with net revenue above 0 on the day, including parts of earlier orders"),
        _c("lines", "bigint", "transaction lines"),
        _c("items", "double", "units"),
        _c("amount", "double", "net revenue", "currency"),
        _c("refunds", "double", "sum of the negative lines, as a positive number", "currency"),
        _c("discount", "double", "discounts given", "currency"),
        _c("margin", "double", "gross margin; missing where the business delivers none", "currency"),
        _c("events", "bigint", "events"),
        _c("page_views", "bigint", "events that are views of a page, or visits (see `event_roles`)"),
        _c("carts", "bigint", "events by which a cart is filled or a checkout begun"),
        _c("redemptions", "bigint", "events by which a coupon or voucher is redeemed"),
        _c("goals", "bigint", "events that the project declares as goals; missing in days that older versions wrote"),
        _c(
            "visits",
            "bigint",
            "visits, if the first event of the day began one: events with less than 30 minutes between",
        ),
        _c("first_event_at", "timestamp", "first event of the day", "UTC"),
        _c("last_event_at", "timestamp", "last event of the day", "UTC"),
        _c("exposures", "bigint", "actions that reached the customer, control excluded"),
        _c("balance", "double", "last balance of the day; missing if none was read", "currency"),
        _c("is_registered", "boolean", "delivered in `customers` on this day"),
    ),
    key=("customer_id",),
)
ORDER_DAYS = Table(
    "customer_order_days",
    "the orders with revenue of a customer and day, so that parts of an order are not counted as further orders",
    (CUSTOMER_ID, _c("order_number", "bigint", "a number for the order's id", required=True)),
    key=("customer_id", "order_number"),
)
CATEGORY_DAYS = Table(
    "customer_category_days",
    "net revenue per customer, day and category",
    (
        CUSTOMER_ID,
        _c("category", "string", "the kind of product"),
        _c("amount", "double", "net revenue", "currency"),
        _c("lines", "bigint", "transaction lines"),
    ),
    key=("customer_id", "category"),
)
CUSTOMER_FEATURES = Table(
    "customer_features",
    "the snapshot: every known customer as of the end of the day",
    (
        CUSTOMER_ID,
        _c("known_days", "bigint", "days since the customer was first registered or seen", "days"),
        _c("tenure_days", "bigint", "days since the first purchase; missing before it", "days"),
        _c("recency_days", "bigint", "days since the last purchase; missing before the first", "days"),
        _c("purchase_days", "bigint", "days with a purchase so far"),
        _c("orders", "bigint", "orders so far"),
        _c("lines", "bigint", "transaction lines so far, including refunds and lines of 0"),
        _c("spend", "double", "net revenue so far", "currency"),
        _c("refunds", "double", "refunds so far, as a positive number", "currency"),
        _c("first_day_spend", "double", "net revenue of the first purchase day", "currency"),
        _c("orders_28d", "bigint", "orders of the last 28 days"),
        _c("orders_90d", "bigint", "orders of the last 90 days"),
        _c("orders_prev_28d", "bigint", "orders of the 28 days before the last 28"),
        _c("spend_28d", "double", "net revenue of the last 28 days", "currency"),
        _c("spend_90d", "double", "net revenue of the last 90 days", "currency"),
        _c("spend_prev_28d", "double", "net revenue of the 28 days before the last 28", "currency"),
        _c("purchase_days_28d", "bigint", "days with a purchase among the last 28"),
        _c("purchase_days_90d", "bigint", "days with a purchase among the last 90"),
        _c("average_order_90d", "double", "net revenue per order of the last 90 days; missing without one", "currency"),
        _c("mean_gap_days", "double", "mean gap between purchase days; missing before the second", "days"),
        _c(
            "comeback_gap_days",
            "bigint",
            "longest gap that a purchase of the last 30 days ended; 0 if none",
            "days",
        ),
        _c("items_90d", "double", "units of the last 90 days"),
        _c("refunds_90d", "double", "refunds of the last 90 days, as a positive number", "currency"),
        _c("discount_share_90d", "double", "discount as a share of gross revenue, last 90 days", "0 to 1"),
        _c("categories_90d", "bigint", "categories bought in the last 90 days"),
        _c("top_category_90d", "string", "the category with most net revenue in the last 90 days"),
        _c("top_category_share_90d", "double", "its share of that net revenue", "0 to 1"),
        _c("events_28d", "bigint", "events of the last 28 days"),
        _c("events_90d", "bigint", "events of the last 90 days"),
        _c("days_since_event", "bigint", "days since the last event; missing if none", "days"),
        _c("page_views_28d", "bigint", "page views among the events of the last 28 days"),
        _c(
            "days_since_cart",
            "bigint",
            "days since something was put in a cart or a checkout begun; missing if never",
            "days",
        ),
        _c("redemptions_90d", "bigint", "coupons redeemed among the events of the last 90 days"),
        _c("exposures_28d", "bigint", "actions of the last 28 days"),
        _c("exposures_90d", "bigint", "actions of the last 90 days"),
        _c("days_since_exposure", "bigint", "days since the last action; missing if none", "days"),
        _c("balance", "double", "last balance read; missing if none", "currency"),
    ),
    key=("customer_id",),
)
VISIT_FEATURES = (  # of a project with events; a visit ends with 30 minutes of silence, and counts on the day it began
    _c("visits_28d", "bigint", "visits that began in the last 28 days"),
    _c("visits_90d", "bigint", "visits that began in the last 90 days"),
    _c("days_since_visit", "bigint", "days since the last visit began; missing if none", "days"),
)
GOAL_FEATURES = (  # of a project that declares which types of events are goals
    _c("goals_28d", "bigint", "goals reached in the last 28 days"),
    _c("goals_90d", "bigint", "goals reached in the last 90 days"),
    _c("days_since_goal", "bigint", "days since the last goal was reached; missing if none", "days"),
)
MARGIN_FEATURES = (  # of a project whose transactions have a margin; a line without one adds nothing
    _c("margin", "double", "gross margin so far", "currency"),
    _c("first_day_margin", "double", "gross margin of the first purchase day", "currency"),
    _c("margin_28d", "double", "gross margin of the last 28 days", "currency"),
    _c("margin_90d", "double", "gross margin of the last 90 days", "currency"),
    _c("margin_prev_28d", "double", "gross margin of the 28 days before the last 28", "currency"),
    _c("margin_share_90d", "double", "gross margin as a share of net revenue, last 90 days; missing without any"),
)

CUSTOMER_VALUE = Table(
    "customer_value",
    "the expected value of each known customer",
    (
        CUSTOMER_ID,
        _c(
            "ltv", "double", "expected net revenue (or margin, see `value_of`) over the horizon, discounted", "currency"
        ),
        _c("p_alive", "double", "probability of any purchase within the horizon", "0 to 1"),
        _c("expected_orders", "double", "expected orders over the horizon"),
        _c("expected_spend", "double", "the same, not discounted", "currency"),
        _c("horizon_days", "bigint", "the horizon", "days"),
        _c("model", "string", "`baseline`, or the registered model and its version"),
        _c("season_factor", "double", "mean index of the season over the horizon; 1 where no season is known"),
        _c("risk_low", "double", "lower end of the sum of LTV, as a share of it, while the season is unknown; else 1"),
        _c(
            "risk_high",
            "double",
            "upper end of the sum of LTV, as a multiple of it, while the season is unknown; else 1",
        ),
        _c(
            "value_of",
            "string",
            "what it is reckoned in: revenue, or margin; missing in days that older versions wrote",
        ),
    ),
    key=("customer_id",),
)
LIFECYCLE_STAGES = Table(
    "lifecycle_stages",
    "the one stage of each known customer",
    (
        CUSTOMER_ID,
        _c("stage", "string", "prospect, new, active, star, churn, reengaged, no-sale, or the project's own"),
        _c("sub_stage", "string", "the finer state within the stage"),
        _c("stage_since", "date", "first observed day of this spell"),
        _c("previous_stage", "string", "the stage before it; missing if none was observed"),
        _c("earlier_spells", "bigint", "observed earlier spells in this stage"),
        _c("path", "string", "stages of all observed spells, oldest first, separated by /"),
    ),
    key=("customer_id",),
)
LAYER_ASSIGNMENTS = Table(
    "layer_assignments",
    "the cluster or clusters of each customer in each layer of its stage",
    (
        CUSTOMER_ID,
        _c("layer", "string", "the layer"),
        _c("cluster", "string", "the cluster's letter within stage and layer"),
        _c("cluster_name", "string", "what distinguishes it, in words"),
        _c("weight", "double", "share of membership; a customer's weights in a layer add up to 1", "0 to 1"),
        _c("is_primary", "boolean", "the cluster that counts for the string"),
    ),
    key=("customer_id", "layer", "cluster"),
)
MICRO_SEGMENTS = Table(
    "micro_segments",
    "the micro-segment of each customer, and those it partly belongs to",
    (
        CUSTOMER_ID,
        _c("micro_segment_id", "string", "first 10 hex digits of the string's SHA-256"),
        _c("micro_segment", "string", "stage and primary clusters, as in `active/value.B/engagement.A`"),
        _c("stage", "string", "the stage"),
        _c(
            "weight",
            "double",
            "product of its clusters' weights; those below 0.1 are left out, so a sum may be below 1",
            "0 to 1",
        ),
        _c("is_primary", "boolean", "exactly one per customer"),
    ),
    key=("customer_id", "micro_segment_id"),
)
MICRO_SEGMENT_PROFILES = Table(
    "micro_segment_profiles",
    "the KPIs of each micro-segment, and of each prefix of its string",
    (
        _c("micro_segment_id", "string", "id of the string or prefix"),
        _c("micro_segment", "string", "the string or prefix"),
        _c("name", "string", "its name in a marketer's words"),
        _c("stage", "string", "the stage"),
        _c("depth", "bigint", "layers in the string; 0 is the stage itself"),
        _c("is_leaf", "boolean", "whether it is a whole string, not a prefix of others"),
        _c("customers", "bigint", "primary members"),
        _c("buyers", "bigint", "members who bought in the last 28 days"),
        _c("conversion", "double", "buyers per member", "0 to 1"),
        _c("orders", "bigint", "orders of the last 28 days"),
        _c(
            "revenue",
            "double",
            "net revenue of the last 28 days; gross margin where value is counted in that",
            "currency",
        ),
        _c("revenue_per_customer", "double", "revenue per member", "currency"),
        _c("average_order", "double", "revenue per order; missing without one", "currency"),
        _c("events_per_customer", "double", "events of the last 28 days per member"),
        _c(
            "page_views_per_customer",
            "double",
            "page views of the last 28 days per member; missing where nobody has any",
        ),
        _c("ltv", "double", "sum of LTV", "currency"),
        _c("ltv_share", "double", "its share of all customers' LTV; missing where that is not above 0", "0 to 1"),
        _c("ltv_per_customer", "double", "mean LTV", "currency"),
        _c("p_churn", "double", "mean probability of no purchase within the horizon", "0 to 1"),
        _c("ltv_tercile_low", "bigint", "members in the lowest third by LTV, equal LTVs together", formerly="good"),
        _c("ltv_tercile_mid", "bigint", "members in the middle third", formerly="better"),
        _c("ltv_tercile_high", "bigint", "members in the highest third", formerly="best"),
    ),
    key=("micro_segment_id",),
)
AUDIENCES = Table(
    "audiences",
    "rule segments; a customer can be in many",
    (CUSTOMER_ID, _c("audience", "string", "the audience")),
    key=("customer_id", "audience"),
)
MOVEMENTS = Table(
    "movements",
    "where each known customer was yesterday and is today, and the cause of any move",
    (
        CUSTOMER_ID,
        _c("from_stage", "string", "yesterday's stage; missing on entry"),
        _c("to_stage", "string", "today's stage"),
        _c("from_micro_segment_id", "string", "yesterday's micro-segment as published; missing on entry"),
        _c("restated_micro_segment_id", "string", "yesterday's micro-segment under today's models; missing on entry"),
        _c("to_micro_segment_id", "string", "today's micro-segment"),
        _c("cause", "string", "behaviour, model, both, entry or rule; missing where the customer stayed"),
    ),
    key=("customer_id",),
)
JOURNEY_FORECASTS = Table(
    "journey_forecasts",
    "the stages each customer is likely to be in",
    (
        CUSTOMER_ID,
        _c("horizon_days", "bigint", "7 or 28", "days"),
        _c("stage", "string", "a stage the customer may be in then"),
        _c("probability", "double", "its probability; adds up to 1 per customer and horizon", "0 to 1"),
    ),
    key=("customer_id", "horizon_days", "stage"),
)
ACTION_EFFECTS = Table(
    "action_effects",
    "what each action does to net revenue, or margin, in the outcome window, per micro-segment and prefix",
    (
        _c("micro_segment_id", "string", "id of the string or prefix"),
        _c("micro_segment", "string", "the string or prefix; `all` is everybody"),
        _c("action", "string", "the action"),
        _c("effect", "double", "mean effect per customer against control, shrunk", "currency"),
        _c("ci_low", "double", "lower end of the 90 % interval", "currency"),
        _c("ci_high", "double", "upper end of the 90 % interval", "currency"),
        _c("treated", "bigint", "treated exposures it is estimated from"),
        _c("control", "bigint", "control exposures it is estimated from"),
        _c("evidence_level", "string", "own, parent or unsupported: whose evidence the effect rests on"),
        _c("design", "string", "randomised or observational"),
        _c("placebo", "string", "passed, failed, cannot tell, or not needed"),
        _c("minimum_detectable_effect", "double", "smallest effect that the evidence could have detected", "currency"),
        _c("reason_code", "string", "why it is unsupported, or a caveat about it; missing if there is none"),
        _c("reason", "string", "the same in words, with the figures"),
        _c("reason_parameters", "string", "the figures, as JSON; missing on days that older versions wrote"),
    ),
    key=("micro_segment_id", "action"),
)
ACTION_PLAN = Table(
    "action_plan",
    "who gets which action in this plan cycle, who is held out, with what propensity, and why",
    (
        CUSTOMER_ID,
        _c("micro_segment_id", "string", "the customer's micro-segment"),
        _c("action", "string", "the action; `none` where the plan abstains"),
        _c("is_holdout", "boolean", "left alone on purpose for this cycle"),
        _c("propensity", "double", "probability with which the customer got this row's action", "0 to 1"),
        _c("expected_incremental_value", "double", "effect minus cost; 0 where the plan abstains", "currency"),
        _c("ci_low", "double", "lower end of its 90 % interval", "currency"),
        _c("cost", "double", "what the action costs", "currency"),
        _c("reason_code", "string", "why, as a code that never changes"),
        _c("reason", "string", "why, in words"),
        _c("reason_parameters", "string", "the figures, as JSON; missing on days that older versions wrote"),
    ),
    key=("customer_id",),
)
MODEL_CHOICES = Table(
    "model_choices",
    "what each family decided in a week",
    (
        _c("family", "string", "the model family"),
        _c("model_name", "string", "registered model; missing while there is none"),
        _c("version", "bigint", "its version; missing while there is none"),
        _c("decision", "string", "challenger, incumbent or none"),
        _c("reason", "string", "why, in words"),
        _c("metric", "string", "the metric that decided"),
        _c("challenger", "double", "its value for this week's fit"),
        _c("incumbent", "double", "its value for last week's choice"),
        _c("reason_code", "string", "the kind of reason; missing in choices of older versions"),
        _c("reason_parameters", "string", "its figures, as JSON; missing in choices of older versions"),
    ),
    key=("family",),
    dimensions=("family", "week"),
)
EXPOSURE_OUTCOMES = Table(
    "exposure_outcomes",
    "matured exposures and their controls: who they were the day before, and what followed",
    (
        CUSTOMER_ID,
        _c("exposed_on", "date", "day of the exposure"),
        _c("campaign_id", "string", "the campaign"),
        _c("action", "string", "the action, or control"),
        _c("design", "string", "randomised or observational"),
        _c("propensity", "double", "stated probability of the row's own arm; missing if none was stated", "0 to 1"),
        _c("propensities", "string", "stated probability of each arm, as JSON; missing if none was stated"),
        _c("exposures_before", "bigint", "other exposures of the customer within the window before"),
        _c("exposures_after", "bigint", "other exposures of the customer within the window, from this day on"),
        _c("sampled_share", "double", "share of the arm's exposures that were sampled; 1 unless there were too many"),
        _c("outcome", "double", "net revenue, or margin, from the exposure's day on, over the window", "currency"),
        _c("orders", "bigint", "orders in the window"),
        _c("placebo_outcome", "double", "the same over a window of that length before the exposure", "currency"),
    ),
    key=("customer_id", "exposed_on", "campaign_id"),
    dimensions=("week",),
)
SEGMENT_EVIDENCE = Table(
    "segment_evidence",
    "how well groups predict next month's spend out of time",
    (
        _c("grouping", "string", "stage only, two RFM grids, random groups, micro-segments …"),
        _c("groups", "bigint", "number of groups"),
        _c("r2_spend", "double", "share of the variance of spend that shrunken group means explain, out of time"),
        _c("r2_log_spend", "double", "the same for log(1 + spend)"),
    ),
    key=("grouping",),
    dimensions=("week",),
)
CLUSTER_LINEAGE = Table(
    "cluster_lineage",
    "what became of each cluster in a week's choice, and where each came from",
    (
        _c("stage", "string", "the stage"),
        _c("layer", "string", "the layer"),
        _c("cluster", "string", "the cluster's letter within stage and layer"),
        _c("cluster_name", "string", "what distinguishes it, in words; missing for one that is gone"),
        _c("event", "string", "first, continued, born, split (off another), merged (into another), or retired"),
        _c("other", "string", "the cluster it split off, or was merged into; empty otherwise"),
        _c("customers_before", "bigint", "customers of the fit's snapshot in last week's cluster; 0 for a new one"),
        _c("customers", "bigint", "customers of the fit's snapshot in this cluster; 0 for one that is gone"),
        _c(
            "retained_share",
            "double",
            "share of last week's customers, or its parent's, in it",
            "0 to 1",
            formerly="kept",
        ),
        _c(
            "inherited_share",
            "double",
            "share of its customers who were in the cluster it continues or split off",
            "0 to 1",
            formerly="came",
        ),
        _c("kind", "string", "natural, cut, one, fixed or rules: why the layer has clusters in this stage"),
        _c("reason", "string", "the figures behind that, in words"),
        _c("since", "date", "end of the training week that gave the letter; missing for one that is gone"),
        _c("differences", "string", "its largest differences: its mean against its stage's"),
        _c("stability", "double", "agreement of bootstrap samples on natural clusters; missing for others", "−1 to 1"),
        _c(
            "gain",
            "double",
            "what a cut explains of next month's spend, or of the next stage, out of time; missing for others",
            "share of variance",
        ),
        _c("reason_code", "string", "the kind of reason; missing in weeks that older versions wrote"),
        _c("reason_parameters", "string", "its figures, as JSON; missing in weeks that older versions wrote"),
    ),
    key=("stage", "layer", "cluster"),
    dimensions=("week",),
)
SEGMENT_ATLAS = Table(
    "segment_atlas",
    "one self-contained page for marketers",
    (_c("page", "string", "the page", "HTML", required=True),),
)

OUTPUTS: dict[str, Table] = {
    t.name: t
    for t in (
        QUARANTINE, INPUT_PROFILES, CUSTOMER_DAYS, CATEGORY_DAYS, ORDER_DAYS, CUSTOMER_FEATURES, CUSTOMER_VALUE,
        LIFECYCLE_STAGES, LAYER_ASSIGNMENTS, MICRO_SEGMENTS, MICRO_SEGMENT_PROFILES, AUDIENCES, MOVEMENTS,
        JOURNEY_FORECASTS, ACTION_EFFECTS, ACTION_PLAN, MODEL_CHOICES, EXPOSURE_OUTCOMES, SEGMENT_EVIDENCE,
        CLUSTER_LINEAGE, SEGMENT_ATLAS,
    )
}  # fmt: skip
