"""How customers move: who changed group since yesterday and why, and where each is likely to be next.

Belongs here: movements between two days with their cause, paths, the transition model on a weekly clock, forecasts and
the Markov value of a state. Does not belong here: what a stage or a micro-segment is (see `ml.lifecycle` and
`ml.segments`), and how a past day is recomputed under today's models (see `ml.restate`).
"""

from ml.journeys.forecasts import forecast, markov_value
from ml.journeys.movements import movements, path, summary
from ml.journeys.training import train
from ml.journeys.transitions import TransitionModel, TransitionSpec

__all__ = [
    "TransitionModel", "TransitionSpec", "forecast", "markov_value", "movements", "path", "summary", "train",
]  # fmt: skip
