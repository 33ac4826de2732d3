"""Whole businesses of any size, retail and gaming, with known stages, layers, value and effects.

Customers are drawn in blocks of a fixed size, each from a seed of its own: a block is a pure function of the spec and
its number, so memory does not grow with the business, and the bytes are the same however many blocks are drawn at a
time. Belongs here: the business and its truth. Does not belong here: the project file that feeds it to the chain (see
`microseg_assets.cli.simulate`), the evidence worlds (see `ml.simulate.worlds`).

`law` says how customers move between latent stages and what they are then worth, `people` who they are, `activity` what
they do week by week, `orders`, `retail` and `gaming` the rows that come of it, `truth` what is true of them; `blocks`
puts these together.
"""

from ml.simulate.business.blocks import block
from ml.simulate.business.law import Law, expected_activity, law_of, law_table

__all__ = ["Law", "block", "expected_activity", "law_of", "law_table"]
