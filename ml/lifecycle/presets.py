"""The stages that the shipped businesses have, as data.

Belongs here: rules and the treatment of each. Does not belong here: what a rule may contain (see `rules`). A fitted
`LifecycleModel` carries the rules it was fitted with, so an edited rule takes effect with the next weekly fit.
"""

from __future__ import annotations

from collections.abc import Mapping

from ml.lifecycle.rules import StageRule, SubStageRule

NO_SALE = "no-sale"  # has transactions, but every order was free, or refunded on its own day
RETURNED = "all-returned"
_ASK_WHY = "Find out what went wrong before the next offer"


def _stages(no_sale: str, first: StageRule) -> tuple[StageRule, ...]:
    return (
        StageRule(NO_SALE, no_sale, "No offer yet: look at what came back, or went out for nothing"),
        first,
        StageRule("churn", "recency_days > $churn_after", "Win back while it still pays; ask why they left"),
        StageRule("reengaged", "comeback_gap_days > $churn_after", "Welcome back; make the next purchase easy"),
        StageRule("new", "tenure_days < $new_for", "Onboard; earn the second purchase"),
        StageRule("star", "ltv >= $star_cut", "Recognise and protect; no discount they do not need"),
        StageRule("active", "true", "Keep the habit; grow it where there is room"),
    )


PRESET_STAGES: Mapping[str, tuple[StageRule, ...]] = {
    "retail": _stages(
        "recency_days IS NULL AND lines > 0", StageRule("prospect", "recency_days IS NULL", "Win the first purchase")
    ),
    # Free items are part of playing: a player without a payment is `fun`, unless a payment was refunded.
    "gaming": _stages(
        "recency_days IS NULL AND refunds > 0",
        StageRule("fun", "recency_days IS NULL", "Let them play; time the first offer well"),
    ),
}
# Customers who returned all they bought keep the stage of their purchase, with a sub-stage of their own.
_GIVEN_BACK = tuple(
    SubStageRule(stage, RETURNED, "refunds > 0 AND spend <= 0", _ASK_WHY)
    for stage in ("churn", "reengaged", "new", "star", "active")
)
PRESET_SUB_STAGES: tuple[SubStageRule, ...] = (
    SubStageRule(
        NO_SALE,
        "refund-only",
        "refunds > 0 AND spend + refunds < 0.005",
        "Bought before these data begin, or under another id: find that purchase, and ask why it came back",
    ),
    SubStageRule(NO_SALE, RETURNED, "refunds > 0", _ASK_WHY),
    SubStageRule(NO_SALE, "free-order", "true", "Has had something for nothing: make the first paid order worth it"),
    *_GIVEN_BACK,
    # One of the two cuts is NULL: that of ltv while no value model forecasts it, that of the first purchase afterwards.
    SubStageRule(
        "new",
        "high-potential",
        "ltv >= $new_ltv_cut OR first_day_spend >= $new_first_spend_cut",
        "Give a personal start; show the whole range",
    ),
    SubStageRule("new", "one-time-only", "purchase_days = 1", "Bring about the second purchase soon"),
    SubStageRule("new", "settling", "true", "Support the habit that is forming"),
    SubStageRule(
        "active",
        "at-risk",
        "ltv >= $active_median_ltv AND recency_days > 7 AND recency_days > 2 * mean_gap_days",
        "Reach out before the silence becomes a habit",
    ),
    SubStageRule(
        "active",
        "best",
        "recency_days < 14 AND orders_90d >= $active_high_orders AND spend_90d >= $active_high_spend",
        "Thank; offer what stars get",
    ),
    SubStageRule(
        "active",
        "big-basket",
        "average_order_90d >= $active_high_basket AND orders_90d <= $active_median_orders",
        "Give a reason to come between the big trips",
    ),
    SubStageRule(
        "active",
        "rising",
        "tenure_days >= 56 AND spend_28d > 1.5 * spend_prev_28d AND orders_28d > orders_prev_28d",
        "Find out what grows and feed it",
    ),
    SubStageRule("active", "steady", "true", "Keep the service; widen the range gently"),
    SubStageRule(
        "churn", "formerly-active-with-balance", "purchase_days > 1 AND balance > 0", "Remind them of their balance"
    ),
    SubStageRule("churn", "formerly-active", "purchase_days > 1", "One good win-back offer, then let go"),
    SubStageRule("churn", "single-purchase", "true", "Low-cost reminder only"),
)
