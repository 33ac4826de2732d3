"""Every table's columns, once: names, types, units and meaning.

Belongs here: the contract of each table that enters (`inputs`), crosses or leaves the chain (`outputs`). The Dagster
column schema, the Great Expectations suites, the simulator and the lake's typed empty partitions all derive from these
declarations. Does not belong here: rules about values (see `expectations`) and how a table is computed.

Each table of the lake also has a partition column (`day` or `week`), which is not repeated in its declaration.
Stamps are UTC without a zone; days are calendar days in the project's time zone.
"""

from ml.tables.arms import CONTROL, arm_of, arms_table, is_control
from ml.tables.contract import ARROW, CUSTOMER_ID, SQL, Column, Table, Type
from ml.tables.inputs import BALANCES, CUSTOMERS, EVENTS, EXPOSURES, INPUTS, TRANSACTIONS
from ml.tables.outputs import (
    ACTION_EFFECTS,
    ACTION_PLAN,
    AUDIENCES,
    CATEGORY_DAYS,
    CLUSTER_LINEAGE,
    CUSTOMER_DAYS,
    CUSTOMER_FEATURES,
    CUSTOMER_VALUE,
    EXPOSURE_OUTCOMES,
    GOAL_FEATURES,
    JOURNEY_FORECASTS,
    LAYER_ASSIGNMENTS,
    LIFECYCLE_STAGES,
    MARGIN_FEATURES,
    MICRO_SEGMENT_PROFILES,
    MICRO_SEGMENTS,
    MODEL_CHOICES,
    MOVEMENTS,
    ORDER_DAYS,
    OUTPUTS,
    QUARANTINE,
    SEGMENT_ATLAS,
    SEGMENT_EVIDENCE,
    VISIT_FEATURES,
)

__all__ = [
    "ACTION_EFFECTS", "ACTION_PLAN", "ARROW", "AUDIENCES", "BALANCES", "CATEGORY_DAYS", "CLUSTER_LINEAGE", "CONTROL",
    "CUSTOMERS", "CUSTOMER_DAYS", "CUSTOMER_FEATURES", "CUSTOMER_ID", "CUSTOMER_VALUE", "EVENTS", "EXPOSURES",
    "EXPOSURE_OUTCOMES", "GOAL_FEATURES", "INPUTS", "JOURNEY_FORECASTS", "LAYER_ASSIGNMENTS", "LIFECYCLE_STAGES",
    "MARGIN_FEATURES", "MICRO_SEGMENTS", "MICRO_SEGMENT_PROFILES", "MODEL_CHOICES", "MOVEMENTS", "ORDER_DAYS",
    "OUTPUTS", "QUARANTINE", "SEGMENT_ATLAS", "SEGMENT_EVIDENCE", "SQL", "TRANSACTIONS", "VISIT_FEATURES", "Column",
    "Table", "Type", "arm_of", "arms_table", "is_control",
]  # fmt: skip
