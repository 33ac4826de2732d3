"""Row rules: when a single row is refused, and under which name.

Belongs here: one SQL predicate per rule, derived from a table's declared columns and a few stated limits. Does not
belong here: when a whole day is refused (see `expectations.suites` and, for its thresholds, `expectations.thresholds`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sqlglot import exp

from expectations.thresholds import FreshnessSpec, ReferenceSpec, Severity, ShiftSpec, VolumeSpec
from ml.engine import quoted
from ml.rules import parse_scalar
from ml.tables import Column, Table, ids

DELIVERED_BEFORE = "file: delivered before"
NO_CUSTOMER = "customer_id: not a customer"
ROUNDED_ID = "customer_id: rounded by a spreadsheet"
REPEATED = "row: equal to another"
Duplicates: TypeAlias = Literal["keep", "keep one", "refuse"]
_CONVERSIONS = {
    "double": "not a number", "bigint": "not a number", "timestamp": "not a time", "date": "not a date",
    "boolean": "not true or false",
}  # fmt: skip
_PROBABILITIES = {"propensity"}
_AT_LEAST_ZERO = {"discount", "cost"}
# Money and units are summed as decimals with 14 digits before the point; a line must leave room for many.
_SUMMABLE = 1e12
# Sums of decimals in floating point miss zero by less than this.
MAX_FINITE = "1.7976931348623157e308"  # the largest double: infinity is more, and so is NaN
_ROUNDING = 1e-6


@dataclass(frozen=True)
class RuleSpec:
    """A row rule of the project file.

    Parameters
    ----------
    table : the input table it is about
    name : the rule under which rows are refused
    holds : a scalar SQL predicate over the table's columns; a row for which it is false or missing is refused
    """

    table: str
    name: str
    holds: str


@dataclass(frozen=True)
class CustomerIdsSpec:
    """Ids whose rows are left out: they go to quarantine and do not count against their day.

    Parameters
    ----------
    not_customers : ids that stand for nobody, or for many: `n/a`, `-1`, `GUEST`, a till's own number; compared without
        regard to case or surrounding blanks
    rounded : ``refuse`` for ids in scientific notation (`4.10003E+12`), each of which stands for several customers
    """

    not_customers: tuple[str, ...] = ()
    rounded: Literal["keep", "refuse"] = "keep"


@dataclass(frozen=True)
class ValidationSpec:
    """What is accepted.

    Parameters
    ----------
    max_refused_share : largest share of a day's rows that may be refused; beyond it the day is refused
    min_refused_rows : a day with fewer refused rows is never refused, whatever share of a small day they are; no effect
        if `max_refused_share` is 0
    duplicates : what happens to rows that are equal in every mapped column, where no key distinguishes them:
        ``keep`` all, since a till may well write the same line twice; ``keep one`` and quarantine the others, for
        exports that overlap; or ``refuse`` the others, and the day if there are too many
    amount_limit, quantity_limit : largest plausible absolute value of a line
    min_rows : table to the fewest rows that a day must have; without it, a day without rows passes
    severity : rule to ``warning``: its rows are refused but do not count towards `max_refused_share`; or to ``error``:
        all of them count. By default a file delivered twice does not count, nor does a repeat with nothing new in it
        (see `expectations.refusals`)
    rules : row rules of the project file
    ids : which ids are not customers
    references, freshness, volume, shift : how far a day as a whole may deviate from the days before
    """

    max_refused_share: float = 0.05
    min_refused_rows: int = 3
    duplicates: Duplicates = "keep"
    amount_limit: float = 1e6
    quantity_limit: float = 1e9
    min_rows: dict[str, int] = field(default_factory=dict)
    severity: dict[str, Severity] = field(default_factory=dict)
    rules: tuple[RuleSpec, ...] = ()
    ids: CustomerIdsSpec = field(default_factory=CustomerIdsSpec)
    references: ReferenceSpec = field(default_factory=ReferenceSpec)
    freshness: FreshnessSpec = field(default_factory=FreshnessSpec)
    volume: VolumeSpec = field(default_factory=VolumeSpec)
    shift: ShiftSpec = field(default_factory=ShiftSpec)

    def __post_init__(self) -> None:
        if not 0 <= self.max_refused_share < 1:
            raise ValueError(f"max_refused_share is {self.max_refused_share}: write a share from 0 up to, but not, 1")
        if self.min_refused_rows < 1:
            raise ValueError(f"min_refused_rows is {self.min_refused_rows}: write a whole number, 1 or more")
        object.__setattr__(self, "severity", {DELIVERED_BEFORE: "warning"} | self.severity)
        for name in ("amount_limit", "quantity_limit"):
            if not 0 < getattr(self, name) <= _SUMMABLE:
                raise ValueError(f"{name} is {getattr(self, name):g}: it must lie above 0 and at most at {_SUMMABLE:g}")

    def severity_of(self, rule: str) -> Severity:
        """Whether the rows that a rule refuses count against their day; rows left out on purpose do not."""
        return self.severity.get(rule, "warning" if rule in (NO_CUSTOMER, ROUNDED_ID) else "error")

    def allowed(self, rows: int) -> int:
        """How many of a day's rows may be refused without the day being refused.

        A share alone would refuse a day of 13 rows for a single one. A few rows are no estimate of a share, so below
        `min_refused_rows` no day is refused; from there on the share applies as written, to days of any size.
        """
        if not self.max_refused_share:
            return 0
        return min(rows, max(math.floor(self.max_refused_share * rows + _ROUNDING), self.min_refused_rows - 1))

    def mostly(self, rows: int) -> float:
        """The share of a day's rows that must not be refused."""
        return (rows - self.allowed(rows)) / rows if rows else 1.0


