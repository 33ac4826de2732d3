"""When and where: microseg as software-defined Dagster assets.

The only package that knows Dagster, MLflow and the lake. What is computed lives in `ml`, what must hold of the input in
`expectations`; neither imports this package.
"""

import warnings

# These features are in daily use here and pinned by tests; their warnings would come once per asset and run.
warnings.filterwarnings(
    "ignore", message=r".*(backfill_policy|allow_nonexistent_upstream_partitions|partitions_def on an AssetCheckSpec).*"
)
