"""Evidence worlds: small data sets whose truth is fixed by the design (section 8), so that nobody chooses an easy one.

Each world is a pure function of a seed. It returns rows as a learner would get them, the truth that no learner may
read, and `moments()`: what the design states about the world, measured in these very rows. Belongs here: drawing and
measuring worlds. Does not belong here: any claim about a method (see `tests/evidence`), and whole businesses with
stamps and order lines (see `ml.simulate.business`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ml.simulate.worlds.effects import (
    EffectWorld,
    constant_effect,
    hidden_confounding,
    measured_confounding,
    no_effect,
    randomised_effects,
)
from ml.simulate.worlds.layers import LayerWorld, clear_layers, drifting_layers, no_layers, overlapping_layers
from ml.simulate.worlds.moments import Moment
from ml.simulate.worlds.transitions import TransitionWorld, dwell_dependent, memoryless, second_order


class World(Protocol):
    """What every world can do."""

    def moments(self) -> list[Moment]:
        """What the design states about it, measured in its rows."""
        ...


WORLDS: Mapping[str, Callable[[int], World]] = {
    "clear layers": clear_layers,
    "overlapping layers": overlapping_layers,
    "no layers": no_layers,
    "drifting layers": drifting_layers,
    "memoryless": memoryless,
    "second-order": second_order,
    "dwell": dwell_dependent,
    "randomised effects": randomised_effects,
    "no effect": no_effect,
    "constant effect": constant_effect,
    "measured confounding": measured_confounding,
    "hidden confounding": hidden_confounding,
}

__all__ = [
    "WORLDS", "EffectWorld", "LayerWorld", "Moment", "TransitionWorld", "clear_layers", "constant_effect",
    "drifting_layers", "dwell_dependent", "hidden_confounding", "measured_confounding", "memoryless", "no_effect",
    "no_layers", "overlapping_layers", "randomised_effects", "second_order",
]  # fmt: skip
