"""What a project adds to the features that every project has, and the columns of its snapshot.

Belongs here: settings of features, and the names and types that follow from them. Does not belong here: computing them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from ml import tables
from ml.features.context import Context, context_columns
from ml.features.declared import DeclaredSpec, declared_columns
from ml.features.declared.columns import parts
from ml.features.event_roles import GUESSED, EventRoles


@dataclass(frozen=True)
class Attribute:
    """A column of the customers table that becomes a feature under its own name.

    Parameters
    ----------
    name : str
        Column of the customers table.
    type : {"string", "double", "boolean"}, default "string"
        Type of its values.
    known_from : date, optional
        Day on which the attribute was exported: on earlier days it is missing for everybody. None if each customer's
        value is known from the day of its row on.

    Examples
    --------
    >>> features_table(FeatureSpec(attributes=(Attribute("region"),))).names[-1]
    'region'
    """

    name: str
    type: Literal["string", "double", "boolean"] = "string"
    known_from: date | None = None


@dataclass(frozen=True)
class FeatureSpec:
    """What a project adds to the features that every project has.

    Parameters
    ----------
    categories : tuple of str
        Categories whose share of the last 90 days' revenue is a feature. They are declared, not learnt, so no later
        day can leak into the vocabulary.
    attributes : tuple of Attribute
        Columns of the customers table that are features.
    order_days : int, default 30
        Lines with the same order id at most this many days apart are one order, which counts on its first day. 0 if
        an id is reused from one day to the next.
    undo_within_days : int, optional
        A refund of an order's whole amount by the same customer, at most this many days later, removes the order as
        of the day of the refund. None if no refund removes an order.
    event_roles : EventRoles
        What types of events count as.
    declared : DeclaredSpec, optional
        Features that the project declares of its own rows.
    contexts : tuple of Context
        Rows by the value of a feature and a day, such as weather by region, whose columns are features.
    has_margin : bool, default False
        Whether the transactions have a margin, whose sums are features then.
    has_visits : bool, default False
        Whether the business has events, whose visits are features then.
    value_of : {"revenue", "margin"}, default "revenue"
        What the spend of outcomes is: net revenue, or the margin of the same lines.

    Raises
    ------
    ValueError
        If value is of margin and the transactions have none.

    Examples
    --------
    >>> FeatureSpec(categories=("DAIRY",), undo_within_days=7).order_days
    30
    """

    categories: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    order_days: int = 30
    undo_within_days: int | None = None
    event_roles: EventRoles = GUESSED
    declared: DeclaredSpec = field(default_factory=DeclaredSpec)
    contexts: tuple[Context, ...] = ()
    has_margin: bool = False
    has_visits: bool = False
    value_of: Literal["revenue", "margin"] = "revenue"

    @property
    def of_facts(self) -> tuple[tables.Column, ...]:
        """The features of facts that only some businesses have: margin, visits and goals.

        A declared feature takes the place of one of the same name, except for sums that value is reckoned in.
        """
        margins = tables.MARGIN_FEATURES if self.has_margin else ()
        visits = tables.VISIT_FEATURES if self.has_visits else ()
        goals = tables.GOAL_FEATURES if self.event_roles.goals else ()
        own = {part.name.lower() for feature in self.declared.features for part in parts(feature)}
        kept = margins if self.value_of == "margin" else [one for one in margins if one.name not in own]
        return (*kept, *(one for one in (*visits, *goals) if one.name not in own))

    def __post_init__(self) -> None:
        if self.value_of == "margin" and not self.has_margin:
            raise ValueError("value is of margin, but the transactions have no margin: set has_margin")


def category_column(category: str) -> str:
    """Name the feature that holds a category's revenue share.

    Parameters
    ----------
    category : str
        Category as the transactions have it.

    Returns
    -------
    str
        Name of the column.

    Examples
    --------
    >>> category_column("MEAT-PCKGD")
    'share_meat_pckgd'
    """
    return "share_" + re.sub(r"[^\w]+", "_", category.lower()).strip("_")


def features_table(spec: FeatureSpec) -> tables.Table:
    """Declare `customer_features` with the project's own columns.

    Parameters
    ----------
    spec : FeatureSpec
        The project's categories, attributes and declared features.

    Returns
    -------
    Table
        `ml.tables.CUSTOMER_FEATURES`, followed by the project's features of facts (margin, visits, goals), shares of
        categories, attributes, declared features and contexts.

    Examples
    --------
    >>> features_table(FeatureSpec(categories=("DAIRY",))).names[-1]
    'share_dairy'
    """
    shares = [
        tables.Column(category_column(name), "double", f"share of {name} in the last 90 days' revenue", "0 to 1")
        for name in spec.categories
    ]
    declared = [one.column for one in declared_columns(spec.declared)]
    return tables.CUSTOMER_FEATURES.plus(
        [*spec.of_facts, *shares, *attribute_columns(spec.attributes), *declared, *context_columns(spec.contexts)]
    )


def attribute_columns(attributes: Sequence[Attribute]) -> list[tables.Column]:
    """Declare the columns of attributes."""
    return [tables.Column(a.name, a.type, "attribute of the customer, newest delivery") for a in attributes]