@dataclass(frozen=True)
class RowRule:
    """`broken` is a SQL predicate over one delivered row; `lower` and `upper` bound the column in a suite."""

    name: str
    column: str
    broken: str
    lower: float | None = None
    upper: float | None = None
    required: bool = False


def row_rules(table: Table, spec: ValidationSpec) -> tuple[RowRule, ...]:
    """The rules of an input table, in the order in which they are tried: a row is refused under the first it breaks."""
    rules = [rule for column in table.columns for rule in _column_rules(table, column, spec)]
    for rule in spec.rules:
        if rule.table == table.name:
            holds = parse_scalar(rule.holds, table.names).sql("duckdb")
            rules.append(RowRule(rule.name, "", f"NOT coalesce(({holds}), false)"))
    return tuple(rules)


def _column_rules(table: Table, column: Column, spec: ValidationSpec) -> list[RowRule]:
    name, sql = column.name, quoted(column.name)
    rules = []
    if column.required:
        blank = f" OR trim({sql}) = ''" if column.type == "string" else ""
        rules.append(RowRule(f"{name}: missing", name, f"{sql} IS NULL{blank}", required=True))
    if name == ids.CUSTOMER:
        rules += _id_rules(spec.ids)
    if column.type == "double":
        rules.append(RowRule(f"{name}: not finite", name, f"isnan({sql}) OR abs({sql}) > {MAX_FINITE}"))
        limit = spec.quantity_limit if name == "quantity" else spec.amount_limit if column.unit == "currency" else None
        if limit is not None:
            rules.append(RowRule(f"{name}: beyond ±{limit:,.10g}", name, f"abs({sql}) > {limit!r}", -limit, limit))
        if name in _PROBABILITIES:
            rules.append(RowRule(f"{name}: not between 0 and 1", name, f"{sql} < 0 OR {sql} > 1", 0, 1))
        if name in _AT_LEAST_ZERO:
            rules.append(RowRule(f"{name}: below 0", name, f"{sql} < -{_ROUNDING!r}", -_ROUNDING))
    if name == table.stamp:
        # A local day lies within a day either side of the UTC day of its name, whatever the zone.
        late = f"{sql} >= CAST(day AS TIMESTAMP) + INTERVAL 2 DAY"
        early = f" OR {sql} < CAST(day AS TIMESTAMP) - INTERVAL 1 DAY" if column.required else ""
        rules.append(RowRule(f"{name}: outside of its day", name, late + early))
    return rules


def _id_rules(spec: CustomerIdsSpec) -> list[RowRule]:
    rules = []
    if spec.not_customers:
        listed = ", ".join(exp.Literal.string(one.strip().lower()).sql("duckdb") for one in spec.not_customers)
        rules.append(RowRule(NO_CUSTOMER, ids.CUSTOMER, f"{ids.bare(ids.CUSTOMER)} IN ({listed})"))
    if spec.rounded == "refuse":
        rules.append(RowRule(ROUNDED_ID, ids.CUSTOMER, ids.is_rounded(ids.CUSTOMER)))
    return rules


def unique_key(table: Table) -> tuple[str, ...]:
    """The columns whose values together must be unique within a day; rows that lack one are not compared."""
    return table.key or (("transaction_id",) if "transaction_id" in table.names else ())


def duplicate_rule(table: Table) -> str | None:
    """The rule under which a repeated key is refused; None if the table has no key."""
    key = unique_key(table)
    return f"{', '.join(key)}: duplicate" if key else None


def rule_names(table: Table, spec: ValidationSpec | None = None) -> list[str]:
    """Every rule under which a row of the table can be refused, in the order in which they are tried."""
    converted = [f"{c.name}: {_CONVERSIONS[c.type]}" for c in table.columns if c.type in _CONVERSIONS]
    names = [DELIVERED_BEFORE, *converted, *(rule.name for rule in row_rules(table, spec or ValidationSpec()))]
    duplicate = duplicate_rule(table)
    names += [duplicate] if duplicate else []
    return names if table.key else [*names, REPEATED]
