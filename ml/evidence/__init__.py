"""Evidence: how much of the next month's spend micro-segments tell, against simpler and finer alternatives.

Belongs here: what needs every step of the chain to be judged, and stands above all of them. Does not belong here: the
choice between a family's models (see each family's `training`).
"""

from ml.evidence.comparison import segment_evidence
from ml.evidence.figures import evidence_figure

__all__ = ["evidence_figure", "segment_evidence"]
