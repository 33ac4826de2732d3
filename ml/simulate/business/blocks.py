"""A block of customers: everything they do and all that is true of them, from the spec and the block's number."""

from __future__ import annotations

import numpy as np

from ml.simulate.business.activity import campaigns, orders_of, stages_of, visits_of
from ml.simulate.business.gaming import gaming_rows
from ml.simulate.business.people import people_of
from ml.simulate.business.retail import retail_rows
from ml.simulate.business.rows import customers_table, exposures_table
from ml.simulate.business.spec import PRESETS, BusinessSpec
from ml.simulate.business.truth import truth_of
from ml.simulate.retail import Simulated

_ROWS = {"retail": retail_rows, "gaming": gaming_rows}


def block(spec: BusinessSpec, number: int) -> Simulated:
    """Draw one block. It does not depend on any other, nor on how many there are.

    Returns
    -------
    Input tables ordered by stamp, with the contract's columns, and the truth behind them.
    """
    if not 0 <= number < spec.blocks:
        raise ValueError(f"there is no block {number}: {spec.customers} customers make {spec.blocks}")
    random = np.random.default_rng([spec.seed, list(PRESETS).index(spec.preset), number])
    people = people_of(spec, number, random)
    stages = stages_of(people, spec, random)
    exposed = campaigns(people, stages, spec, random)
    orders = orders_of(people, stages, exposed, spec, random)
    visits = visits_of(people, stages, spec, random)
    given = {
        "customers": customers_table(people, spec, random),
        **_ROWS[spec.preset](people, orders, visits, exposed, spec, random),
        "exposures": exposures_table(people, exposed, spec, random),
    }
    return Simulated(given, truth_of(people, stages, exposed, spec))
