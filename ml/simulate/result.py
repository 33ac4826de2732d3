"""What a simulation answers: the rows that the business would bring, and the truth behind them.

Belongs here: the one result of every draw, and the way from it to what models learn from, past files and sources. Does
not belong here: drawing and writing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from ml import tables
from ml.engine import Engine
from ml.features import CustomerHistory, FeatureSpec


@dataclass(frozen=True)
class Simulated:
    """What the business would bring, and what nobody in it knows.

    Parameters
    ----------
    tables : dict of str to pa.Table
        Input tables with the contract's columns, ordered by stamp; stamps are UTC.
    truth : dict of str to pa.Table
        `customers` (latent traits) and `effects` (per exposure: the arm that was given, its propensity, and what each
        action would add to net revenue in the window, in currency) of every business. A shop adds `spells` (who was
        silent when) and `actions` (mean effect per exposure, cost), a whole business `stages` (stays in latent stages)
        and `values` (true lifetime value).

    Examples
    --------
    >>> from ml.simulate import ShopSpec, simulate
    >>> shop = simulate(ShopSpec(customers=20, days=40))
    >>> sorted(shop.tables), sorted(shop.truth)
    (['customers', 'events', 'exposures', 'transactions'], ['actions', 'customers', 'effects', 'spells'])
    """

    tables: dict[str, pa.Table] = field(default_factory=dict)
    truth: dict[str, pa.Table] = field(default_factory=dict)

    def history(self, engine: Engine) -> CustomerHistory:
        """The rows summed up by customer and day; a stamp's own date is its day.

        Parameters
        ----------
        engine : Engine
            Runs the queries.

        Returns
        -------
        CustomerHistory
            The facts that models learn from.
        """
        inputs = {name: tables.INPUTS[name].filled(rows) for name, rows in self.tables.items()}
        return CustomerHistory.from_rows(engine, FeatureSpec(), **inputs)
