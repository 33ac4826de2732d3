"""What a business delivers: the input tables.

Belongs here: the columns a source may deliver. Does not belong here: how a source names them (see the project file).
"""

from __future__ import annotations

from ml.tables.contract import CUSTOMER_ID, Table
from ml.tables.contract import Column as _c

TRANSACTIONS = Table(
    "transactions",
    "one row per line of an order",
    (
        CUSTOMER_ID,
        _c("occurred_at", "timestamp", "when it was bought", "UTC", required=True),
        _c("amount", "double", "net revenue of the line; refunds are negative", "currency", required=True),
        _c("transaction_id", "string", "unique per line, where the business has one"),
        _c("order_id", "string", "the basket or order the line belongs to"),
        _c("product_id", "string", "what was bought"),
        _c("category", "string", "the kind of product"),
        _c("discount", "double", "discount given on the line; at least 0", "currency"),
        _c("quantity", "double", "units"),
        _c("margin", "double", "gross margin of the line", "currency"),
    ),
    stamp="occurred_at",
)
CUSTOMERS = Table(
    "customers",
    "what is known about a customer besides their behaviour; one row per delivery, the newest counts",
    (CUSTOMER_ID, _c("registered_at", "timestamp", "when the customer registered", "UTC")),
    key=("customer_id",),
    stamp="registered_at",
)
EVENTS = Table(
    "events",
    "what customers do besides buying: visits, views, redemptions, sessions",
    (
        CUSTOMER_ID,
        _c("occurred_at", "timestamp", "when it happened", "UTC", required=True),
        _c("event_type", "string", "what happened", required=True),
        _c("category", "string", "what it was about"),
        _c("value", "double", "a number that belongs to the event"),
        _c("device", "string", "device class"),
        _c("os", "string", "operating system"),
        _c("browser", "string", "browser"),
        _c("channel", "string", "the channel it came through"),
        _c("referrer", "string", "where the customer came from"),
        _c("campaign", "string", "the campaign it is attributed to"),
    ),
    stamp="occurred_at",
)
EXPOSURES = Table(
    "exposures",
    "one customer given one action, or held out of it",
    (
        CUSTOMER_ID,
        _c("exposed_at", "timestamp", "when the action reached the customer", "UTC", required=True),
        _c(
            "action",
            "string",
            "the action; `control`, in any spelling, for customers left alone on purpose",
            required=True,
        ),
        _c("campaign_id", "string", "the campaign it belongs to"),
        _c("channel", "string", "how it reached the customer"),
        _c(
            "propensity",
            "double",
            "probability that the row's own arm was assigned: the action, or control",
            "0 to 1",
        ),
        _c(
            "propensities", "string", 'probability of each arm, as JSON: `{"coupon": 0.4, "call": 0.2, "control": 0.4}`'
        ),
        _c("cost", "double", "what it cost", "currency"),
        _c("is_holdout", "boolean", "held out on purpose"),
        _c("randomised", "boolean", "whether chance alone chose the action"),
    ),
    stamp="exposed_at",
)
BALANCES = Table(
    "balances",
    "what a customer holds with the business: points, credit, deposits",
    (
        CUSTOMER_ID,
        _c("as_of", "timestamp", "when the balance was read", "UTC", required=True),
        _c("balance", "double", "the balance", "currency", required=True),
    ),
    stamp="as_of",
)
INPUTS: dict[str, Table] = {t.name: t for t in (TRANSACTIONS, CUSTOMERS, EVENTS, EXPOSURES, BALANCES)}
