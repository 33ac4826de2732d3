"""The small shop: a daily clock, two latent states (buying and silent), all customers drawn at once.

Belongs here: its world and the rows that come of it. Does not belong here: whole businesses (see
`ml.simulate.business`).
"""

from ml.simulate.shop.rows import shop

__all__ = ["shop"]
