"""Facts per customer and day, and the snapshot: the features of a customer as of a day.

Belongs here: every formula of a feature and of an outcome label. A snapshot is one query over pairs of customer and
day, the same for today's table and for a training set, so a model never meets a feature that means something else in
production. Does not belong here: which days to train on (see each family) and where rows come from.
"""

from ml.features.context import Context, context_table
from ml.features.day_facts import day_facts, repeated_orders, undone_orders
from ml.features.event_roles import ROLES, EventRoles, guess_roles
from ml.features.history import CustomerHistory
from ml.features.mapped import mapped_features, with_mapped_features
from ml.features.spec import Attribute, FeatureSpec, category_column, features_table

__all__ = [
    "ROLES",
    "Attribute",
    "Context",
    "CustomerHistory",
    "EventRoles",
    "FeatureSpec",
    "category_column",
    "context_table",
    "day_facts",
    "features_table",
    "guess_roles",
    "mapped_features",
    "repeated_orders",
    "undone_orders",
    "with_mapped_features",
]  # fmt: skip
