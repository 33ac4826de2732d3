"""What value is reckoned in: net revenue, or gross margin.

Belongs here: which columns of a snapshot are that money. Does not belong here: how they are summed (see `ml.features`).

Inside this package the columns of `spend` are the money that value is reckoned in. Where that is margin, a snapshot is
turned around where it enters: the sums of margin change names with those of spend, so both remain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import pyarrow as pa

Money = Literal["revenue", "margin"]
KINDS: tuple[Money, ...] = get_args(Money)
_MARGIN_OF: Mapping[str, str] = {
    "spend": "margin", "first_day_spend": "first_day_margin", "spend_28d": "margin_28d", "spend_90d": "margin_90d",
    "spend_prev_28d": "margin_prev_28d",
}  # fmt: skip
_OTHER = {**_MARGIN_OF, **{margin: spend for spend, margin in _MARGIN_OF.items()}}


def exchange(names: Iterable[str], of: Money) -> tuple[str, ...]:
    """Exchange the names of spend and margin where value is reckoned in margin; twice gives the same names again.

    Parameters
    ----------
    names : iterable of str
        Columns of a snapshot, by their own names or by those inside of this package.
    of : {"revenue", "margin"}
        What value is reckoned in.

    Returns
    -------
    tuple of str
        The other names.

    Examples
    --------
    >>> exchange(["orders_90d", "spend_90d"], "margin")
    ('orders_90d', 'margin_90d')
    """
    return tuple(_OTHER.get(name, name) if of == "margin" else name for name in names)


def reckon(snapshot: pa.Table, of: Money) -> pa.Table:
    """Exchange spend and margin in a snapshot where value is reckoned in margin; twice gives the same snapshot again.

    Parameters
    ----------
    snapshot : pa.Table
        Columns by their own names or by those inside of this package.
    of : {"revenue", "margin"}
        What value is reckoned in.

    Returns
    -------
    pa.Table
        The same columns under the other names.

    Raises
    ------
    ValueError
        If value is reckoned in margin and the snapshot has no sums of it.

    Examples
    --------
    >>> snapshot = pa.table({"spend_90d": [90.0], "margin_90d": [30.0]})
    >>> reckon(snapshot, "margin")["spend_90d"].to_pylist()
    [30.0]
    """
    names = set(snapshot.column_names)
    absent = [margin for spend, margin in _MARGIN_OF.items() if spend in names and margin not in names]
    if of == "margin" and absent:
        raise ValueError(f"value is reckoned in margin, but the snapshot has no {', '.join(absent)}")
    return snapshot.rename_columns(list(exchange(snapshot.column_names, of)))
