"""A made-up business whose truth is known: who customers are, when they are lost and back, what actions do to them.

Belongs here: drawing input tables and the truth behind them from a seed, and writing both to a folder. Does not belong
here: anything that learns from them; nothing in the chain may read the truth.

Three things live here: the small shop of `microseg demo --quick` (this module), whole businesses of any size
(`ml.simulate.business`, behind `microseg simulate`), and the worlds in which claims are tested (`ml.simulate.worlds`).
"""

from ml.simulate.retail import Simulated, simulate
from ml.simulate.world import SimulatedAction, SimulationSpec
from ml.simulate.write import write

__all__ = ["Simulated", "SimulatedAction", "SimulationSpec", "simulate", "write"]
