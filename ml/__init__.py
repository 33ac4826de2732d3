"""What microseg computes: features, value, stages, segments, journeys, actions.

Everything here is usable alone: tables in, tables or models out. Nothing in this package knows Dagster, MLflow, the
lake or the project file; those live in `microseg_assets`. An import test keeps it so.
"""
