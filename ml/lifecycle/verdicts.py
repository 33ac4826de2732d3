"""Why a customer is in its stage: which rules hold and which do not, with the comparisons that decide it.

Belongs here: splitting rules into comparisons and evaluating them for one customer. Does not belong here: the words of
a comparison (see `microseg_assets.cli.customer`), and applying rules to everybody (see `stages`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlglot import exp

from ml.engine import Engine
from ml.lifecycle.rules import CUTS, PARAMETERS, StageRule, SubStageRule
from ml.rules import parse_scalar

_SIDES = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.EQ, exp.NEQ)
MISSING, KNOWN = "is missing", "is known"
_OPPOSITE = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "=": "<>", "<>": "=", MISSING: KNOWN, KNOWN: MISSING}


@dataclass(frozen=True)
class Comparison:
    """One comparison of a rule, with one customer's figures.

    Parameters
    ----------
    left : str
        Expression that is compared, mostly a column.
    operator : str
        One of ``>``, ``>=``, ``<``, ``<=``, ``=``, ``<>``, `MISSING` and `KNOWN`; empty for any other condition, which
        `left` then is.
    right : str
        What `left` is compared with: a number, a column, or a parameter without its ``$``.
    value, threshold : object
        Values of both sides for the customer; None where unknown.
    holds : bool or None
        Whether the comparison is true; None where that is unknown.
    """

    left: str
    operator: str
    right: str
    value: Any
    threshold: Any
    holds: bool | None

    @property
    def true_operator(self) -> str:
        """Operator that is true of the customer: the rule's, or its opposite."""
        return self.operator if self.holds else _OPPOSITE.get(self.operator, self.operator)

    @property
    def is_parameter(self) -> bool:
        """Whether the threshold is one that training fixes."""
        return self.right in PARAMETERS or self.right in CUTS


@dataclass(frozen=True)
class Verdict:
    """A rule, whether it holds for the customer, and the comparisons that decide it.

    Parameters
    ----------
    rule : str
        Name of the stage or sub-stage.
    holds : bool
        Whether the rule holds.
    comparisons : tuple of Comparison
        The true comparisons of a rule that holds; the others of a rule that does not.
    """

    rule: str
    holds: bool
    comparisons: tuple[Comparison, ...]


def verdicts(
    engine: Engine,
    customer: Mapping[str, Any],
    rules: Sequence[StageRule | SubStageRule],
    parameters: Mapping[str, float | int | None],
) -> list[Verdict]:
    """Evaluate rules for one customer, up to and including the first that holds.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    customer : mapping of str to object
        The customer's features and value columns.
    rules : sequence of StageRule or SubStageRule
        Stage rules in order, or the sub-stage rules of one stage.
    parameters : mapping of str to float
        Value of each ``$name`` of a rule; None while unknown.

    Returns
    -------
    list of Verdict
        One entry per rule, in order. The last one is the rule that decides, if any holds.

    Examples
    --------
    >>> from ml.engine import DuckDB
    >>> rules = [StageRule("churn", "recency_days > $churn_after"), StageRule("active", "true")]
    >>> churn, active = verdicts(DuckDB(threads=1), {"recency_days": 12}, rules, {"churn_after": 60})
    >>> comparison = churn.comparisons[0]
    >>> comparison.left, comparison.true_operator, comparison.threshold, active.holds
    ('recency_days', '<=', 60, True)
    """
    row = pa.Table.from_pylist([{name: value for name, value in customer.items() if value is not None}])
    known = {name.lower() for name in row.column_names}
    result = []
    for rule in rules:
        verdict = _verdict(engine, row, known, rule, parameters)
        result.append(verdict)
        if verdict.holds:
            break
    return result


def _verdict(
    engine: Engine,
    row: pa.Table,
    known: set[str],
    rule: StageRule | SubStageRule,
    parameters: Mapping[str, float | int | None],
) -> Verdict:
    tree = parse_scalar(rule.when, None, (*PARAMETERS, *CUTS))

    def filled(node: exp.Expr) -> exp.Expr:
        """A column without a value is NULL, and so is a parameter that is not known yet."""
        if isinstance(node, exp.Placeholder):
            value = parameters.get(node.name)
            return exp.null() if value is None else exp.convert(value)
        if isinstance(node, exp.Column) and node.name.lower() not in known:
            return exp.null()
        return node

    atoms = list(_atoms(tree))
    expressions: list[exp.Expr] = [tree]
    for atom in atoms:
        expressions += (
            [atom, atom.this, atom.expression] if isinstance(atom, _SIDES) else [atom, exp.null(), exp.null()]
        )
    query = exp.select(*(exp.alias_(e.copy().transform(filled), f"c{number}") for number, e in enumerate(expressions)))
    values = list(engine.query(query.from_("customer").sql("duckdb"), customer=row).to_pylist()[0].values())
    holds = bool(values[0])
    comparisons = [_comparison(atom, *values[1 + 3 * n : 4 + 3 * n]) for n, atom in enumerate(atoms)]
    return Verdict(rule.name, holds, tuple(c for c in comparisons if bool(c.holds) == holds))


def _atoms(tree: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions that AND, OR and brackets combine, without constants."""
    tree = tree.unnest()
    if isinstance(tree, exp.And | exp.Or):
        yield from _atoms(tree.this)
        yield from _atoms(tree.expression)
    elif not isinstance(tree, exp.Boolean):
        yield tree


def _comparison(atom: exp.Expr, holds: Any, value: Any, threshold: Any) -> Comparison:
    is_negated = isinstance(atom, exp.Not)
    inner = atom.this.unnest() if is_negated else atom
    if isinstance(inner, exp.Is) and isinstance(inner.expression, exp.Null):
        return Comparison(inner.this.sql("duckdb"), KNOWN if is_negated else MISSING, "", None, None, bool(holds))
    if not isinstance(atom, _SIDES):
        return Comparison(atom.sql("duckdb"), "", "", None, None, None if holds is None else bool(holds))
    operator = {"GT": ">", "GTE": ">=", "LT": "<", "LTE": "<=", "EQ": "=", "NEQ": "<>"}[type(atom).__name__]
    right = atom.expression
    name = right.name if isinstance(right, exp.Placeholder) else right.sql("duckdb")
    return Comparison(atom.this.sql("duckdb"), operator, name, value, threshold, None if holds is None else bool(holds))
