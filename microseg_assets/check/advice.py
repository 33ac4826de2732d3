"""Observations in words: the evidence, and the setting that answers it.

Belongs here: one sentence for each code of `ml.profile`. Does not belong here: making observations, and printing
them (see `check.report` and `scaffold`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml
from sqlglot import exp

from ml.engine import quoted
from ml.profile import Code, Observation
from ml.profile.ids import FORMS, merged_sql
from ml.rules import RuleError, parse_scalar


@dataclass(frozen=True)
class Advice:
    """One observation in words.

    Parameters
    ----------
    evidence : what was observed
    remedy : the setting that answers it
    is_warning : whether it asks for an answer, rather than being merely worth knowing
    """

    evidence: str
    remedy: str = ""
    is_warning: bool = True

    def __str__(self) -> str:
        return f"{self.evidence}: {self.remedy}" if self.remedy else self.evidence


Ids: TypeAlias = Mapping[str, str]  # table to the SQL of its `customer_id` as a text


def advice(observation: Observation, ids: Ids) -> Advice:
    """The words for an observation."""
    return _WORDS[observation.code]({**observation.parameters, "table": observation.table}, ids)


def _placeholder(p: Mapping[str, Any], _: Ids) -> Advice:
    kind = "is a placeholder, not a customer" if len(p["ids"]) == 1 else "are placeholders, not customers"
    evidence = f"{_quoted(p['ids'])} {kind}, in {p['rows']:,} rows ({p['share']:.1%})"
    return Advice(evidence, f"leave them out with validation.ids.not_customers: {_yaml_list(p['ids'])}")


def _rounded(p: Mapping[str, Any], _: Ids) -> Advice:
    evidence = (
        f"{p['ids']:,} ids such as {p['example']} have been rounded by a spreadsheet, in {p['share']:.1%} of the rows"
    )
    return Advice(evidence, "several customers share an id; export them as text, or set validation.ids.rounded: refuse")


def _heavy(p: Mapping[str, Any], _: Ids) -> Advice:
    usual = f"95 % of the ids have at most {p['usual']:,}"
    evidence = f"the id {p['id']!r} has {p['share']:.0%} of all orders ({p['orders']:,}; {usual})"
    return Advice(
        evidence,
        f"if it is a till or a guest account, list it in validation.ids.not_customers: {_yaml_list([p['id']])}",
    )


_KINDS = {"blanks": "blanks", "unicode": "Unicode forms", "case": "case"}


def _spellings(p: Mapping[str, Any], ids: Ids) -> Advice:
    one, other = p["example"]
    kinds = " and ".join(_KINDS[kind] for kind in p["kinds"])
    evidence = f"{p['ids']:,} ids are {p['customers']:,} if {kinds} are ignored, such as {one!r} and {other!r}"
    return Advice(evidence, f"merge them with customer_id: {merged_sql(tuple(p['kinds']), ids[p['table']])}")


def _float_ids(p: Mapping[str, Any], _: Ids) -> Advice:
    return Advice(
        f"{p['share']:.0%} of the ids were delivered as numbers: {p['example']} is read as {p['read']}", "", False
    )


def _nobody(p: Mapping[str, Any], _: Ids) -> Advice:
    evidence = f"of {p['customers']:,} customers, {p['returning']:,} have bought on a second day"
    remedy = "if customer_id is the id of an order, map the customer's id; stages and value need customers who return"
    return Advice(evidence, remedy)


def _known(p: Mapping[str, Any], _: Ids) -> Advice:
    return Advice(f"{p['known']:,} of its {p['ids']:,} ids occur in {p['other']} ({p['of_other']:,} ids)", "", False)


def _no_meeting(p: Mapping[str, Any], ids: Ids) -> Advice:
    evidence = (
        f"{p['known']:,} of its {p['ids']:,} ids occur in {p['other']} ({p['of_other']:,} ids), such as "
        f"{p['example']!r} here and {p['example_other']!r} there"
    )
    if not p["form"]:
        return Advice(evidence, "map the same id in both tables, or declare in ids which belong together")
    each = [f"customer_id: {FORMS[p['form']].replace('{id}', ids[table])} in {table}" for table in p["apply"]]
    return Advice(evidence, f"{p['known_united']:,} match with {' and '.join(each)}")


def _several_days(p: Mapping[str, Any], _: Ids) -> Advice:
    evidence = (
        f"{p['several']:,} of {p['orders']:,} orders have lines on several days, up to {p['longest']} days apart: each "
        "counts once, on its first day"
    )
    return Advice(evidence, "features.order_days sets within how many days lines belong to one order", False)


def _shared(p: Mapping[str, Any], _: Ids) -> Advice:
    evidence = f"{p['share']:.0%} of the order ids belong to several customers, such as {p['example']!r}"
    return Advice(evidence, "the numbers seem to repeat; leave order_id out, or prefix it with the till or the day")


def _again(p: Mapping[str, Any], _: Ids) -> Advice:
    how = "in another file with different rows" if p["column"] == "file" else f"with another {p['column']}"
    evidence = f"{p['share']:.1%} of the orders are delivered again {how}, such as {p['example']!r}"
    return Advice(evidence, "keep the newest of each with a query: … QUALIFY row_number() OVER (PARTITION BY …) = 1")


def _strays(p: Mapping[str, Any], _: Ids) -> Advice:
    days = ", ".join(map(str, p["days"]))
    return Advice(
        f"{_rows(p)} far from all others ({p['first']} … {p['last']}), on {days}",
        "correct them; start and end leave them out",
    )


def _future(p: Mapping[str, Any], _: Ids) -> Advice:
    span = f"on {p['first']}" if p["first"] == p["last"] else f"from {p['first']} to {p['last']}"
    return Advice(f"{_rows(p)} in the future, {span}", "correct them; end leaves them out")


_DAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def _closed(p: Mapping[str, Any], _: Ids) -> Advice:
    return Advice(f"closed on {' and '.join(_DAYS[n] for n in p['weekdays'])}: hardly any rows on them", "", False)


def _missing(p: Mapping[str, Any], _: Ids) -> Advice:
    run = f"{p['first']}" if p["longest"] == 1 else f"{p['first']} … {p['last']}"
    evidence = f"{p['missing']:,} of {p['days']:,} days have no rows, the longest gap {run}"
    return Advice(evidence, "if they were lost, deliver them again", p["longest"] > 3)


def _season(p: Mapping[str, Any], _: Ids) -> Advice:
    evidence = f"no rows from {p['first']} to {p['last']} ({p['days']} days)"
    return Advice(evidence, "if the business was closed, these days count as inactivity; otherwise deliver them again")


def _currencies(p: Mapping[str, Any], _: Ids) -> Advice:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in list(p["values"].items())[:6])
    column = _trimmed(p["column"])
    cases = " ".join(f"WHEN '{name}' THEN …" for name in list(p["values"])[1:4])
    first = next(iter(p["values"]))
    return Advice(
        f"{p['column']} has {len(p['values'])} currencies ({shares}), and nothing is converted",
        f"convert them: amount: (…) * CASE {column} WHEN '{first}' THEN 1 {cases} END, or where: {column} = '{first}'",
    )


def _states(p: Mapping[str, Any], _: Ids) -> Advice:
    shares = ", ".join(f"{name} {share:.1%}" for name, share in list(p["values"].items())[:6])
    listed = ", ".join(f"'{_escaped(name)}'" for name in p["values"])
    return Advice(
        f"{p['column']} marks orders that may not be sales ({shares}), and all are counted",
        f"where: {_trimmed(p['column'])} NOT IN ({listed})",
    )


def _signs(p: Mapping[str, Any], _: Ids) -> Advice:
    column = _trimmed(p["column"])
    listed = ", ".join(f"'{_escaped(name)}'" for name in p["values"])
    labelled = f"{p['column']} labels {p['rows']:,} rows {_quoted(p['values'])} ({p['share']:.1%})"
    evidence = f"{labelled}, and {p['above']:,} of them count as sales"
    return Advice(
        evidence,
        f"if these are cancelled sales, leave them out: where: {column} NOT IN ({listed}); if they are money paid "
        f"back, make them negative: amount: (…) * CASE WHEN {column} IN ({listed}) THEN -1 ELSE 1 END",
    )


_SUMS = {
    "spend": "the total spend", "sales": "the total of purchases",
    "orders": "the number of orders", "lines": "the number of lines",
    "purchase_days": "the number of purchase days",
    "items": "the number of items",
    "refunds": "the total of refunds", "discounts": "the total of discounts", "average_order": "the mean order value",
    "days_since_purchase": "the days since the last purchase",
}  # fmt: skip


def _foretelling(p: Mapping[str, Any], _: Ids) -> Advice:
    of = _SUMS[p["of"]]
    how = {
        "equals": f"equals {of} over the whole history for {p['figure']:.0%} of the customers",
        "grows with": f"grows with {of} over the whole history (rank correlation {p['figure']:.2f})",
        "falls with": f"falls with {of} over the whole history (rank correlation {p['figure']:.2f})",
        "knows": f"predicts the later half of {of} (partial rank correlation {p['figure']:.2f} given the earlier half)",
        "distinguishes": f"separates customers by {of} ({p['figure']:.0%} of pairs in the right order)",
    }[p["how"]]
    return Advice(
        f"attribute {p['attribute']} {how}: it is a value as of the export, so past days would know their future",
        "leave it out, set as_of to the day of the export, or list it in timeless if it never changes",
    )


def _registered(p: Mapping[str, Any], _: Ids) -> Advice:
    evidence = f"{p['share']:.0%} of the customers bought before they were registered (registered_at)"
    return Advice(evidence, "if it is the day of the last change or of the export, leave registered_at out")


def _new_column(p: Mapping[str, Any], _: Ids) -> Advice:
    return Advice(
        f"{p['column']} is in only {p['files']} of {p['of']} files, the first of them {p['first']}", "", False
    )


def _no_id(p: Mapping[str, Any], _: Ids) -> Advice:
    evidence = "a reloaded page counts as a purchase"
    unique = " or ".join(p["columns"][:3])
    column = f"transaction_id ({unique} has a different value in every row)" if unique else "transaction_id"
    return Advice(evidence, f"map {column} or set validation.duplicates: keep one", False)


def _price(p: Mapping[str, Any], _: Ids) -> Advice:
    evidence = f"{p['column']}, which nothing uses, is amount times {p['quantity']} in {p['share']:.0%} of the rows"
    return Advice(evidence, f"amount seems to be the price of one piece: map amount: {_sql_name(p['column'])}")


def _pieces(p: Mapping[str, Any], _: Ids) -> Advice:
    evidence = (
        f"{p['column']}, which nothing uses, seems to be the quantity: amount is {p['price']} times {p['column']}"
    )
    return Advice(evidence, f"map quantity: {_sql_name(p['column'])}", False)


def _net(p: Mapping[str, Any], _: Ids) -> Advice:
    evidence = (
        f"{p['column']}, which nothing uses, is the amount in {p['equal']:.0%} of the rows and less in the others "
        f"({p['ratio']:.0%} of it in all)"
    )
    return Advice(
        evidence, f"if it is what is left after discounts, it is the net revenue: map amount: {_sql_name(p['column'])}"
    )


_WORDS: Mapping[Code, Callable[[Mapping[str, Any], Ids], Advice]] = {
    Code.PLACEHOLDER_IDS: _placeholder, Code.ROUNDED_IDS: _rounded, Code.HEAVY_ID: _heavy, Code.SPELLINGS: _spellings,
    Code.FLOAT_IDS: _float_ids, Code.NOBODY_RETURNS: _nobody, Code.IDS_KNOWN: _known,
    Code.IDS_DO_NOT_MEET: _no_meeting, Code.ORDERS_ON_SEVERAL_DAYS: _several_days, Code.ORDER_IDS_SHARED: _shared,
    Code.ORDERS_COME_AGAIN: _again, Code.STRAY_DAYS: _strays, Code.FUTURE_ROWS: _future, Code.CLOSED_WEEKDAYS: _closed,
    Code.MISSING_DAYS: _missing, Code.CLOSED_SEASON: _season, Code.SEVERAL_CURRENCIES: _currencies,
    Code.ORDER_STATES: _states, Code.SIGN_IN_COLUMN: _signs, Code.FORETELLING: _foretelling,
    Code.REGISTERED_LATE: _registered, Code.NEW_COLUMN: _new_column, Code.NO_TRANSACTION_ID: _no_id,
    Code.PRICE_OF_A_PIECE: _price, Code.QUANTITY: _pieces, Code.NET_TOTAL: _net,
}  # fmt: skip


def _rows(p: Mapping[str, Any]) -> str:
    return "1 row lies" if p["rows"] == 1 else f"{p['rows']:,} rows lie"


def _quoted(texts: Collection[str]) -> str:
    shown = [repr(text) for text in list(texts)[:6]]
    return ", ".join(shown) + (" …" if len(texts) > 6 else "")


def _yaml_list(texts: Collection[str]) -> str:
    """Texts as a list in YAML: in quotes, so that `-1` and `null` stay texts."""
    return str(
        yaml.safe_dump(list(texts), default_style="'", default_flow_style=True, allow_unicode=True, width=10**9)
    ).strip()


def _trimmed(column: str) -> str:
    """SQL of a column without surrounding blanks, as its values were counted."""
    return f"trim(coalesce({_sql_name(column)}, ''))"


def _escaped(text: str) -> str:
    return text.replace("'", "''")


def ids_sql(columns: Mapping[str, Mapping[str, Any]], types: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The expression that each table's `customer_id` is mapped to, as SQL of a text.

    Parameters
    ----------
    columns : table to the mapping of its columns
    types : table to the types of the columns that its source delivers
    """
    sql = {}
    for table, mapped in columns.items():
        column = str(mapped.get("customer_id", "customer_id"))
        type_ = next((t for name, t in types.get(table, {}).items() if name.lower() == column.lower()), "VARCHAR")
        sql[table] = column_sql(column) if type_ == "VARCHAR" else f"CAST({column_sql(column)} AS VARCHAR)"
    return sql


def column_sql(mapped: str) -> str:
    """A mapping as SQL: the name of a source column with special characters needs quotes."""
    try:
        tree = parse_scalar(mapped)
        is_sql = isinstance(tree, exp.Column | exp.Func | exp.Literal | exp.DPipe | exp.Cast | exp.Case | exp.Paren)
    except RuleError:
        is_sql = False
    return mapped if is_sql else _sql_name(mapped)


def _sql_name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else quoted(name)
