"""When and where: microseg as software-defined Dagster assets.

The only package that uses Dagster, MLflow and the lake. The computation is in `ml`, the validation of input in
`expectations`; neither imports this package.
"""

import warnings

# These features are in use and pinned by tests; without the filter, they warn once per asset and run.
warnings.filterwarnings(
    "ignore", message=r".*(backfill_policy|allow_nonexistent_upstream_partitions|partitions_def on an AssetCheckSpec).*"
)
