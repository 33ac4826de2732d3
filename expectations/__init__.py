"""What delivered rows must satisfy: row rules, suites, the verdict on a day, and the page that shows it.

Belongs here: when a row is refused and under which rule, when a day is refused, and how that is shown. Everything
derives from the declarations in `ml.tables`. Does not belong here: how rows are read (`microseg_assets.sources`), where
accepted rows are stored, and any orchestrator.
"""

from __future__ import annotations

from expectations.past import Past
from expectations.rules import CustomerIdsSpec, RowRule, RuleSpec, ValidationSpec, row_rules, rule_names
from expectations.validation import Validation, validate
from expectations.verdicts import Verdict

__all__ = [
    "CustomerIdsSpec",
    "Past",
    "RowRule",
    "RuleSpec",
    "Validation",
    "ValidationSpec",
    "Verdict",
    "row_rules",
    "rule_names",
    "validate",
]
