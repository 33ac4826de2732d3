"""A made-up business whose truth is known: who customers are, when they are lost and back, what actions do to them.

Belongs here: drawing input tables and the truth behind them from a seed, and writing both to a folder. Does not belong
here: anything that learns from them; nothing in the chain may read the truth.

`spec` says what is simulated, `result` what comes of it; `rows` and `campaigns` make the tables of both draws,
`writing` writes files. Small worlds in which single claims are tested are in `ml.simulate.worlds`.

Two draws
---------
Both answer `Simulated`: rows with the contract's columns, and the truth. They cannot be one draw without changing the
rows of one of them, because the clock and the order of the random numbers are part of the rows:

- `shop` is for tests and `microseg demo --quick`, which need effects to find among 2,000 customers within a second: one
  stream of random numbers for all customers at once, a chance per *day* of falling silent and of coming back, orders
  counted per day, and effects that depend on the customer alone, so that the true effect of each action is one number.
- `business` is for claims about stages, value and scale, which need a law with memory and millions of customers: a
  stream per block of 20,000, six latent stages on a *weekly* clock whose chances depend on how long a customer has been
  in a stage and where it came from, orders counted per week and then given a moment, refunds within the week, effects
  that depend on the stage as well, balances that add up at each week's end, and true lifetime value in closed form.

A shop on the weekly clock would be another shop: other customers on other days in every row that tests and the demo's
partitions rest on. A business on the daily clock would have no closed form of its value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from ml.simulate.business import block
from ml.simulate.result import Simulated
from ml.simulate.shop import shop
from ml.simulate.spec import BLOCK, PRESETS, BusinessSpec, Preset, ShopSpec, SimulatedAction, SimulationSpec
from ml.simulate.writing import write, write_blocks

__all__ = [
    "BLOCK", "PRESETS", "BusinessSpec", "Preset", "ShopSpec", "Simulated", "SimulatedAction", "SimulationSpec", "block",
    "simulate", "write", "write_blocks",
]  # fmt: skip


def simulate(spec: ShopSpec | BusinessSpec) -> Simulated:
    """Draw a whole simulated business in memory. The same spec gives the same rows.

    Parameters
    ----------
    spec : ShopSpec or BusinessSpec
        What is simulated. A large business is better drawn `block` by `block`, or written with `write_blocks`.

    Returns
    -------
    Simulated
        Its rows and the truth behind them; those of a business block after block, each by stamp.

    Examples
    --------
    >>> from ml.simulate import BusinessSpec, ShopSpec, simulate
    >>> simulate(ShopSpec(customers=10, days=30)).tables["customers"].num_rows
    10
    >>> simulate(BusinessSpec(preset="gaming", customers=10, days=30)).tables["customers"].num_rows
    10
    """
    if isinstance(spec, ShopSpec):
        return shop(spec)
    blocks = [block(spec, number) for number in range(spec.blocks)]
    return Simulated(_joined([one.tables for one in blocks]), _joined([one.truth for one in blocks]))


def _joined(parts: Sequence[Mapping[str, pa.Table]]) -> dict[str, pa.Table]:
    return {name: pa.concat_tables([part[name] for part in parts]).unify_dictionaries() for name in parts[0]}
