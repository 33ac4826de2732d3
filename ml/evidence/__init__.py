"""Evidence: how much of next month's spend micro-segments explain, against simpler and finer alternatives.

Belongs here: comparisons that need every step of the chain, and so stand above all of them. Does not belong here: the
choice between a family's models (see each family's `training`).
"""

from ml.evidence.comparison import segment_evidence
from ml.evidence.figures import evidence_figure

__all__ = ["evidence_figure", "segment_evidence"]
