"""What the chain makes of the inputs, in its order: refused rows, facts, the snapshot, and all that is handed out.

Belongs here: the columns of each table in the lake. Does not belong here: how a table is computed.
"""

from __future__ import annotations

from ml.tables.contract import CUSTOMER_ID, Table
from ml.tables.contract import Column as _c

QUARANTINE = Table(
    "quarantine",
    "rows that were refused, with the rule that refused them",
    (
        _c("table", "string", "the input table", required=True),
        _c("rule", "string", "the rule that was broken", required=True),
        _c("row", "string", "the row as delivered", "JSON", required=True),
        _c("source", "string", "the file or query it came from", required=True),
    ),
    dimensions=("table", "day"),
)

INPUT_PROFILES = Table(
    "input_profiles",
    "what the accepted rows of a day looked like, in counts: what later days are compared with",
    (
        _c("column", "string", "the column that is counted; `*` for the table itself", required=True),
        _c("bin", "string", "a value; for numbers the power of two next to 0, with its sign: 4.0 is from 4 to below 8; "
           "`any` where only presence counts; `…` for values beyond the commonest; missing for missing values. Of `*`: "
           "rows, customers"),
        _c("rows", "bigint", "how many", required=True),
    ),
    key=("column", "bin"),
    dimensions=("table", "day"),
)  # fmt: skip

CUSTOMER_DAYS = Table(
    "customer_days",
    "one row per customer and day on which anything happened: all that a snapshot is made of",
    (
        CUSTOMER_ID,
        _c("orders", "bigint", "orders with net revenue above 0 on the day, parts of earlier ones among them"),
        _c("lines", "bigint", "transaction lines"),
        _c("items", "double", "units"),
        _c("amount", "double", "net revenue", "currency"),
        _c("refunds", "double", "sum of the negative lines, as a positive number", "currency"),
        _c("discount", "double", "discounts given", "currency"),
        _c("margin", "double", "gross margin; missing where the business brings none", "currency"),
        _c("events", "bigint", "events"),
        _c("page_views", "bigint", "events whose type speaks of a view, a visit or a page"),
        _c("carts", "bigint", "events whose type speaks of a cart, basket or checkout, removals and views not counted"),
        _c("redemptions", "bigint", "events whose type speaks of a coupon, a voucher or of redeeming"),
        _c("exposures", "bigint", "actions that reached the customer, control not counted"),
        _c("balance", "double", "last balance of the day; missing where none was read", "currency"),
        _c("is_registered", "boolean", "delivered in `customers` on this day"),
    ),
    key=("customer_id",),
)
ORDER_DAYS = Table(
    "customer_order_days",
    "the orders of a customer and day that brought money: what tells parts of one order from orders of their own",
    (CUSTOMER_ID, _c("order_number", "bigint", "stands for the order's id", required=True)),
    key=("customer_id", "order_number"),
)
CATEGORY_DAYS = Table(
    "customer_category_days",
    "net revenue per customer, day and category",
    (
        CUSTOMER_ID,
        _c("category", "string", "what kind of thing was bought"),
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
        _c("known_days", "bigint", "since the customer was first registered or seen", "days"),
        _c("tenure_days", "bigint", "since the first purchase; missing before it", "days"),
        _c("recency_days", "bigint", "since the last purchase; missing before the first", "days"),
        _c("purchase_days", "bigint", "days with a purchase so far"),
        _c("orders", "bigint", "orders so far"),
        _c("lines", "bigint", "transaction lines so far, refunds and lines of 0 among them"),
        _c("spend", "double", "net revenue so far", "currency"),
        _c("refunds", "double", "refunds so far, positive", "currency"),
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
        _c("mean_gap_days", "double", "mean silence between purchase days; missing before the second", "days"),
        _c(
            "comeback_gap_days",
            "bigint",
            "longest silence that a purchase of the last 30 days ended; 0 if none",
            "days",
        ),
        _c("items_90d", "double", "units of the last 90 days"),
        _c("refunds_90d", "double", "refunds of the last 90 days, positive", "currency"),
        _c("discount_share_90d", "double", "discount as a share of gross revenue, last 90 days", "0 to 1"),
        _c("categories_90d", "bigint", "categories bought in the last 90 days"),
        _c("top_category_90d", "string", "the category with most net revenue in the last 90 days"),
        _c("top_category_share_90d", "double", "its share", "0 to 1"),
        _c("events_28d", "bigint", "events of the last 28 days"),
        _c("events_90d", "bigint", "events of the last 90 days"),
        _c("days_since_event", "bigint", "since the last event; missing if none", "days"),
        _c("page_views_28d", "bigint", "views, visits and pages among the events of the last 28 days"),
        _c(
            "days_since_cart",
            "bigint",
            "since something was last put in a cart or a checkout begun; missing if never",
            "days",
        ),
        _c("redemptions_90d", "bigint", "coupons redeemed among the events of the last 90 days"),
        _c("exposures_28d", "bigint", "actions of the last 28 days"),
        _c("exposures_90d", "bigint", "actions of the last 90 days"),
        _c("days_since_exposure", "bigint", "since the last action; missing if none", "days"),
        _c("balance", "double", "last balance read; missing if none", "currency"),
    ),
    key=("customer_id",),
)

