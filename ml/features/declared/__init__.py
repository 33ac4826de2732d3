"""Declared features: what a project measures of its own rows, besides the features that every project has.

A declaration names a table, a predicate, a measure and windows, and becomes one column for each window, measure and
value of a column. Belongs here: declarations, their checks, and computing them. Does not belong here: the features that
every project has (see `ml.features`).
"""

from ml.features.declared.checks import Problem, problems
from ml.features.declared.columns import DeclaredColumn, declared_columns
from ml.features.declared.computing import compute
from ml.features.declared.spec import DATED, By, DeclaredFeature, DeclaredSpec, Ratio

__all__ = [
    "DATED",
    "By",
    "DeclaredColumn",
    "DeclaredFeature",
    "DeclaredSpec",
    "Problem",
    "Ratio",
    "compute",
    "declared_columns",
    "problems",
]
