"""What a sum of values rests on: its horizon, what the season makes of it, and what a season nobody knows could.

Belongs here: reading that from `customer_value`, and the words that stand beside a sum wherever one is shown. Does not
belong here: where it is shown, and the season itself (see `season`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from ml.engine import Engine, Input

NEAR = 0.005  # a factor that is nearer to 1 is not worth a word


@dataclass(frozen=True)
class Outlook:
    """What holds for all values of a day.

    Parameters
    ----------
    season_factor : the mean index of the days ahead; 1 where no season is known, missing in tables of earlier versions
    risk_low, risk_high : what may come, as multiples of what is expected, if there is a season that is not known
    """

    season_factor: float = 1.0
    risk_low: float = 1.0
    risk_high: float = 1.0

    def columns(self, rows: int) -> dict[str, pa.Array]:
        """The columns of `customer_value` that carry it."""
        return {name: pa.array(np.full(rows, float(value))) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Basis:
    """A day's sum of values and what it rests on."""

    ltv: float
    horizon_days: int
    outlook: Outlook

    @classmethod
    def of(cls, engine: Engine, value: Input) -> Self | None:
        """From the rows of `customer_value` of one day; None if there are none."""
        rows = engine.query("SELECT * FROM value LIMIT 1", value=value)
        if not rows.num_rows:
            return None
        total = engine.query("SELECT SUM(ltv) AS ltv FROM value", value=value)["ltv"][0].as_py()
        one = rows.to_pylist()[0]
        known = {name: one[name] for name in vars(Outlook()) if one.get(name) is not None}
        return cls(float(total or 0.0), int(one["horizon_days"]), Outlook(**known))

    @property
    def is_at_risk(self) -> bool:
        """Whether a season that is not known could move the sum."""
        return self.outlook.risk_low < 1 - NEAR or self.outlook.risk_high > 1 + NEAR

    def words(self) -> str:
        """The sentence that stands beside the sum."""
        ahead, outlook = f"the next {self.horizon_days} days", self.outlook
        if self.is_at_risk:
            less, more = 1 - outlook.risk_low, outlook.risk_high - 1
            risks = [f"{less:.0%} less"] if less > NEAR else []
            risks += [f"{more:.0%} more"] if more > NEAR else []
            return (
                f"Over {ahead}. No earlier year tells the season yet: should there be one, up to {' or '.join(risks)} "
                "may come than this sum says."
            )
        if abs(outlook.season_factor - 1) > NEAR:
            return f"Over {ahead}, which the season makes {outlook.season_factor:.2f} times as strong as ordinary days."
        return f"Over {ahead}."
