"""Segments: micro-segments made of stages and clusters, audiences, and profiles of both.

Belongs here: memberships of a day, and summing them up. Does not belong here: the clusters (`ml.layers`), how customers
move between groups (`ml.journeys`), and what groups explain (`ml.evidence`).
"""

from ml.layers import LayerModels as LayerModels  # registered models store this name; it is offered by `ml.layers`
from ml.segments.audiences import DEFAULT_AUDIENCES, AudienceSpec, audiences
from ml.segments.micro_segments import micro_segments
from ml.segments.profiles import profiles

__all__ = ["DEFAULT_AUDIENCES", "AudienceSpec", "audiences", "micro_segments", "profiles"]
