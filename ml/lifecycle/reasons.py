"""Why a customer is in its stage: which rule holds, which do not, and the figures that each was held against.

Belongs here: taking rules apart into comparisons and evaluating them for one customer. Does not belong here: the words
in which a comparison is told (see `microseg_assets.cli.customer`), and applying rules to everybody (see `stages`).
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
    left : the expression that is compared, mostly a column
    operator : ``>``, ``>=``, ``<``, ``<=``, ``=``, ``<>``, `MISSING`, `KNOWN`; empty for any other condition, which
        `left` then is
    right : what it is compared with: a number, a column, or a parameter without its ``$``
    value, threshold : what both sides are for the customer; None where unknown
    holds : whether the comparison is true; None where it cannot be told
    """

    left: str
    operator: str
    right: str
    value: Any
    threshold: Any
    holds: bool | None

    @property
    def as_it_is(self) -> str:
        """The operator that is true of the customer: the written one, or its opposite."""
        return self.operator if self.holds else _OPPOSITE.get(self.operator, self.operator)

    @property
    def is_parameter(self) -> bool:
        """Whether the threshold is one that training fixes."""
        return self.right in PARAMETERS or self.right in CUTS


@dataclass(frozen=True)
class Verdict:
    """A rule, whether it holds for the customer, and the comparisons that decide it.

    `comparisons` : those that agree with `holds`: of a rule that holds the true ones, of one that does not the others
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
    """What each rule says of one customer, up to and including the first that holds.

    Parameters
    ----------
    customer : column to value: the customer's features and value columns
    rules : stage rules in their order, or the sub-stage rules of one stage
    parameters : what stands behind each ``$name``

    Returns
    -------
    One entry per rule, in order. The last one is the rule that put the customer where it is, if any holds.
    """
    row = pa.Table.from_pylist([{name: value for name, value in customer.items() if value is not None}])
    known = {name.lower() for name in row.column_names}
    found = []
    for rule in rules:
        one = _verdict(engine, row, known, rule, parameters)
        found.append(one)
        if one.holds:
            break
    return found


def _verdict(
    engine: Engine,
    row: pa.Table,
    known: set[str],
    rule: StageRule | SubStageRule,
    parameters: Mapping[str, float | int | None],
) -> Verdict:
    tree = parse_scalar(rule.when, None, (*PARAMETERS, *CUTS))

    def filled(node: exp.Expr) -> exp.Expr:
        """A column that the customer has no value of is NULL, and so is a parameter that is not known yet."""
        if isinstance(node, exp.Placeholder):
            value = parameters.get(node.name)
            return exp.null() if value is None else exp.convert(value)
        if isinstance(node, exp.Column) and node.name.lower() not in known:
            return exp.null()
        return node

    atoms = list(_atoms(tree))
    asked: list[exp.Expr] = [tree]
    for atom in atoms:
        asked += [atom, atom.this, atom.expression] if isinstance(atom, _SIDES) else [atom, exp.null(), exp.null()]
    query = exp.select(*(exp.alias_(one.copy().transform(filled), f"c{n}") for n, one in enumerate(asked)))
    values = list(engine.query(query.from_("customer").sql("duckdb"), customer=row).to_pylist()[0].values())
    holds = bool(values[0])
    comparisons = [_comparison(atom, *values[1 + 3 * place : 4 + 3 * place]) for place, atom in enumerate(atoms)]
    return Verdict(rule.name, holds, tuple(one for one in comparisons if bool(one.holds) == holds))


def _atoms(tree: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions that AND, OR and brackets put together; a constant is none."""
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
