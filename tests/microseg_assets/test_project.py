"""The project file: each mistake becomes one sentence that says where, what, and what to do; never a traceback."""

from __future__ import annotations

import json
import os
import re
import string
import subprocess
import sys
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microseg_assets.project import SHIPPED, Project, ProjectError, RenamedSetting, find, load, shipped
from ml.layers import DEFAULT_LAYERS
from ml.layers.layer_model import layer_spec

BASE = """\
name: shop
start: 2024-01-01
tables:
  transactions:
    path: a.csv
"""  # five lines: what a case appends begins in line 6


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop.yaml"


def error_of(file: Path, text: str | bytes) -> str:
    """The error about a file that cannot be used, without its path."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ProjectError) as error:
        load(str(file))
    message = str(error.value)
    assert message.startswith(str(file)), message
    return message.replace(str(file), "F")


def test_a_minimal_file_is_a_project(file: Path) -> None:
    file.write_text(BASE)
    project = load(str(file))
    assert (project.name, project.start, project.end, project.time_zone) == ("shop", date(2024, 1, 1), None, "UTC")
    assert project.path == file and project.missing_tables() == ["customers", "events", "exposures", "balances"]
    assert project.source("events") is None and project.source("transactions") is not None
    assert project.calendar.start == date(2024, 1, 1)


@pytest.mark.parametrize("name", ["complete_journey"])
def test_the_shipped_files_are_projects(name: str) -> None:
    assert name in shipped()
    assert load(name).name == name


def test_attributes_that_say_what_they_are_about_are_layers_after_the_default_ones(file: Path) -> None:
    customers = "  customers: {path: c.csv, attributes: {age: double, city: string, os: string}%s}\n"
    file.write_text(BASE + customers % "")
    assert load(str(file)).segments.layers == DEFAULT_LAYERS, "who does not say so keeps the layers as they were"
    file.write_text(BASE + customers % ", layers: {demographic: [age], geographic: [city], technology: [os]}")
    layers = load(str(file)).segments.layers
    assert layers[: len(DEFAULT_LAYERS)] == DEFAULT_LAYERS
    assert [(layer.name, layer.features) for layer in layers[len(DEFAULT_LAYERS) :]] == [
        ("technology", ("os",)), ("geographic", ("city",)), ("demographic", ("age",)),
    ]  # fmt: skip


def test_a_context_is_a_table_and_its_columns_are_features(file: Path) -> None:
    file.write_text(
        BASE + "  customers: {path: c.csv, attributes: {region: string}}\n"
        "  context:\n    weather: {path: w.csv, by: region, attributes: {sky: string, warm: boolean}, valid_days: 2}\n"
    )
    project = load(str(file))
    assert project.inputs["context_weather"].names == ["region", "occurred_at", "sky", "warm"]
    assert project.features_table.names[-2:] == ["context_sky", "context_warm"]
    assert [context.valid_days for context in project.contexts] == [2] and project.source("context_weather") is not None
    assert (
        project.located("tables.context_weather.columns.sky", "x") == f"{file}:8: tables.context.weather.columns.sky: x"
    )


# ── mistakes, one sentence each ───────────────────────────────────────────────────────────────────────────────────

MISTAKES = {
    # what is written → where, which key, what to do
    "an unknown key": (BASE + "tittle: x\n", "F:6: unknown key 'tittle'; did you mean 'title'?"),
    "an unknown key of a section": (
        BASE + "value:\n  horizon_day: 3\n",
        "F:7: unknown key 'value.horizon_day'; did you mean 'horizon_days'?",
    ),
    "an unknown key of a table": (
        BASE + "    colums: {amount: paid}\n",
        "F:6: unknown key 'tables.transactions.colums'; did you mean 'columns'?",
    ),
    "an unknown table": (
        BASE + "  transaction: {path: b.csv}\n",
        "F:6: unknown key 'tables.transaction'; did you mean 'transactions'?",
    ),
    "an unknown key in a list": (
        BASE + "actions:\n  actions:\n    - {name: a}\n    - {name: b, cots: 1}\n",
        "F:9: unknown key 'actions.actions.1.cots'; did you mean 'cost'?",
    ),
    "an unknown key in a list of a list": (
        BASE + "segments:\n  layers:\n    - {name: a, method: rules, rules: [{name: x, when: 'true', wen: 1}]}\n",
        "F:8: unknown key 'segments.layers.0.rules.0.wen'; did you mean 'when'?",
    ),
    "a word for a whole number": (
        BASE + "value:\n  horizon_days: ninety\n",
        "F:7: 'value.horizon_days': must be a whole number (it is 'ninety')",
    ),
    "a word for a number in a list": (
        BASE + "actions:\n  actions:\n    - {name: a, cost: cheap}\n",
        "F:8: 'actions.actions.0.cost': must be a number (it is 'cheap')",
    ),
    "a number for a text": (BASE + "currency: 3\n", "F:6: 'currency': must be text; put it in quotes (it is 3)"),
    "a yes for a text": (BASE + "title: yes\n", "F:6: 'title': must be text; put it in quotes (it is True)"),
    "a text for a section": (
        BASE + "value: ninety\n",
        "F:6: 'value': must contain keys and values (it is 'ninety')",
    ),
    "a list for a section": (BASE + "value: [1]\n", "F:6: 'value': must contain keys and values (it is [1])"),
    "nothing for a section": (BASE + "actions:\n", "F:6: 'actions': must contain keys and values (it is None)"),
    "keys for a list": (BASE + "audiences: {a: b}\n", "F:6: 'audiences': must be a list (it is {'a': 'b'})"),
    "a text for a list": (
        BASE + "features:\n  categories: A\n",
        "F:7: 'features.categories': must be a list (it is 'A')",
    ),
    "one of two types": (
        BASE.replace("a.csv", "3"),
        "F:5: 'tables.transactions.path': must be text; put it in quotes (it is 3)",
    ),
    "a word that is not among the known ones": (
        BASE + "segments:\n  layers:\n    - {name: a, method: kmean}\n",
        "F:8: 'segments.layers.0.method': input should be 'kmeans', 'quantiles' or 'rules' (it is 'kmean')",
    ),
    "value in a margin that is not mapped": (
        BASE + "value:\n  of: margin\n",
        (
            "F:7: 'value.of': tables.transactions.columns has no margin: list it there (a column or an expression), "
            "or write revenue"
        ),
    ),
    "value of something else": (
        BASE + "value:\n  of: profit\n",
        "F:7: 'value.of': input should be 'revenue' or 'margin' (it is 'profit')",
    ),
    "an unknown role of events": (
        BASE + "event_roles:\n  page_view: [seen]\n",
        "F:7: unknown key 'event_roles.page_view'; did you mean 'page_views'?",
    ),
    "a type of events in two roles": (
        BASE + "event_roles:\n  carts: [basket]\n  goals: [basket]\n",
        (
            "F:6: 'event_roles': 'basket' is listed in both carts and goals, but an event type has one role: "
            "remove it from one place"
        ),
    ),
    "a type of events that is no text": (
        BASE + "event_roles:\n  goals: [404]\n",
        "F:7: 'event_roles.goals.0': must be text; put it in quotes (it is 404)",
    ),
    "one type of events instead of a list": (
        BASE + "event_roles:\n  goals: signup\n",
        "F:7: 'event_roles.goals': must be a list (it is 'signup')",
    ),
    "roles of events without events": (
        BASE + "event_roles:\n  goals: [signup]\n",
        "F:6: 'event_roles': the project has no events: add tables.events, or remove event_roles",
    ),
    "an attribute of an unknown type": (
        BASE + "  customers:\n    path: b.csv\n    attributes:\n      age: strin\n",
        "F:9: 'tables.customers.attributes.age': input should be 'string', 'double' or 'boolean' (it is 'strin')",
    ),
    "a number out of range": (
        BASE + "schedule: {hour: 25}\n",
        "F:6: 'schedule.hour': input should be less than or equal to 23 (it is 25)",
    ),
    "no name": (BASE.replace("name: shop\n", ""), "F:1: 'name' is missing; add it"),
    "no tables": ("name: shop\nstart: 2024-01-01\n", "F:1: 'tables' is missing; add it"),
    "no transactions": ("name: shop\nstart: 2024-01-01\ntables: {}\n", "F:3: 'tables.transactions' is missing; add it"),
    "an action without a name": (
        BASE + "actions:\n  actions:\n    - {cost: 1}\n",
        "F:8: 'actions.actions.0.name' is missing; add it",
    ),
    "a name that is no folder's": (
        BASE.replace("shop", "My Shop"),
        ("F:1: 'name': must be at most 41 lower-case letters, digits or _, beginning with a letter (it is 'My Shop')"),
    ),
    "a time zone that does not exist": (
        BASE + "time_zone: Europe/Berln\n",
        "F:6: 'time_zone': 'Europe/Berln' is not an IANA time zone; did you mean 'Europe/Berlin'?",
    ),
    "a month that does not exist": (
        BASE.replace("2024-01-01", "2024-13-01"),
        "F:2: 'start': must be a day, such as 2024-01-31 (it is '2024-13-01')",
    ),
    "a start with an hour": (
        BASE.replace("2024-01-01", "2024-01-01 10:00:00"),
        "F:2: 'start': must be a day, such as 2024-01-31 (it is '2024-01-01 10:00:00')",
    ),
    "a start in words": (
        BASE.replace("2024-01-01", "soon"),
        "F:2: 'start': must be a day, such as 2024-01-31 (it is 'soon')",
    ),
    "an end before the start": (
        BASE + "end: 2023-12-31\n",
        "F:6: 'end': end 2023-12-31 lies before start 2024-01-01: swap them or leave end out",
    ),
    "neither a number nor the word": (
        BASE + "lifecycle:\n  churn_after_days: soon\n",
        "F:7: 'lifecycle.churn_after_days': must be a whole number, or 'auto' (it is 'soon')",
    ),
    "a setting that its spec refuses": (
        BASE + "lifecycle:\n  churn_after_days: 3\n",
        "F:6: 'lifecycle': lifecycle.churn_after_days is 3; it must lie between 14 and 365",
    ),
    "stages that nobody may be in": (
        BASE + "lifecycle:\n  stages:\n    - {name: a, when: recency_days < 9}\n",
        (
            "F:6: 'lifecycle': the last lifecycle stage, 'a', has the rule 'recency_days < 9': its "
            '`when` must be "true", so that every customer gets a stage'
        ),
    ),
    "a stage's rule with a typing error": (
        BASE + "lifecycle:\n  stages:\n    - {name: a, when: recncy_days < 9}\n    - {name: b, when: 'true'}\n",
        (
            "F:8: 'lifecycle.stages.0.when': 'recncy_days < 9' uses 'recncy_days', which is not a column; "
            "did you mean 'recency_days'?"
        ),
    ),
    "a stage's rule that reads a file": (
        BASE + "lifecycle:\n  stages:\n    - {name: a, when: (SELECT 1) = 1}\n    - {name: b, when: 'true'}\n",
        (
            "F:6: 'lifecycle': the rule of stage 'a': '(SELECT 1) = 1' contains Subquery ((SELECT 1)): "
            "only pure expressions over one row are allowed"
        ),
    ),
    "an audience of an unknown column": (
        BASE + "audiences:\n  - {name: a, when: ordrs_28d > 1}\n",
        "F:7: 'audiences.0.when': 'ordrs_28d > 1' uses 'ordrs_28d', which is not a column; did you mean 'orders_28d'?",
    ),
    "a layer of an unknown feature": (
        BASE + "segments:\n  layers:\n    - {name: a, features: [lvt]}\n",
        "F:8: 'segments.layers.0.features': 'lvt' is not a feature; did you mean 'ltv'?",
    ),
    "two layers of one name": (
        BASE + "segments:\n  layers:\n    - {name: a, features: [ltv]}\n    - {name: a, features: [p_alive]}\n",
        "F:9: 'segments.layers.1.name': 'a' is given twice; rename one",
    ),
    "a row rule for an unknown table": (
        BASE + "validation:\n  rules:\n    - {table: transaction, name: x, holds: amount > 1}\n",
        "F:8: 'validation.rules.0.table': 'transaction' is not a table; did you mean 'transactions'?",
    ),
    "a row rule of an unknown column": (
        BASE + "validation:\n  rules:\n    - {table: transactions, name: x, holds: amout > 1}\n",
        "F:8: 'validation.rules.0.holds': 'amout > 1' uses 'amout', which is not a column; did you mean 'amount'?",
    ),
    "an attribute that has a feature's name": (
        BASE + "  customers:\n    path: b.csv\n    attributes: {recency_days: double}\n",
        "F:6: 'tables.customers': attribute 'recency_days' has the name of a column that microseg uses: choose another",
    ),
    "a key that is given twice": (
        BASE + "value: {margin: 0.1}\ncurrency: EUR\nvalue: {margin: 0.2}\n",
        "F:8: is not YAML: the key 'value' is given twice, first in line 6; remove one",
    ),
    "a bracket that is not closed": (
        BASE + "value: {a: [1\n",
        "F:7: is not YAML: expected ',' or ']', but got '<stream end>'",
    ),
    "a tab": (BASE + "value:\n\tmargin: 1\n", "F:7: is not YAML: found character '\\t' that cannot start any token"),
    "two documents": (BASE + "---\nname: x\n", "F:6: is not YAML: but found another document"),
    "an object of Python": (
        BASE + "title: !!python/object/apply:os.system [exit]\n",
        (
            "F:6: is not YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'"
        ),
    ),
    "a list": ("- a\n- b\n", "F: must contain keys and values, such as `name: my_shop`; it contains a list"),
    "a word": ("hello\n", "F: must contain keys and values, such as `name: my_shop`; it contains text"),
    "nothing": ("# nothing yet\n", "F: must contain keys and values, such as `name: my_shop`; it contains nothing"),
    "a control character": (BASE + "title: 'a\x00b'\n", "F: is not YAML: special characters are not allowed"),
    "a context without a name": (
        BASE + "  context: {path: w.csv, by: region, attributes: {sky: string}}\n",
        "F:6: 'tables.context': begin with a name for it: `context: {weather: {path: …, by: …}}`",
    ),
    "a context by nothing": (
        BASE + "  context:\n    weather: {path: w.csv, attributes: {sky: string}}\n",
        "F:7: 'tables.context.weather.by' is missing; add it",
    ),
    "a context by an attribute that customers do not have": (
        BASE + "  customers: {path: c.csv, attributes: {region: string}}\n"
        "  context:\n    weather: {path: w.csv, by: regoin, attributes: {sky: string}}\n",
        "F:8: 'tables.context.weather.by': customers have no attribute 'regoin'; did you mean 'region'?",
    ),
    "a context by a number": (
        BASE + "  customers: {path: c.csv, attributes: {shop: double}}\n"
        "  context:\n    prices: {path: w.csv, by: shop, attributes: {price: double}}\n",
        "F:8: 'tables.context.prices.by': 'shop' is a double, but a context is by a text: declare it as a string",
    ),
    "a context without columns of its own": (
        BASE + "  context:\n    weather: {path: w.csv, by: top_category_90d}\n",
        "F:7: 'tables.context.weather': a context has no columns of its own: list them in attributes, name to type",
    ),
    "a context that never holds": (
        BASE
        + "  context:\n    weather: {path: w.csv, by: top_category_90d, attributes: {sky: string}, valid_days: 0}\n",
        "F:7: 'tables.context.weather': valid_days is 0: write 1 if a row holds for its own day only",
    ),
    "a context that holds for a word": (
        BASE
        + "  context:\n    weather: {path: w.csv, by: top_category_90d, attributes: {sky: string}, valid_days: evr}\n",
        "F:7: 'tables.context.weather.valid_days': must be a whole number, or 'ever' (it is 'evr')",
    ),
    "an unknown key of a context": (
        BASE + "  context:\n    weather: {path: w.csv, by: top_category_90d, attribute: {sky: string}}\n",
        "F:7: unknown key 'tables.context.weather.attribute'; did you mean 'attributes'?",
    ),
    "two contexts with one column": (
        BASE + "  context:\n    a: {path: w.csv, by: top_category_90d, attributes: {level: string}}\n"
        "    b: {path: p.csv, by: top_category_90d, attributes: {level: double}}\n",
        "F:8: 'tables.context.b.attributes.level': context_level is a feature of the context a already: rename one",
    ),
    "a column of a context that microseg uses": (
        BASE + "  context:\n    weather: {path: w.csv, by: top_category_90d, attributes: {day: string}}\n",
        "F:7: 'tables.context.weather.attributes.day': this is a column that microseg uses: choose another name",
    ),
    "a context whose name cannot be a table's": (
        BASE + "  context:\n    The Weather: {path: w.csv, by: top_category_90d, attributes: {sky: string}}\n",
        "F:7: 'tables.context.The Weather': a name is of lower-case letters, digits and _, and begins with a letter",
    ),
    "an audience of a context that there is not": (
        BASE + "  customers: {path: c.csv, attributes: {region: string}}\n"
        "  context:\n    weather: {path: w.csv, by: region, attributes: {sky: string}}\n"
        "audiences:\n  - {name: storm, when: contxt_sky = 'storm'}\n",
        (
            "F:10: 'audiences.0.when': \"contxt_sky = 'storm'\" uses 'contxt_sky', which is not a column; "
            "did you mean 'context_sky'?"
        ),
    ),
    "an audience of the median of a text": (
        BASE + "  customers: {path: c.csv, attributes: {region: string}}\n"
        "audiences:\n  - {name: here, when: region = $median_region}\n",
        "F:8: 'audiences.0.when': 'region' is a text, which has no median: compare it with a word, as in region = 'x'",
    ),
    "a layer of something that is no attribute": (
        BASE + "  customers: {path: c.csv, attributes: {region: string}, layers: {geographic: [regoin]}}\n",
        "F:6: 'tables.customers': 'regoin' in layers is not an attribute; did you mean 'region'?",
    ),
    "an attribute in two layers": (
        BASE + "  customers: {path: c.csv, attributes: {x: string}, layers: {geographic: [x], demographic: [x]}}\n",
        "F:6: 'tables.customers': attribute 'x' is in layers twice: leave it in the one that it is about",
    ),
    "a layer about an unknown context": (
        BASE + "  customers: {path: c.csv, attributes: {x: string}, layers: {geografic: [x]}}\n",
        (
            "F:6: 'tables.customers.layers.geografic': input should be 'technology', 'geographic', 'demographic' or "
            "'psychographic' (it is 'geografic')"
        ),
    ),
    "layers of attributes beside layers of one's own": (
        BASE + "  customers: {path: c.csv, attributes: {x: string}, layers: {geographic: [x]}}\n"
        "segments:\n  layers: [{name: value, features: [ltv]}]\n",
        (
            "F:7: 'segments': tables.customers.layers adds geographic to the default layers, which this list replaces: "
            "add them here and leave out that key"
        ),
    ),
    "layers of attributes of a table that has none": (
        BASE + "    layers: {geographic: [x]}\n",
        "F:3: 'tables': transactions has no attributes: as_of, timeless and layers belong to customers",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_with_line_key_and_remedy(file: Path, mistake: str) -> None:
    text, expected = MISTAKES[mistake]
    assert error_of(file, text) == expected


def test_a_file_in_another_encoding_must_be_saved_as_utf8(file: Path) -> None:
    assert error_of(file, BASE.encode() + "title: Käse\n".encode("latin-1")) == (
        "F: is not UTF-8 text (invalid continuation byte); save it as UTF-8"
    )


def test_a_rule_that_is_not_sql_names_its_stage(file: Path) -> None:
    text = BASE + "lifecycle:\n  stages:\n    - {name: early, when: recency_days <}\n    - {name: b, when: 'true'}\n"
    said = error_of(file, text)
    assert said.startswith("F:6: 'lifecycle': the rule of stage 'early': 'recency_days <' is not a SQL expression")
    assert "\n" not in said


def test_every_mistake_in_a_file_is_reported_at_once(file: Path) -> None:
    said = error_of(file, BASE + "tittle: x\ntime_zone: Mars\nvalue: {horizon_days: no}\n").splitlines()
    assert sorted(re.match(r"F:(\d+):", line).group(1) for line in said) == ["6", "7", "8"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("complete_jurney", "there is no project 'complete_jurney'; did you mean 'complete_journey'?"),
        ("", "there is no project ''; known here: cdnow, complete_journey"),
        (
            "nowhere/shop.yaml",
            "nowhere/shop.yaml: there is no such project file; give a path or one of cdnow, complete_journey",
        ),
    ],
)
def test_an_unknown_project_gets_the_nearest_known_one(name: str, remedy: str) -> None:
    with pytest.raises(ProjectError) as error:
        find(name)
    assert str(error.value).startswith(remedy)


def test_a_project_of_the_state_folder_is_found_by_name_and_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROSEG_HOME", str(tmp_path))
    (tmp_path / "projects").mkdir()
    (tmp_path / "projects" / "corner_shop.yaml").write_text(BASE.replace("shop", "corner_shop"))
    assert load("corner_shop").name == "corner_shop"
    with pytest.raises(ProjectError, match="did you mean 'corner_shop'"):
        load("corner_shp")


def test_a_command_refers_to_a_project_in_a_way_that_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSEG_HOME", str(tmp_path))
    (tmp_path / "projects").mkdir()
    for path in (tmp_path / "projects" / "shop.yaml", tmp_path / "my shop.yaml"):
        path.write_text(BASE)
    assert load("shop").reference == "shop" == load(str(tmp_path / "projects" / "shop.yaml")).reference
    assert load(str(tmp_path / "my shop.yaml")).reference == f"'{tmp_path}/my shop.yaml'", "the name finds another file"
    assert load("complete_journey").reference == "complete_journey"


def test_a_message_about_a_key_has_its_line(file: Path) -> None:
    file.write_text(BASE)
    project = load(str(file))
    assert project.located("tables.transactions.path", "is gone") == f"{file}:5: tables.transactions.path: is gone"
    assert project.located("tables.transactions.columns.amount", "is gone").startswith(f"{file}:4: ")
    file.unlink()
    assert project.located("tables", "is gone") == f"{file}: tables: is gone"


# ── any input ────────────────────────────────────────────────────────────────────────────────────────────────────

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 400), st.floats(), st.text(string.printable, max_size=12))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "when", "path", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [(name,) for name in Project.model_fields]
    + [("tables", t) for t in ("transactions", "customers", "events")]
    + [("features", "categories"), ("features", "declared"), ("tables", "events", "properties")]
    + [("tables", "transactions", k) for k in ("path", "files", "query", "columns", "where", "time_zone", "attributes")]
    + [("value", "horizon_days"), ("lifecycle", "stages"), ("segments", "layers"), ("actions", "actions"),
       ("journeys", "horizons"), ("validation", "rules"), ("validation", "min_rows"), ("validation", "severity")]
)  # fmt: skip


def _set(tree: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for part in key[:-1]:
        tree = tree.setdefault(part, {})
    tree[key[-1]] = value


def _loaded(file: Path) -> tuple[Project | None, list[str]]:
    """The project, or every line of the error; any other exception is a traceback for the user."""
    try:
        return load(str(file)), []
    except ProjectError as error:
        return None, str(error).splitlines()


@given(key=KEYS, value=VALUES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_anywhere_is_a_project_or_a_sentence(file: Path, key: tuple[str, ...], value: Any) -> None:
    tree = yaml.safe_load(BASE)
    tree["start"] = "2024-01-01"
    _set(tree, key, value)
    file.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    project, said = _loaded(file)
    assert all(line.startswith(str(file)) for line in said), said
    assert project is None or (project.features_table.names and project.inputs and project.calendar.start)


@given(cut=st.integers(0, len(BASE)), junk=st.text(string.printable, max_size=4))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_is_being_edited_is_a_project_or_a_sentence(file: Path, cut: int, junk: str) -> None:
    file.write_text(BASE[:cut] + junk + BASE[cut:], encoding="utf-8", newline="")
    _, said = _loaded(file)
    assert all(line.startswith(str(file)) for line in said), said


# ── the schema for editors ────────────────────────────────────────────────────────────────────────────────────────


def _schema() -> dict[str, Any]:
    return json.loads(json.dumps(Project.model_json_schema()))


def _content(path: Path) -> Any:
    return json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")), default=str))


def test_the_schema_accepts_every_shipped_file() -> None:
    files = [*SHIPPED.glob("*.yaml"), SHIPPED.parent / "templates" / "simulated_shop.yaml"]
    assert len(files) >= 3
    for file in files:
        jsonschema.Draft202012Validator(_schema()).validate(_content(file))


@pytest.mark.parametrize(
    "mistake", ["an unknown key", "an unknown table", "a word for a number in a list", "no tables"]
)
def test_the_schema_refuses_what_we_refuse(mistake: str) -> None:
    content = json.loads(json.dumps(yaml.safe_load(MISTAKES[mistake][0]), default=str))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(_schema()).validate(content)


def test_a_layer_without_features_and_one_of_an_unknown_stage_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    layers = "\nsegments:\n  layers:\n    - {name: bare}\n    - {name: value, features: [ltv], stages: [actve]}\n"
    file.write_text(BASE + layers)
    with pytest.raises(ProjectError) as error:
        load(str(file))
    assert "bare has no features" in str(error.value) and "'actve' is not a stage" in str(error.value)
    assert "did you mean 'active'" in str(error.value)


# ── former names ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_renamed_setting_is_read_under_its_old_name_with_a_warning_that_gives_the_new_one(
    tmp_path: Path,
) -> None:
    file = tmp_path / "shop.yaml"
    text = (
        "name: shop\nstart: 2024-01-01\nend: 2024-02-01\ntables:\n  transactions: {path: a.csv}\n"
        "segments:\n  layers:\n    - {name: value, features: [ltv], KEY: 0.2}\n"
    )
    file.write_text(text.replace("KEY", "leaving"))
    with pytest.warns(RenamedSetting) as caught:
        old = load(str(file))
    assert str(caught[0].message) == (
        f"{file}:8: 'segments.layers.0.leaving' is called weekly_switch_probability now; rename it"
    )
    with warnings.catch_warnings(action="error"):  # a command reads its file more than once, and says so once
        load(str(file))
    file.write_text(text.replace("KEY", "leaving: 0.1, weekly_switch_probability"))
    with pytest.raises(ProjectError, match=r":8: 'segments.layers.0.leaving' is called .* which is given too; remove"):
        load(str(file))
    file.write_text(text.replace("KEY", "weekly_switch_probability"))
    assert old.segments == load(str(file)).segments and old.segments.layers[0].weekly_switch_probability == 0.2
    file.write_text(text.replace("KEY", "leaving"))
    command = [sys.executable, "-m", "microseg_assets.cli", "status", "-p", str(file)]
    env = {**os.environ, "MICROSEG_HOME": str(tmp_path / "home")}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ran.stderr == f"microseg: {caught[0].message}\n", ran.stderr


@pytest.mark.parametrize("key", ["leaving", "weekly_switch_probability"])
def test_a_mistake_in_a_renamed_setting_names_the_key_and_the_line_that_the_file_has(file: Path, key: str) -> None:
    layers = "segments:\n  layers:\n    - name: value\n      features: [ltv]\n      KEY: soon\n      k_max: many\n"
    with warnings.catch_warnings(action="ignore"):
        said = error_of(file, BASE + layers.replace("KEY", key)).splitlines()
    assert sorted(said) == [
        f"F:10: 'segments.layers.0.{key}': must be a number (it is 'soon')",
        "F:11: 'segments.layers.0.k_max': must be a whole number (it is 'many')",
    ]


def test_layer_models_stored_with_the_old_name_are_read() -> None:
    stored = {"name": "value", "features": ["ltv"], "stages": [], "rules": [], "leaving": 0.25}
    assert layer_spec(stored).weekly_switch_probability == 0.25
