"""Claims about mistakes in declarations of features and properties: one sentence with the line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from microseg_assets.project import ProjectError, load

TABLES = """\
name: shop
start: 2024-01-01
tables:
  transactions: {path: a.csv}
"""  # four lines: what a case appends begins in line 5
FEATURES = f"""{TABLES}\
  events: {{path: e.csv, properties: {{basket_size: double, plan: string, is_app: boolean}}}}
features:
  declared:
"""

DECLARATIONS = [
    (
        "{name: a, table: events, windows: 0}",
        "8: 'features.declared.0.windows': a window of 0 days holds nothing: write 1 or more, or ever",
    ),
    (
        "{name: a, table: events, windows: [28, -7]}",
        "8: 'features.declared.0.windows': a window of -7 days holds nothing: write 1 or more, or ever",
    ),
    (
        "{name: a, table: events, windows: [28, 28]}",
        "8: 'features.declared.0.windows': the window 28 is listed twice: leave one out",
    ),
    (
        "{name: a, table: events, windows: 20000}",
        "8: 'features.declared.0.windows': a window of 20,000 days is longer than ten years: write ever",
    ),
    (
        "{name: a, table: events, windows: month}",
        "8: 'features.declared.0.windows': must be a whole number, or 'ever' (it is 'month')",
    ),
    (
        "{name: a, table: events, windows: []}",
        ("8: 'features.declared.0.windows': no window is listed: list days, or leave the key out for all of them"),
    ),
    (
        "{name: a, table: events, measure: cuont}",
        (
            "8: 'features.declared.0.measure': input should be 'count', 'sum', 'mean', 'min', 'max', 'days', "
            "'distinct', 'share', 'first', 'last', 'mode' or 'days_since' (it is 'cuont')"
        ),
    ),
    (
        "{name: a, table: events, measure: [sum, avg], of: value}",
        (
            "8: 'features.declared.0.measure': input should be 'count', 'sum', 'mean', 'min', 'max', 'days', "
            "'distinct', 'share', 'first', 'last', 'mode' or 'days_since' (it is ['sum', 'avg'])"
        ),
    ),
    (
        "{name: a, table: events, measure: []}",
        (
            "8: 'features.declared.0.measure': no measure is listed: list such as count, or leave the key out to "
            "count rows"
        ),
    ),
    (
        "{name: a, table: events, measure: [days, days]}",
        "8: 'features.declared.0.measure': days is listed twice: leave one out",
    ),
    (
        "{name: a, table: events, measure: sum}",
        "8: 'features.declared.0.measure': sum of what? Name a column or an expression under `of`",
    ),
    (
        "{name: a, table: events, measure: sum, of: plan}",
        (
            "8: 'features.declared.0.of': sum of 'plan', which is a text: measure distinct, first, last or mode "
            "of it, or write TRY_CAST(… AS DOUBLE)"
        ),
    ),
    (
        "{name: a, table: events, measure: mean, of: is_app}",
        ("8: 'features.declared.0.of': mean of 'is_app', which is true or false: put it into `where`, and count"),
    ),
    (
        "{name: a, table: events, measure: max, of: occurred_at}",
        (
            "8: 'features.declared.0.of': max of 'occurred_at', which is a time: measure days_since instead, or "
            "write such as hour(…)"
        ),
    ),
    (
        "{name: a, table: events, measure: last, of: occurred_at}",
        (
            "8: 'features.declared.0.of': last of 'occurred_at', which is a time: measure days_since, or write "
            "such as year(…)"
        ),
    ),
    (
        "{name: a, table: events, measure: sum, of: basket_siz}",
        (
            "8: 'features.declared.0.of': 'basket_siz' uses 'basket_siz', which is not a column; did you mean "
            "'basket_size'? (columns of your own need a type in tables.events.properties: basket_size, plan, is_app)"
        ),
    ),
    (
        "{name: a, table: events, measure: sum, of: value + plan}",
        (
            "8: 'features.declared.0.of': 'value + plan' cannot be computed: No function matches the given name "
            "and argument types '+(DOUBLE, VARCHAR)'. You might need to add explicit type casts."
        ),
    ),
    (
        "{name: a, table: events, measure: count, of: value}",
        (
            "8: 'features.declared.0.of': count is of rows, whatever they hold: leave `of` out, or measure "
            "distinct values"
        ),
    ),
    (
        "{name: a, table: events, where: basket_siz > 3}",
        (
            "8: 'features.declared.0.where': 'basket_siz > 3' uses 'basket_siz', which is not a column; did you "
            "mean 'basket_size'? (columns of your own need a type in tables.events.properties: basket_size, plan, "
            "is_app)"
        ),
    ),
    (
        "{name: a, table: events, where: basket_size}",
        "8: 'features.declared.0.where': 'basket_size' is not true or false but a number: write a comparison",
    ),
    (
        "{name: a, table: events, where: plan > 3}",
        (
            "8: 'features.declared.0.where': 'plan > 3' cannot be computed: Cannot compare values of type "
            "VARCHAR and type INTEGER_LITERAL - an explicit cast is required"
        ),
    ),
    (
        "{name: a, table: events, where: basket_size >}",
        (
            "8: 'features.declared.0.where': 'basket_size >' is not a SQL expression: it breaks off or goes "
            "wrong near character 13"
        ),
    ),
    (
        '{name: a, table: events, where: "value IN (SELECT amount FROM transactions)"}',
        (
            "8: 'features.declared.0.where': 'value IN (SELECT amount FROM transactions)' contains Subquery "
            "((SELECT amount FROM transactions)): only pure expressions over one row are allowed"
        ),
    ),
    (
        "{name: a, table: events, where: \"plan = read_text('/etc/passwd')\"}",
        (
            "8: 'features.declared.0.where': \"plan = read_text('/etc/passwd')\" calls read_text(), which is not "
            "allowed; did you mean 'greatest'?"
        ),
    ),
    (
        '{name: a, table: events, where: "SUM(value) > 3"}',
        (
            "8: 'features.declared.0.where': 'SUM(value) > 3' contains Sum (SUM(value)): only pure expressions "
            "over one row are allowed"
        ),
    ),
    (
        '{name: a, table: events, where: "ROW_NUMBER() OVER () = 1"}',
        (
            "8: 'features.declared.0.where': 'ROW_NUMBER() OVER () = 1' contains Window (ROW_NUMBER() OVER ()): "
            "only pure expressions over one row are allowed"
        ),
    ),
    (
        '{name: a, table: events, where: "transactions.amount > 3"}',
        (
            "8: 'features.declared.0.where': 'transactions.amount > 3' uses 'transactions', which is not a "
            "column; known here: basket_size, browser, campaign, category, channel, customer_id, day, device, "
            "event_type, is_app, occurred_at, os … (columns of your own need a type in tables.events.properties: "
            "basket_size, plan, is_app)"
        ),
    ),
    (
        '{name: a, table: events, where: "occurred_at > now()"}',
        (
            "8: 'features.declared.0.where': 'occurred_at > now()' calls now(), which is not allowed; did you "
            "mean 'power'?"
        ),
    ),
    (
        '{name: a, table: events, where: "true; DROP TABLE x"}',
        "8: 'features.declared.0.where': 'true; DROP TABLE x' must be exactly one expression",
    ),
    (
        "{name: a, table: events, by: {column: devic, values: [phone]}}",
        "8: 'features.declared.0.by': 'devic' is not a column of events; did you mean 'device'?",
    ),
    (
        "{name: a, table: events, by: {column: device}}",
        "8: 'features.declared.0.by.values' is missing; add it",
    ),
    (
        "{name: a, table: events, by: {column: device, values: []}}",
        ("8: 'features.declared.0.by': no value of device is listed: list those that are to have a feature each"),
    ),
    (
        "{name: a, table: events, by: {column: device, values: [1]}}",
        "8: 'features.declared.0.by': device is a text, and 1 is not: put it in quotes, '1'",
    ),
    (
        "{name: a, table: events, by: {column: value, values: [x]}}",
        "8: 'features.declared.0.by': value is a number, and 'x' is not: list values of its kind",
    ),
    (
        "{name: a, table: events, by: {column: device, values: [Mac OS, mac-os]}}",
        (
            "8: 'features.declared.0.by': 'Mac OS', 'mac-os' would be one column, …_by_mac_os: list one, and "
            "declare a feature with `where` for several values"
        ),
    ),
    (
        "{name: a, table: events, by: {column: device, values: ['!']}}",
        (
            "8: 'features.declared.0.by': '!' has no letter or digit for a column's name: declare a feature of "
            "its own with `where`"
        ),
    ),
    (
        "{name: a, table: events, by: {column: occurred_at, values: [x]}}",
        (
            "8: 'features.declared.0.by': occurred_at is a time, which has no values to list: use windows, or a "
            "predicate in `where`"
        ),
    ),
    (
        "{name: a, table: event}",
        (
            "8: 'features.declared.0.table': input should be 'transactions', 'events', 'exposures' or 'balances' "
            "(it is 'event')"
        ),
    ),
    (
        "{name: a, table: balances}",
        (
            "8: 'features.declared.0.table': this project brings no balances: add it to tables, or measure "
            "transactions, events"
        ),
    ),
    (
        "{name: a}",
        (
            "8: 'features.declared.0.name': a has no table: name transactions, events, exposures or balances, or "
            "declare a ratio"
        ),
    ),
    (
        "{table: events}",
        "8: 'features.declared.0.name' is missing; add it",
    ),
    (
        "{name: 9a, table: events}",
        "8: 'features.declared.0.name': '9a': begin with a letter; letters, digits and _ may follow",
    ),
    (
        "{name: share_of_phones, table: events}",
        (
            "8: 'features.declared.0.name': names that begin with share_ are taken: call it such as "
            "'own_share_of_phones'"
        ),
    ),
    (
        "{name: a, table: events, window: 28}",
        "8: unknown key 'features.declared.0.window'; did you mean 'windows'?",
    ),
    (
        "{name: a, table: events}\n    - {name: A, table: transactions}",
        (
            "9: 'features.declared.1.name': two declarations give a feature called 'A', the other is number 1 of the "
            "list (a): rename one"
        ),
    ),
    (
        (
            "{name: a, table: events, by: {column: device, values: [b]}, windows: 7}\n    - {name: a_by_b, table: "
            "events, windows: [3, 7]}"
        ),
        (
            "9: 'features.declared.1.name': two declarations give a feature called 'a_by_b_7d', the other is number 1 "
            "of the list (a): rename one"
        ),
    ),
    (
        "{name: orders, table: transactions, windows: [28, 60]}",
        ("8: 'features.declared.0.name': 'orders_28d' is the name of a feature that exists already: choose another"),
    ),
    (
        "{name: spend_trend, table: transactions, windows: 28}",
        (
            "8: 'features.declared.0.name': 'spend_trend_28d' is the name of a feature that exists already: "
            "choose another"
        ),
    ),
    (
        "{name: a, table: events}\n    - {name: r, ratio: {of: a, to: b}}",
        (
            "9: 'features.declared.1.ratio': 'b' is not a feature; known here: a, average_order_90d, balance, "
            "categories_90d, comeback_gap_days, customer_id, days_since_cart, days_since_event, "
            "days_since_exposure, days_since_visit, discount_share_90d, events_28d …"
        ),
    ),
    (
        "{name: r, ratio: {of: a}}",
        "8: 'features.declared.0.ratio.to' is missing; add it",
    ),
    (
        "{name: r, ratio: {of: spend, to: top_category_90d}}",
        "8: 'features.declared.0.ratio': 'top_category_90d' is a text: a ratio divides two numbers",
    ),
    (
        "{name: r, table: events, ratio: {of: spend, to: orders}}",
        "8: 'features.declared.0.table': a ratio divides two features and has no table: leave it out",
    ),
    (
        (
            "{name: r, ratio: {of: s, to: spend}}\n    - {name: s, ratio: {of: orders, to: t}}\n    - {name: t, "
            "ratio: {of: r, to: orders}}"
        ),
        (
            "8: 'features.declared.0.ratio': ratios in a circle, r → t → s → r: let one of them divide features "
            "that are no ratios"
        ),
    ),
    (
        "{name: r, ratio: {of: r, to: orders}}",
        (
            "8: 'features.declared.0.ratio': ratios in a circle, r → r: let one of them divide features that are "
            "no ratios"
        ),
    ),
    (
        "{name: r, ratio: {of: spnd, to: orders}}",
        "8: 'features.declared.0.ratio': 'spnd' is not a feature; did you mean 'spend'?",
    ),
]
PROPERTIES = [
    (
        "customers: {path: c.csv, properties: {a: double}}",
        "5: 'tables.customers': customers has no properties: declare columns of its own as attributes",
    ),
    (
        "exposures: {path: c.csv, properties: {a: double}}",
        "5: 'tables.exposures': exposures has no properties: only transactions and events have some",
    ),
    (
        "exposures: {path: c.csv, attributes: {a: double}}",
        "5: 'tables.exposures': exposures has no attributes, which belong to customers: leave them out",
    ),
    (
        "events: {path: c.csv, attributes: {a: double}}",
        (
            "5: 'tables.events': events has no attributes, which belong to customers: declare columns of its own "
            "as properties"
        ),
    ),
    (
        "events: {path: c.csv, properties: {device: string}}",
        "5: 'tables.events': property 'device' has the name of a column that microseg uses: choose another",
    ),
    (
        "events: {path: c.csv, properties: {Day: string}}",
        "5: 'tables.events': property 'Day' has the name of a column that microseg uses: choose another",
    ),
    (
        "events: {path: c.csv, properties: {a b: string}}",
        "5: 'tables.events': property 'a b': begin with a letter; letters, digits and _ may follow",
    ),
    (
        "events: {path: c.csv, properties: {a: text}}",
        "5: 'tables.events.properties.a': input should be 'string', 'double' or 'boolean' (it is 'text')",
    ),
]


def error_of(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ProjectError) as error:
        load(str(file))
    return str(error.value).replace(f"{file}:", "")


@pytest.mark.parametrize(("declarations", "sentence"), DECLARATIONS)
def test_a_declaration_that_cannot_be_meant_is_one_sentence(tmp_path: Path, declarations: str, sentence: str) -> None:
    assert error_of(tmp_path / "shop.yaml", f"{FEATURES}    - {declarations}\n") == sentence


def test_mistakes_of_several_declarations_are_reported_at_once(tmp_path: Path) -> None:
    lines = (
        "{name: a, table: events, windows: 0}",
        "{name: b, table: events}",
        "{name: c, table: events, measure: sum, of: plan}",
        "{name: B, table: transactions}",
    )
    text = FEATURES + "".join(f"    - {line}\n" for line in lines)
    errors = error_of(tmp_path / "shop.yaml", text).splitlines()
    assert [error.partition(": ")[0] for error in errors] == ["8", "10", "11"]


@pytest.mark.parametrize(("table", "sentence"), PROPERTIES)
def test_a_property_that_cannot_be_meant_is_one_sentence(tmp_path: Path, table: str, sentence: str) -> None:
    assert error_of(tmp_path / "shop.yaml", f"{TABLES}  {table}\n") == sentence


def test_more_features_than_anybody_can_mean_are_refused(tmp_path: Path) -> None:
    windows, values = list(range(1, 100)), [f"d{i}" for i in range(60)]
    line = f"    - {{name: a, table: events, windows: {windows}, by: {{column: device, values: {values}}}}}\n"
    assert error_of(tmp_path / "shop.yaml", FEATURES + line) == (
        "8: 'features.declared.0.name': 5,940 features are declared: at most 5,000 are possible"
    )
