"""What a sum of values rests on: its horizon, the season ahead, and what an unknown season could do to it.

Belongs here: reading that from `customer_value`, and the sentence that accompanies a sum wherever one is shown. Does
not belong here: where it is shown, and the season itself (see `season`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from ml.engine import Engine, Input
from ml.value.currency import Money

NEGLIGIBLE = 0.005  # a factor nearer to 1 is not mentioned


@dataclass(frozen=True)
class Outlook:
    """The season and its risk, common to all values of a day.

    Parameters
    ----------
    season_factor : float
        The mean index of the days ahead; 1 where no season is known.
    risk_low, risk_high : float
        Possible sums as multiples of what is expected, if there is a season that is not known.

    Examples
    --------
    >>> Outlook(season_factor=1.2).columns(2)["season_factor"].to_pylist()
    [1.2, 1.2]
    """

    season_factor: float = 1.0
    risk_low: float = 1.0
    risk_high: float = 1.0

    def columns(self, rows: int) -> dict[str, pa.Array]:
        """Make the columns of `customer_value` that store it.

        Parameters
        ----------
        rows : int
            Number of rows.

        Returns
        -------
        dict of str to pa.Array
            A column of constants per field.
        """
        return {name: pa.array(np.full(rows, float(value))) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Basis:
    """A day's sum of values and what it rests on.

    Parameters
    ----------
    ltv : float
        Sum of lifetime value, in currency.
    horizon_days : int
        Days over which value is counted.
    outlook : Outlook
        The season ahead and its risk.
    value_of : {"revenue", "margin"}, default "revenue"
        What value is reckoned in.

    Examples
    --------
    >>> Basis(12_500.0, 90, Outlook(season_factor=1.2)).words()
    'Over the next 90 days, which the season makes 1.20 times as strong as ordinary days.'
    """

    ltv: float
    horizon_days: int
    outlook: Outlook
    value_of: Money = "revenue"

    @classmethod
    def of(cls, engine: Engine, value: Input) -> Self | None:
        """Read the basis from the rows of `customer_value` of one day.

        Parameters
        ----------
        engine : Engine
            Runs the queries.
        value : pa.Table, pd.DataFrame or Files
            Rows of `customer_value`; those of earlier versions may lack the columns of `Outlook`.

        Returns
        -------
        Basis or None
            None if there are no rows.
        """
        rows = engine.query("SELECT * FROM value LIMIT 1", value=value)
        if not rows.num_rows:
            return None
        total = engine.query("SELECT SUM(ltv) AS ltv FROM value", value=value)["ltv"][0].as_py()
        row = rows.to_pylist()[0]
        known = {name: row[name] for name in vars(Outlook()) if row.get(name) is not None}
        return cls(float(total or 0.0), int(row["horizon_days"]), Outlook(**known), row.get("value_of") or "revenue")

    @property
    def is_at_risk(self) -> bool:
        """Whether a season that is not known could move the sum."""
        return self.outlook.risk_low < 1 - NEGLIGIBLE or self.outlook.risk_high > 1 + NEGLIGIBLE

    def words(self) -> str:
        """Put into a sentence what the sum rests on.

        Returns
        -------
        str
            A sentence or two, with full stops.
        """
        period, outlook = f"the next {self.horizon_days} days", self.outlook
        if self.is_at_risk:
            less, more = 1 - outlook.risk_low, outlook.risk_high - 1
            risks = [f"{less:.0%} less"] if less > NEGLIGIBLE else []
            risks += [f"{more:.0%} more"] if more > NEGLIGIBLE else []
            return (
                f"Over {period}. No earlier year tells the season yet: should there be one, up to {' or '.join(risks)} "
                "may come than this sum says."
            )
        if abs(outlook.season_factor - 1) > NEGLIGIBLE:
            return (
                f"Over {period}, which the season makes {outlook.season_factor:.2f} times as strong as ordinary days."
            )
        return f"Over {period}."
