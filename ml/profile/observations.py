"""What a profile of delivered data has shown: a code with its figures.

Belongs here: the codes, and the names of each one's figures. Does not belong here: making observations, and wording
them (see `microseg_assets.check.advice`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """What can be observed of a table. In brackets: its parameters; shares are between 0 and 1."""

    # ids
    PLACEHOLDER_IDS = "placeholder_ids"  # (ids; rows; share: of all rows)
    ROUNDED_IDS = "rounded_ids"  # (example; ids; rows; share)
    HEAVY_ID = "heavy_id"  # (id; orders; share: of all orders; usual: orders of the id at the 95th percentile)
    SPELLINGS = "spellings"  # (kinds: blanks, unicode, case; ids; customers: once merged; example: two spellings)
    FLOAT_IDS = "float_ids"  # (example: as delivered; read: what it becomes; share: of the ids)
    NOBODY_RETURNS = "nobody_returns"  # (customers; returning; orders)
    # whether the ids of two tables match
    IDS_KNOWN = "ids_known"  # (other; ids; known; of_other: ids of the other; known_here)
    # The same, and (form: of FORMS, or empty; known_united; apply: the tables whose ids it changes; example;
    # example_other)
    IDS_DO_NOT_MEET = "ids_do_not_meet"
    # orders
    ORDERS_ON_SEVERAL_DAYS = "orders_on_several_days"  # (orders; several; share; longest: days between first and last)
    ORDER_IDS_SHARED = "order_ids_shared"  # (orders; shared; share; example)
    ORDERS_COME_AGAIN = "orders_come_again"  # (orders; again; share; column: that differs; example)
    NO_TRANSACTION_ID = "no_transaction_id"  # (columns: unmapped ones with a different value in every row)
    # days
    STRAY_DAYS = "stray_days"  # (rows; days: the stray ones; first; last: of the others)
    FUTURE_ROWS = "future_rows"  # (rows; first; last; today)
    CLOSED_WEEKDAYS = "closed_weekdays"  # (weekdays: numbers, Monday is 0)
    MISSING_DAYS = "missing_days"  # (missing; days; first; last; longest)
    CLOSED_SEASON = "closed_season"  # (first; last; days)
    # labels
    SEVERAL_CURRENCIES = "several_currencies"  # (column; values: code to share of rows)
    ORDER_STATES = "order_states"  # (column; values: the doubtful ones to share of rows; others)
    SIGN_IN_COLUMN = "sign_in_column"  # (column; values: of money going back; rows; share; above: rows not below 0)
    # unmapped columns of numbers, under the names that the source gives them
    PRICE_OF_A_PIECE = "price_of_a_piece"  # (column: that is amount times quantity; quantity; share: of the rows)
    QUANTITY = "quantity"  # (column: the number of pieces, since amount is column times price; price; share)
    NET_TOTAL = "net_total"  # (column: amount, or less than it; equal: share of the rows; ratio: of both sums)
    # customers
    # (attribute; how: equals, grows with, falls with, knows, distinguishes; of: which sum; figure)
    FORETELLING = "foretelling"
    REGISTERED_LATE = "registered_late"  # (customers; late; share)
    # files
    NEW_COLUMN = "new_column"  # (column; files; of; first: the first file that has it)


@dataclass(frozen=True)
class Observation:
    """One observation about a table.

    Parameters
    ----------
    code : Code
        What was observed.
    table : str
        Name of the input table.
    parameters : mapping of str to object, optional
        The figures, under the names given beside the code.

    Examples
    --------
    >>> observation = Observation(Code.REGISTERED_LATE, "customers", {"customers": 80, "late": 20, "share": 0.25})
    >>> observation["share"]
    0.25
    """

    code: Code
    table: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]