CUSTOMER_VALUE = Table(
    "customer_value",
    "what each known customer is expected to bring",
    (
        CUSTOMER_ID,
        _c("ltv", "double", "expected net revenue over the horizon, discounted", "currency"),
        _c("p_alive", "double", "chance of buying at all within the horizon", "0 to 1"),
        _c("expected_orders", "double", "expected orders over the horizon"),
        _c("expected_spend", "double", "expected net revenue over the horizon, not discounted", "currency"),
        _c("horizon_days", "bigint", "the horizon", "days"),
        _c("model", "string", "`baseline`, or the registered model and its version"),
        _c("season_factor", "double", "mean index of the season over the horizon; 1 where no season is known"),
        _c("risk_low", "double", "share of the expected sum that may come, if a season is not known yet; else 1"),
        _c("risk_high", "double", "multiple of the expected sum that may come, if a season is not known yet; else 1"),
    ),
    key=("customer_id",),
)
LIFECYCLE_STAGES = Table(
    "lifecycle_stages",
    "the one stage of each known customer",
    (
        CUSTOMER_ID,
        _c("stage", "string", "prospect, new, active, star, churn, reengaged, no-sale, or the project's own"),
        _c("sub_stage", "string", "the finer state inside the stage"),
        _c("stage_since", "date", "first day of this spell that was observed"),
        _c("previous_stage", "string", "the stage before it; missing if none was observed"),
        _c("earlier_spells", "bigint", "spells in this stage before this one that were observed"),
        _c("path", "string", "stages of all spells observed, from the first to this one, with / between"),
    ),
    key=("customer_id",),
)
LAYER_ASSIGNMENTS = Table(
    "layer_assignments",
    "the cluster or clusters of each customer in each layer of its stage",
    (
        CUSTOMER_ID,
        _c("layer", "string", "the layer"),
        _c("cluster", "string", "the cluster's letter inside stage and layer"),
        _c("cluster_name", "string", "what sets it apart, in words"),
        _c("weight", "double", "share of membership; a customer's weights in a layer add up to 1", "0 to 1"),
        _c("is_primary", "boolean", "the cluster that counts for the string"),
    ),
    key=("customer_id", "layer", "cluster"),
)
MICRO_SEGMENTS = Table(
    "micro_segments",
    "the micro-segment of each customer, and the ones it also leans to",
    (
        CUSTOMER_ID,
        _c("micro_segment_id", "string", "first 10 hex digits of the string's SHA-256"),
        _c("micro_segment", "string", "stage and primary clusters, as in `active/value.B/engagement.A`"),
        _c("stage", "string", "the stage"),
        _c(
            "weight",
            "double",
            "product of its clusters' weights; those below .1 are left out, so a sum may be below 1",
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
        _c("name", "string", "what a marketer would call it"),
        _c("stage", "string", "the stage"),
        _c("depth", "bigint", "layers in the string; 0 is the stage itself"),
        _c("is_leaf", "boolean", "a whole string rather than a prefix of others"),
        _c("customers", "bigint", "primary members"),
        _c("buyers", "bigint", "members who bought in the last 28 days"),
        _c("conversion", "double", "buyers per member", "0 to 1"),
        _c("orders", "bigint", "orders of the last 28 days"),
        _c("revenue", "double", "net revenue of the last 28 days", "currency"),
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
        _c("p_churn", "double", "mean chance of not buying within the horizon", "0 to 1"),
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
    "where each known customer was yesterday and is today, and what moved it",
    (
        CUSTOMER_ID,
        _c("from_stage", "string", "yesterday's stage; missing on entry"),
        _c("to_stage", "string", "today's stage"),
        _c("from_micro_segment_id", "string", "yesterday's micro-segment as it was published; missing on entry"),
        _c("restated_micro_segment_id", "string", "yesterday's micro-segment under today's models; missing on entry"),
        _c("to_micro_segment_id", "string", "today's micro-segment"),
        _c("cause", "string", "behaviour, model, both, entry or rule; missing where the customer stayed"),
    ),
    key=("customer_id",),
)
JOURNEY_FORECASTS = Table(
    "journey_forecasts",
    "where each customer is likely to be",
    (
        CUSTOMER_ID,
        _c("horizon_days", "bigint", "7 or 28", "days"),
        _c("stage", "string", "a stage the customer may be in then"),
        _c("probability", "double", "chance of it; adds up to 1 per customer and horizon", "0 to 1"),
    ),
    key=("customer_id", "horizon_days", "stage"),
)
ACTION_EFFECTS = Table(
    "action_effects",
    "what each action does to net revenue in the outcome window, per micro-segment and prefix",
    (
        _c("micro_segment_id", "string", "id of the string or prefix"),
        _c("micro_segment", "string", "the string or prefix; `all` is everybody"),
        _c("action", "string", "the action"),
        _c("effect", "double", "mean effect per customer against control, shrunk", "currency"),
        _c("ci_low", "double", "lower end of the 90 % interval", "currency"),
        _c("ci_high", "double", "upper end of the 90 % interval", "currency"),
        _c("treated", "bigint", "treated exposures behind it"),
        _c("control", "bigint", "control exposures behind it"),
        _c("evidence_level", "string", "own, parent or unsupported: whose evidence the effect stands on"),
        _c("design", "string", "randomised or observational"),
        _c("placebo", "string", "passed, failed, cannot tell, or not needed"),
        _c("minimum_detectable_effect", "double", "smallest effect the cell could have shown", "currency"),
        _c("reason_code", "string", "why it is unsupported, or what else must be known about it; missing if nothing"),
        _c("reason", "string", "the same in words, with the figures"),
        _c("reason_parameters", "string", "the figures, as JSON; missing on days that older versions wrote"),
    ),
    key=("micro_segment_id", "action"),
)
ACTION_PLAN = Table(
    "action_plan",
    "who gets what in this plan cycle, who is held out, at what propensity, and why",
    (
        CUSTOMER_ID,
        _c("micro_segment_id", "string", "the customer's micro-segment"),
        _c("action", "string", "the action; `none` where the plan abstains"),
        _c("is_holdout", "boolean", "left alone on purpose for this cycle"),
        _c("propensity", "double", "chance with which this row came about", "0 to 1"),
        _c("expected_incremental_value", "double", "effect minus cost; 0 where the plan abstains", "currency"),
        _c("ci_low", "double", "lower end of its 90 % interval", "currency"),
        _c("cost", "double", "what the action costs", "currency"),
        _c("reason_code", "string", "why, as a word that stays the same"),
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
        _c("propensity", "double", "stated chance of the row's own arm; missing if none was stated", "0 to 1"),
        _c("propensities", "string", "stated chance of each arm, as JSON; missing if none was stated"),
        _c("exposures_before", "bigint", "other exposures of the customer within the window before"),
        _c("exposures_after", "bigint", "other exposures of the customer within the window, from this day on"),
        _c("sampled_share", "double", "share of the arm's exposures that were kept; below 1 where there were too many"),
        _c("outcome", "double", "net revenue from the exposure's day on, over the window", "currency"),
        _c("orders", "bigint", "orders in the window"),
        _c("placebo_outcome", "double", "net revenue of the same length of window before the exposure", "currency"),
    ),
    key=("customer_id", "exposed_on", "campaign_id"),
    dimensions=("week",),
)
SEGMENT_EVIDENCE = Table(
    "segment_evidence",
    "how well groups tell next month's spend out of time",
    (
        _c("grouping", "string", "stage only, two RFM grids, random groups, micro-segments …"),
        _c("groups", "bigint", "how many groups it has"),
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
        _c("cluster", "string", "the cluster's letter inside stage and layer"),
        _c("cluster_name", "string", "what sets it apart, in words; missing of one that is gone"),
        _c("event", "string", "first, continued, born, split (off another), merged (into another), or retired"),
        _c("other", "string", "the cluster it split off, or was merged into; empty otherwise"),
        _c("customers_before", "bigint", "customers of the fit's snapshot under the clusters before; 0 of a new one"),
        _c("customers", "bigint", "customers of the fit's snapshot under this choice; 0 of one that is gone"),
        _c("retained_share", "double", "of those before, or of its parent's, who are in it", "0 to 1", formerly="kept"),
        _c("inherited_share", "double", "share of its customers who were in the one before", "0 to 1", formerly="came"),
        _c("kind", "string", "natural, cut, one, fixed or rules: why the layer has clusters in this stage"),
        _c("reason", "string", "the figures behind that, in words"),
        _c("since", "date", "end of the training week that gave the letter; missing of one that is gone"),
        _c("differences", "string", "what sets the cluster apart most: its mean against its stage's"),
        _c("stability", "double", "agreement of bootstrap samples on natural clusters; missing of others", "−1 to 1"),
        _c(
            "gain",
            "double",
            "what a cut tells of next month's spend, or of the next stage, out of time; missing of others",
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
    "one self-contained page a marketer can read",
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
