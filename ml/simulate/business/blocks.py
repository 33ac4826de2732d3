"""A block of customers: everything they do and all that is true of them, from the spec and the block's number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ml.simulate.business.activity import campaigns, orders_of, stages_of, visits_of
from ml.simulate.business.gaming import gaming_rows
from ml.simulate.business.orders import customer_ids
from ml.simulate.business.people import People, people_of
from ml.simulate.business.retail import retail_rows
from ml.simulate.business.truth import truth_of
from ml.simulate.campaigns import exposures_table
from ml.simulate.result import Simulated
from ml.simulate.rows import customers_table, moments
from ml.simulate.spec import PRESETS, BusinessSpec
from ml.simulate.vocabulary import OPENS

_ROWS = {"retail": retail_rows, "gaming": gaming_rows}


def block(spec: BusinessSpec, number: int) -> Simulated:
    """Draw one block of a business. It does not depend on any other, nor on how many there are.

    Parameters
    ----------
    spec : BusinessSpec
        The whole business.
    number : int
        The block's number, from 0.

    Returns
    -------
    Simulated
        The block's rows, and the truth behind them.

    Raises
    ------
    ValueError
        If the business has no such block.

    Examples
    --------
    >>> from ml.simulate import BusinessSpec, block
    >>> sorted(block(BusinessSpec(preset="gaming", customers=10, days=28), 0).tables)
    ['balances', 'customers', 'events', 'exposures', 'transactions']
    """
    if not 0 <= number < spec.blocks:
        raise ValueError(f"there is no block {number}: {spec.customers} customers make {spec.blocks}")
    random = np.random.default_rng([spec.seed, list(PRESETS).index(spec.preset), number])
    people = people_of(spec, number, random)
    stages = stages_of(people, spec, random)
    exposed = campaigns(people, stages, spec, random)
    orders = orders_of(people, stages, exposed, spec, random)
    visits = visits_of(people, stages, spec, random)
    rows = {
        "customers": _customers(people, spec, random),
        **_ROWS[spec.preset](people, orders, visits, exposed, spec, random),
        "exposures": exposures_table(
            customer_ids(people), exposed, spec.kind.actions, spec.start, random, is_randomised=spec.randomised
        ),
    }
    return Simulated(rows, truth_of(people, stages, exposed, spec))


def _customers(people: People, spec: BusinessSpec, random: np.random.Generator) -> pa.Table:
    seconds = moments(people.registered, 0, OPENS, random)
    age = np.where(random.random(len(people)) < 0.1, -1, people.age)
    return customers_table(customer_ids(people), seconds, age, people.region, people.device, spec.start)
