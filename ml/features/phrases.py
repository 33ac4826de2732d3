"""Features in plain words: what each is called, and how a value of it is written, with its unit.

Belongs here: labels and units of features and value columns, for everything that shows a figure to a person. Does not
belong here: what is high or low (see `ml.layers.names`), and currencies: an amount is a bare number here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

Unit = Literal["count", "money", "days", "ago", "share", "number", "text"]
UNKNOWN = "unknown"

_PHRASES: Mapping[str, tuple[str, Unit]] = {
    "known_days": ("first seen", "ago"),
    "tenure_days": ("first purchase", "ago"),
    "recency_days": ("last purchase", "ago"),
    "purchase_days": ("days with a purchase so far", "count"),
    "orders": ("orders so far", "count"),
    "lines": ("lines bought or returned so far", "count"),
    "spend": ("spend so far", "money"),
    "refunds": ("refunds so far", "money"),
    "first_day_spend": ("spend on the first day", "money"),
    "orders_28d": ("orders in 28 days", "count"),
    "orders_90d": ("orders in 90 days", "count"),
    "orders_prev_28d": ("orders in the 28 days before", "count"),
    "spend_28d": ("spend in 28 days", "money"),
    "spend_90d": ("spend in 90 days", "money"),
    "spend_prev_28d": ("spend in the 28 days before", "money"),
    "purchase_days_28d": ("days with a purchase in 28 days", "count"),
    "purchase_days_90d": ("days with a purchase in 90 days", "count"),
    "average_order_90d": ("spend per order", "money"),
    "mean_gap_days": ("usual gap between purchases", "days"),
    "comeback_gap_days": ("longest silence ended in the last 30 days", "days"),
    "items_90d": ("units in 90 days", "count"),
    "refunds_90d": ("refunds in 90 days", "money"),
    "discount_share_90d": ("share saved by discounts", "share"),
    "categories_90d": ("categories in 90 days", "count"),
    "top_category_90d": ("favourite category", "text"),
    "top_category_share_90d": ("share of the favourite category", "share"),
    "events_28d": ("visits and other events in 28 days", "count"),
    "events_90d": ("visits and other events in 90 days", "count"),
    "days_since_event": ("last event", "ago"),
    "page_views_28d": ("page views in 28 days", "count"),
    "days_since_cart": ("last filled cart", "ago"),
    "redemptions_90d": ("coupons redeemed in 90 days", "count"),
    "exposures_28d": ("actions received in 28 days", "count"),
    "exposures_90d": ("actions received in 90 days", "count"),
    "days_since_exposure": ("last action received", "ago"),
    "balance": ("balance", "money"),
    "visits_28d": ("visits in 28 days", "count"),
    "visits_90d": ("visits in 90 days", "count"),
    "days_since_visit": ("last visit", "ago"),
    "goals_28d": ("goals reached in 28 days", "count"),
    "goals_90d": ("goals reached in 90 days", "count"),
    "days_since_goal": ("last goal reached", "ago"),
    "last_device": ("device of the last event", "text"),
    "top_device_90d": ("usual device", "text"),
    "last_os": ("system of the last event", "text"),
    "top_os_90d": ("usual system", "text"),
    "last_browser": ("browser of the last event", "text"),
    "top_browser_90d": ("usual browser", "text"),
    "last_channel": ("channel of the last event", "text"),
    "top_channel_90d": ("usual channel", "text"),
    "last_referrer_domain": ("came last from", "text"),
    "top_referrer_domain_90d": ("usually comes from", "text"),
    "last_campaign": ("campaign of the last event", "text"),
    "top_campaign_90d": ("usual campaign", "text"),
    "event_value_28d": ("value of events in 28 days", "number"),
    "event_value_90d": ("value of events in 90 days", "number"),
    "mean_event_value_90d": ("mean value of events in 90 days", "number"),
    "margin": ("margin so far", "money"),
    "first_day_margin": ("margin on the first day", "money"),
    "margin_28d": ("margin in 28 days", "money"),
    "margin_90d": ("margin in 90 days", "money"),
    "margin_prev_28d": ("margin in the 28 days before", "money"),
    "margin_share_90d": ("margin as a share of spend", "share"),
    "ltv": ("lifetime value", "money"),
    "p_alive": ("chance of an order", "share"),
    "expected_orders": ("orders expected", "count"),
    "expected_spend": ("spend expected", "money"),
    "spend_trend_28d": ("trend of spend, from −1 (stopped) to 1 (new)", "number"),
    "overdue": ("silence beyond the own rhythm (1: none)", "number"),
}
_NEVER = {
    "recency_days": "no purchase yet",
    "tenure_days": "no purchase yet",
    "mean_gap_days": "no second purchase yet",
    "days_since_event": "no event yet",
    "days_since_cart": "never filled a cart",
    "days_since_visit": "no visit yet",
    "days_since_goal": "no goal reached yet",
    "days_since_exposure": "no action received yet",
    "average_order_90d": "no order in 90 days",
    "top_category_90d": "no favourite category in 90 days",
    "discount_share_90d": "no spend in 90 days",
    "first_day_margin": "no purchase yet",
    "margin_share_90d": "no spend in 90 days",
}


def label(feature: str) -> str:
    """Label a feature in plain words.

    Parameters
    ----------
    feature : str
        Column of the snapshot or of the value table, or any other name.

    Returns
    -------
    str
        The label; the name itself, made readable, where no label is declared.

    Examples
    --------
    >>> label("spend_90d"), label("share_baby_food"), label("shoe_size"), label("carts_by_phone_7d")
    ('spend in 90 days', 'share of baby food', 'shoe size', 'carts by phone in 7 days')
    """
    if feature in _PHRASES:
        return _PHRASES[feature][0]
    if feature.startswith("share_"):
        return f"share of {feature.removeprefix('share_').replace('_', ' ')}"
    return re.sub(r" (\d+)d$", r" in \1 days", feature.replace("_", " "))


def unit(feature: str) -> Unit:
    """Look up the unit of a feature's values.

    Parameters
    ----------
    feature : str
        Column of the snapshot or of the value table, or any other name.

    Returns
    -------
    {"count", "money", "days", "ago", "share", "number", "text"}
        The unit; "number" where none is declared.

    Examples
    --------
    >>> unit("spend_90d"), unit("share_baby_food"), unit("shoe_size")
    ('money', 'share', 'number')
    """
    if feature in _PHRASES:
        return _PHRASES[feature][1]
    return "share" if feature.startswith("share_") else "number"


def figure(feature: str, value: Any) -> str:
    """Write a value of a feature with its unit.

    Parameters
    ----------
    feature : str
        Column of the snapshot or of the value table, or any other name.
    value : object
        Value of the feature; None or not finite where it is unknown.

    Returns
    -------
    str
        The value as text. Small numbers keep their decimals.

    Examples
    --------
    >>> figure("recency_days", 42), figure("discount_share_90d", 0.38), figure("spend_90d", 1360.4)
    ('42 days ago', '38%', '1,360')
    """
    if isinstance(value, Decimal):
        value = float(value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return UNKNOWN
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ("yes" if value else "no") if isinstance(value, bool) else str(value)
    kind = unit(feature)
    if kind == "share":
        percent = 100 * value
        return f"{_rounded(percent, 1 if 0 < abs(percent) < 9.95 else 0)}%"
    if kind in ("days", "ago"):
        if kind == "ago" and value == 0:
            return "today"
        days = _rounded(value, 1 if value != round(value) and abs(value) < 10 else 0)
        return f"{days} {'day' if days == '1' else 'days'}{' ago' if kind == 'ago' else ''}"
    if kind == "money":
        return _rounded(value, 2 if 0.005 <= abs(value) < 100 else 0)
    return _rounded(value, 0 if value == round(value) else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0)


def phrase(feature: str, value: Any) -> str:
    """Write a feature's label and value.

    Parameters
    ----------
    feature : str
        Column of the snapshot or of the value table, or any other name.
    value : object
        Value of the feature; None where it is missing.

    Returns
    -------
    str
        Label and value, or one phrase for a value that stands for "never".

    Examples
    --------
    >>> phrase("recency_days", 42), phrase("recency_days", None)
    ('last purchase 42 days ago', 'no purchase yet')
    """
    if value is None and feature in _NEVER:
        return _NEVER[feature]
    if value == 0 and feature == "comeback_gap_days":
        return "no silence ended in the last 30 days"
    return f"{label(feature)} {figure(feature, value)}"


def _rounded(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")
