"""Claims about the segment atlas: it repeats the tables faithfully, is safe to open, and never oversells an effect."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest

from ml import tables
from ml.actions.reasons import PLAN_WORDS
from ml.engine import DuckDB
from ml.layers.identity import Event
from ml.layers.layer_model import LayerModel
from ml.layers.layer_models import LayerModels
from ml.layers.names import Difference
from ml.layers.reasons import Code, as_columns
from ml.layers.specs import LayerSpec
from ml.layers.structure import Point
from ml.reasons import Reason
from ml.report import TABLES, AtlasInputs, render
from ml.report.data import count
from ml.report.plan import planned as planned_of
from ml.report.plan import reasons
from ml.value import Basis, Outlook

DAY = date(2017, 12, 1)
STAGES = {"prospect": 0.05, "new": 0.08, "active": 0.55, "star": 0.08, "reengaged": 0.06, "churn": 0.18}
WAYS = {
    "prospect": ("new",),
    "new": ("active", "active", "churn"),
    "active": ("star", "churn", "churn"),
    "star": ("active",),
    "reengaged": ("active", "active", "star", "churn"),
    "churn": ("reengaged",),
}
NAMES = (
    "high spend · frequent, many categories",
    "high spend, fading · discount lovers · long-time customers",
    "medium spend · discount lovers, frequent",
    "low spend · infrequent · pay full price",
)


def ident(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def table(declared: tables.Table, rows: Sequence[Mapping[str, Any]], day: date | None = DAY) -> pa.Table:
    schema = declared.schema() if day is None else declared.empty_days().schema
    full = [dict.fromkeys(schema.names) | ({"day": day} if day else {}) | dict(row) for row in rows]
    return pa.Table.from_pylist(full, schema=schema)


def strings_of(stage: str, count: int) -> list[str]:
    return [
        f"{stage}/value.{'ABCD'[i % 4]}/engagement.{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[i // 4 % 26]}" for i in range(count)
    ]


def profile(text: str, customers: int, ltv: float, is_leaf: bool, name: str) -> dict[str, Any]:
    revenue = ltv * customers / 3.4
    return {
        "micro_segment_id": ident(text),
        "micro_segment": text,
        "name": name,
        "stage": text.split("/")[0],
        "depth": text.count("/"),
        "is_leaf": is_leaf,
        "customers": customers,
        "buyers": int(customers * 0.7),
        "conversion": 0.7,
        "orders": customers * 5,
        "revenue": revenue,
        "revenue_per_customer": revenue / max(customers, 1),
        "average_order": revenue / max(customers * 5, 1),
        "events_per_customer": 3.2,
        "ltv": ltv * customers,
        "ltv_per_customer": ltv,
        "p_churn": 0.12,
    }


def cluster(stage: str, layer: str, letter: str, event: str = "continued", **columns: Any) -> dict[str, Any]:
    """A row of `cluster_lineage`; by default a cluster of last week with all of its customers."""
    size = columns.get("customers", 0 if event in ("merged", "retired") else 100)
    is_new = event in ("first", "born", "split")
    is_gone = event in ("merged", "retired")
    return {
        "stage": stage,
        "layer": layer,
        "cluster": letter,
        "cluster_name": None if is_gone else f"kind {letter}",
        "event": event,
        "other": "",
        "customers_before": 0 if is_new else size or 100,
        "customers": size,
        "retained_share": 0.0 if event == "first" else 1.0,
        "inherited_share": 0.0 if event == "first" or is_gone else 1.0,
        "kind": "fixed",
        **why(Code.ASKED_FOR, asked=2),
        "since": None if is_gone else DAY - timedelta(days=5 if is_new else 40),
        "differences": "" if is_gone else "spend_90d 412 against 128; orders_90d 6.1 against 2.43",
    } | columns


def why(code: Code, **figures: Any) -> dict[str, Any]:
    """The columns of `cluster_lineage` that say why a layer has its clusters."""
    return as_columns(Reason(code, figures))


def planned(code: str, **figures: Any) -> dict[str, Any]:
    """The columns of `action_plan` that say why."""
    return Reason(code, figures).as_columns(PLAN_WORDS)


NO_CUT = why(Code.NO_CUT_PAYS, best=0.003)


def lineage(*rows: Mapping[str, Any]) -> pa.Table:
    return table(tables.CLUSTER_LINEAGE, rows, None)


def shop_clusters() -> list[dict[str, Any]]:
    """Values of five in each stage, rhythms in two of them, of which one is new, and layers that are not cut."""
    grades = ("very high lifetime value", "high lifetime value", "medium lifetime value", "low lifetime value", "none")
    natural: dict[str, Any] = {
        "kind": "natural",
        "stability": 0.934,
        **why(Code.NATURAL, clusters=3, separation=0.21, separation_asked=0.015, stability=0.93),
    }
    cut: dict[str, Any] = {
        "kind": "cut",
        "gain": 0.0213,
        **why(Code.CUT_PAYS, clusters=2, gain_spend=0.021, gain_stage=0.004),
    }
    rows = [
        cluster(
            stage, "value", "ABCDE"[i], customers=60 - 7 * i, cluster_name=name,
            **why(Code.ASKED_FOR, asked=5), differences=f"ltv {900 / (i + 1):.3g} against 240",
        )
        for stage in STAGES
        for i, name in enumerate(grades)
    ]  # fmt: skip
    rows += [
        cluster(
            "active", "engagement", "A", customers_before=410, customers=237, retained_share=0.561,
            inherited_share=0.97, **natural,
            cluster_name="very frequent",
        ),
        cluster(
            "active", "engagement", "B", customers_before=430, customers=599, retained_share=0.979,
            inherited_share=0.703, **natural,
            cluster_name="infrequent",
        ),
        cluster("active", "engagement", "C", "merged", other="B", retained_share=0.821,
                customers_before=207, **natural),
        cluster(
            "active", "engagement", "D", "split", other="A", customers=211, retained_share=0.42,
            inherited_share=0.815, **natural,
            cluster_name="frequent, long gaps, overdue, small baskets",
            differences="purchase_days_28d 5.2 against 2.1; top_category_90d is GROCERY for 62% against 40%",
        ),
        *(cluster("star", "engagement", letter, **cut) for letter in "AB"),
    ]  # fmt: skip
    return rows + [
        cluster(stage, layer, "A", cluster_name="all alike", kind="one", differences="", **NO_CUT)
        for stage in STAGES
        for layer in ("predicted", "promotion", "affinity")
    ]


def business(customers: int = 600, leaves: int = 4, seed: int = 7, own: float = 0.34) -> AtlasInputs:
    """A small business with a week of movements; `own` is the share of effects that stand on own evidence."""
    rng = random.Random(seed)
    worth = {"prospect": 0.0, "new": 80.0, "active": 240.0, "star": 890.5, "reengaged": 110.0, "churn": 14.2}
    strings = {stage: strings_of(stage, leaves) for stage in STAGES}
    where: dict[str, tuple[str, str]] = {}
    for number in range(customers):
        stage = rng.choices(list(STAGES), list(STAGES.values()))[0]
        where[f"c{number:05}"] = (stage, rng.choice(strings[stage]))
    moves = []
    for back in range(6, -1, -1):
        day = DAY - timedelta(days=back)
        for who in sorted(where):
            old = where[who]
            cause = None
            if rng.random() < 0.02:
                cause = rng.choices(["behaviour", "model", "both", "rule"], [6, 2, 1, 1])[0]
                stage = rng.choice(WAYS[old[0]]) if rng.random() < 0.5 else old[0]
                where[who] = (stage, rng.choice([s for s in strings[stage] if s != old[1]]))
            new = where[who]
            entered = back == 3 and who.endswith("77")
            if back > 3 and who.endswith("77"):
                continue  # not known yet
            moves.append(
                {
                    "customer_id": who,
                    "from_stage": None if entered else old[0],
                    "to_stage": new[0],
                    "from_micro_segment_id": None if entered else ident(old[1]),
                    "restated_micro_segment_id": None if entered else ident(old[1]),
                    "to_micro_segment_id": ident(new[1]),
                    "cause": "entry" if entered else cause,
                    "day": day,
                }
            )
    sizes: dict[str, int] = {}
    for _, text in where.values():
        sizes[text] = sizes.get(text, 0) + 1
    profiles = []
    for stage in STAGES:
        mine = {text: sizes.get(text, 0) for text in strings[stage] if sizes.get(text)}
        if not mine:
            continue
        each = {text: worth[stage] * (0.5 + (i % 5) / 4) for i, text in enumerate(mine)}
        total = sum(mine.values())
        mean = sum(mine[text] * each[text] for text in mine) / total
        profiles.append(profile(stage, total, mean, False, stage.capitalize()))
        for i, text in enumerate(mine):
            name = f"{stage.capitalize()}: {NAMES[i % 4]}" + (f" · kind {i // 4}" if i >= 4 else "")
            profiles.append(profile(text, mine[text], each[text], True, name))
    forecasts = []
    for who in sorted(where):
        stage = where[who][0]
        others = sorted(set(WAYS[stage]))
        for horizon, stays in ((7, 0.94), (28, 0.8)):
            forecasts.append({"customer_id": who, "horizon_days": horizon, "stage": stage, "probability": stays})
            chance = (1 - stays) / len(others)
            forecasts += [
                {"customer_id": who, "horizon_days": horizon, "stage": other, "probability": chance} for other in others
            ]
    effects = []
    for action, (mean, half, design, placebo) in {
        "mailing": (4.2, 2.9, "randomised", "not needed"),
        "voucher": (11.35, 5.0, "observational", "passed"),
        "catalogue": (38.7, 21.0, "observational", "failed"),
    }.items():
        for text in ["all", *(row["micro_segment"] for row in profiles)]:
            shift = rng.uniform(-3, 3) if text != "all" else 0.0
            level = "own" if text == "all" or rng.random() < own else "parent"
            effects.append(
                {
                    "micro_segment_id": ident(text),
                    "micro_segment": text,
                    "action": action,
                    "effect": mean + shift,
                    "ci_low": mean + shift - half,
                    "ci_high": mean + shift + half,
                    "treated": 812,
                    "control": 640,
                    "evidence_level": "unsupported" if placebo == "failed" else level,
                    "design": design,
                    "placebo": placebo,
                    "minimum_detectable_effect": 3.75,
                }
            )
    plan = []
    for number, who in enumerate(sorted(where)):
        stage, text = where[who]
        row: dict[str, Any] = {
            "customer_id": who,
            "micro_segment_id": ident(text),
            "action": "none",
            "is_holdout": False,
            "propensity": 0.9,
            "expected_incremental_value": 0.0,
            "ci_low": 0.0,
            "cost": 0.0,
            **planned("interval_includes_cost", action="mailing", ci_low=-2.0, ci_high=1.0, cost=number % 5 + 0.5),
        }
        if number % 10 == 0:
            row |= {"is_holdout": True, **planned("held_out", cycle=3)}
        elif stage in ("active", "star"):
            row |= {
                "action": "mailing",
                "expected_incremental_value": 3.7,
                "cost": 0.5,
                **planned("planned", action="mailing", effect=4.2, cost=0.5),
            }
        elif stage == "churn":
            row |= planned("no_effects", why="", actions=["mailing"])
        plan.append(row)
    return AtlasInputs(
        project="corner-shop",
        day=DAY,
        currency="USD",
        tables={
            "lifecycle_stages": table(
                tables.LIFECYCLE_STAGES,
                [
                    {
                        "customer_id": who,
                        "stage": stage,
                        "sub_stage": ("at-risk" if i % 3 else "steady") if stage == "active" else stage,
                        "stage_since": DAY - timedelta(days=9),
                        "previous_stage": None,
                    }
                    for i, (who, (stage, _)) in enumerate(sorted(where.items()))
                ],
            ),
            "micro_segment_profiles": table(tables.MICRO_SEGMENT_PROFILES, profiles),
            "movements": table(tables.MOVEMENTS, [row for row in moves if row["day"] == DAY]),
            "journey_forecasts": table(tables.JOURNEY_FORECASTS, forecasts),
            "action_effects": table(tables.ACTION_EFFECTS, effects),
            "action_plan": table(tables.ACTION_PLAN, plan),
            "audiences": table(
                tables.AUDIENCES,
                [
                    {"customer_id": who, "audience": name}
                    for i, who in enumerate(sorted(where))
                    for name, step in (("coupon_responders", 9), ("big_baskets", 4))
                    if i % step == 0
                ],
            ),
        },
        moves=table(tables.MOVEMENTS, moves),
        evidence=table(
            tables.SEGMENT_EVIDENCE,
            [
                {"grouping": g, "groups": n, "r2_spend": r / 1.3, "r2_log_spend": r}
                for g, n, r in (
                    ("stage only", 6, 0.31),
                    ("RFM quintile grid", 119, 0.452),
                    ("random groups", 24, -0.004),
                    ("micro-segments", 24, 0.47),
                    ("quantile bins of predicted spend", 24, 0.49),
                    ("individual model", 2469, 0.512),
                )
            ],
            None,
        ),
        lineage=lineage(*shop_clusters()),
        choices=[
            {
                "family": "value",
                "model_name": "corner-shop.value",
                "version": 9,
                "decision": "challenger",
                "week": date(2017, 11, 20),
                "reason": "MAE 71.2 against 73.9: better by 3.7%, at least the 0.5% that is asked for",
                "metric": "mae",
                "challenger": 71.2,
                "incumbent": 73.9,
            },
            {
                "family": "action-response",
                "model_name": None,
                "version": None,
                "decision": "none",
                "week": date(2017, 11, 20),
                "reason": "41 matured exposures, 50 are needed",
                "metric": "r_loss",
                "challenger": None,
                "incumbent": None,
            },
        ],
        switched_off=("balances",),
        treatments={"active": "Keep the habit", "active/at-risk": "Lookback out before the silence becomes a habit"},
    )


@pytest.fixture(scope="module")
def engine() -> DuckDB:
    return DuckDB(threads=2)


@pytest.fixture(scope="module")
def inputs() -> AtlasInputs:
    return business()


@pytest.fixture(scope="module")
def page(engine: DuckDB, inputs: AtlasInputs) -> str:
    return render(engine, inputs)


def words(page: str) -> str:
    """The page as read: without styles, scripts and tags."""
    bare = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare))


def emptied(inputs: AtlasInputs, *names: str) -> AtlasInputs:
    return replace(inputs, tables={**inputs.tables, **{name: tables.OUTPUTS[name].empty_days() for name in names}})


def test_identical_inputs_give_identical_bytes(engine: DuckDB, inputs: AtlasInputs, page: str) -> None:
    assert render(DuckDB(threads=1), inputs) == page


def test_a_page_whose_value_is_of_margin_says_margin_wherever_it_shows_some(
    engine: DuckDB, inputs: AtlasInputs, page: str
) -> None:
    in_margin = render(engine, replace(inputs, basis=Basis(1000.0, 90, Outlook(), "margin")))
    assert "Revenue, last 28 days" in page and "Margin, last 28 days" in in_margin
    assert "Margin per customer" in in_margin and "expected gross margin of a customer" in in_margin
    assert "variance of next month’s margin" in in_margin and "Mean change in gross margin" in in_margin
    assert not re.search("revenue|month’s spend", in_margin, re.IGNORECASE)


def test_row_order_never_shows(engine: DuckDB, inputs: AtlasInputs, page: str) -> None:
    rng = random.Random(1)

    def shuffled(rows: pa.Table) -> pa.Table:
        return rows.take(rng.sample(range(rows.num_rows), rows.num_rows))

    mixed = replace(
        inputs,
        tables={name: shuffled(rows) for name, rows in inputs.tables.items()},
        moves=shuffled(inputs.moves),
        evidence=shuffled(inputs.evidence),
        lineage=shuffled(inputs.lineage),
        choices=inputs.choices[::-1],
    )
    assert render(engine, mixed) == page


def test_another_day_in_the_tables_changes_nothing(engine: DuckDB, inputs: AtlasInputs, page: str) -> None:
    yesterday = business(customers=50, seed=3)
    earlier = {}
    for name, rows in yesterday.tables.items():
        position = rows.schema.get_field_index("day")
        days = pa.array([DAY - timedelta(days=1)] * rows.num_rows, pa.date32())
        earlier[name] = pa.concat_tables([inputs.tables[name], rows.set_column(position, "day", days)])
    old = inputs.moves.set_column(
        inputs.moves.schema.get_field_index("day"),
        "day",
        pa.array([DAY - timedelta(days=7)] * inputs.moves.num_rows, pa.date32()),
    )
    assert render(engine, replace(inputs, tables=earlier, moves=pa.concat_tables([inputs.moves, old]))) == page


def test_text_from_data_is_escaped_wherever_it_stands(engine: DuckDB, inputs: AtlasInputs) -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"

    def poisoned(rows: pa.Table) -> pa.Table:
        keep = {
            "customer_id",
            "evidence_level",
            "cause",
            "micro_segment_id",
            "micro_segment",
            "design",
            "event",
            "kind",
        }
        for i, column in enumerate(rows.schema):
            if pa.types.is_string(column.type) and column.name not in keep and "_id" not in column.name:
                values = [None if v is None else v + evil for v in rows[column.name].to_pylist()]
                rows = rows.set_column(i, column, pa.array(values, pa.string()))
        return rows

    page = render(
        engine,
        AtlasInputs(
            project=evil,
            day=DAY,
            currency=evil,
            tables={name: poisoned(rows) for name, rows in inputs.tables.items()},
            moves=poisoned(inputs.moves),
            evidence=poisoned(inputs.evidence),
            lineage=poisoned(inputs.lineage),
            choices=[
                {name: value + evil if isinstance(value, str) else value for name, value in row.items()}
                for row in inputs.choices
            ],
            switched_off=[evil],
            treatments={f"active{evil}": evil, f"active{evil}/at-risk{evil}": evil},
        ),
    )
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)" in page


class _Parser(HTMLParser):
    """Collects what could fetch something, and which ids and fragments there are."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.fragments: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "data", "action", "poster", "xlink:href") or name.startswith("on"):
                self.fetched.append(f"{tag} {name}")
            if name == "href":
                (self.fragments if (value or "").startswith("#") else self.fetched).append(value or "")
            if name == "id":
                self.ids.append(value or "")


def test_page_is_self_contained_and_its_links_lead_somewhere(page: str) -> None:
    parser = _Parser()
    parser.feed(page)
    assert parser.fetched == ["data:,"]  # the icon, so that browsers do not ask for one
    assert not re.search(r"https?://|@import|fetch\(|XMLHttpRequest", page)
    assert len(set(parser.ids)) == len(parser.ids)
    assert {one[1:] for one in parser.fragments} <= set(parser.ids)


@pytest.mark.parametrize("own", [0.34, 1.0])
def test_four_hundred_micro_segments_stay_under_300_kb(engine: DuckDB, own: float) -> None:
    big = business(customers=4500, leaves=68, own=own)
    leaves = sum(big.tables["micro_segment_profiles"]["is_leaf"].to_pylist())
    assert leaves >= 400
    size = len(render(engine, big).encode())
    assert size < 300_000, size


def test_headline_adds_up_to_the_tables(engine: DuckDB, inputs: AtlasInputs, page: str) -> None:
    leaves = [row for row in inputs.tables["micro_segment_profiles"].to_pylist() if row["is_leaf"]]
    said = words(page)
    assert f"Customers known {sum(row['customers'] for row in leaves):,} " in said
    assert f"USD {sum(row['revenue'] for row in leaves):,.0f} " in said
    assert f"USD {sum(row['ltv'] for row in leaves):,.0f} " in said


def test_every_micro_segment_has_one_line(inputs: AtlasInputs, page: str) -> None:
    strings = [r["micro_segment"] for r in inputs.tables["micro_segment_profiles"].to_pylist() if r["is_leaf"]]
    assert sorted(re.findall(r"<summary>(.*?)</summary>", page)) == sorted(strings)


def moves_of(*ways: Sequence[tuple[str | None, str, str | None]]) -> pa.Table:
    """Each customer's way: per day where from, where to and why; days end on DAY."""
    rows = []
    for number, way in enumerate(ways):
        for back, (start, end, cause) in enumerate(reversed(way)):
            rows.append(
                {
                    "customer_id": f"m{number}",
                    "from_stage": start,
                    "to_stage": end,
                    "cause": cause,
                    "from_micro_segment_id": start and ident(start),
                    "to_micro_segment_id": ident(end),
                    "day": DAY - timedelta(days=back),
                }
            )
    return table(tables.MOVEMENTS, rows)


STAY = ("active", "active", None)


def test_a_customer_who_left_and_returned_has_not_moved(engine: DuckDB, inputs: AtlasInputs) -> None:
    there_and_back = [("active", "star", "behaviour"), ("star", "active", "behaviour")]
    page = words(render(engine, replace(inputs, moves=moves_of(there_and_back, [STAY, STAY]))))
    assert "Another 1 customer left theirs and returned, and is not counted." in page
    assert "No customer changed stage." in page


def test_causes_of_a_week_are_split_and_never_hidden(engine: DuckDB, inputs: AtlasInputs) -> None:
    moves = moves_of(
        [("active", "star", "behaviour"), ("star", "star", None)],
        [("active", "star", "model"), ("star", "star", None)],
        [("active", "new", "model"), ("new", "star", "behaviour")],
        [STAY, (*STAY[:2], None)],
        [("new", "active", "rule"), STAY],
    )
    page = words(render(engine, replace(inputs, moves=moves)))
    assert (
        "3 customers moved from “active” to “star”: 1 by behaviour, 1 by new models and "
        "1 by behaviour and new models together." in page
    )
    assert "1 customer moved from “new” to “active”: by the calendar." in page
    assert "80% of customers (4) are in another micro-segment than a week ago." in page


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Active: low · rising · A", "Active: low · fading · A", "within “Active: low · A” from “rising” to “fading”"),
        ("Active: often · often", "Active: often · rarely", "within “Active: often” from “often” to “rarely”"),
        ("Active: low · A", "Active: high", "within “Active” from “low · A” to “high”"),
        ("Active: low", "Active: low", "within “Active” from “low” to “low”"),
        ("Active: low", "Star: low", "1 customer from “Active: low” to “Star: low”"),
    ],
)
def test_movement_between_micro_segments_says_the_difference(
    engine: DuckDB, inputs: AtlasInputs, old: str, new: str, said: str
) -> None:
    names = {"active/value.A": old, "active/value.B": new}
    (way,) = moves_of([("active/value.A", "active/value.B", "behaviour")]).to_pylist()
    moves = table(tables.MOVEMENTS, [way | {"from_stage": "active", "to_stage": "active"}])
    profiles = table(tables.MICRO_SEGMENT_PROFILES, [profile(text, 1, 9.0, True, name) for text, name in names.items()])
    page = render(engine, replace(inputs, moves=moves, tables={**inputs.tables, "micro_segment_profiles": profiles}))
    assert f"{said}: by behaviour." in words(page)


def test_picture_and_table_expect_the_same_customers(page: str) -> None:
    picture = dict(re.findall(r'<text x="860"[^>]*>(\w+)</text><text class="f"[^>]*>([\d,]+) ', page))
    table_ = dict(re.findall(r'<tr><th scope="row">(\w+)<td>.*?<td>([\d,]+) <span class="soft">\(', page))
    assert picture and picture == table_


def test_first_day_of_the_record_moves_nobody(engine: DuckDB, inputs: AtlasInputs) -> None:
    first = moves_of([(None, "active", "entry")], [(None, "star", "entry")])
    page = words(render(engine, replace(inputs, moves=first)))
    assert "No movements yet: the record begins on 1 December 2017" in page
    assert "became known" not in page


def test_record_that_begins_inside_the_week_is_no_wave_of_entries(engine: DuckDB, inputs: AtlasInputs) -> None:
    moves = moves_of([(None, "active", "entry"), ("active", "star", "behaviour")], [(None, "active", "entry"), STAY])
    page = words(render(engine, replace(inputs, moves=moves)))
    assert "1 customer moved from “active” to “star”: by behaviour." in page
    assert "became known" not in page


def effects_in(page: str, section: str) -> list[str]:
    inside = page.split(f'id="{section}"')[1].split("</section>")[0]
    rows = re.findall(
        r"<(?:tr|p\b)[^>]*>.*?(?=<tr|<p\b|</t|</d|</p)", re.sub(r"<svg>.*?</svg>", "", inside), flags=re.S
    )
    return [row for row in rows if "observational" in row.lower() or "randomised" in row.lower()]


def test_design_follows_an_effect_everywhere_and_unsupported_ones_are_grey(page: str, inputs: AtlasInputs) -> None:
    rows = effects_in(page, "segments") + effects_in(page, "effects")
    assert len(rows) >= 3 * sum(inputs.tables["micro_segment_profiles"]["is_leaf"].to_pylist())
    for row in rows:
        assert ("unsupported" in row) == (" class=u" in row)
        if "catalogue" in row or "voucher" in row:
            assert "observational" in row
    cards = [card for card in page.split('<div class="card">')[1:] if "catalogue" in card.split("</h3>")[0]]
    assert "never acted upon" in cards[0] and "placebo failed" in cards[0].lower()
    assert cards[0].split("</h3>")[0].count('class="tag"') == 2  # neither tag in the accent colour


def test_every_effect_of_every_micro_segment_is_shown(page: str) -> None:
    effects = effects_in(page, "segments")
    assert sum("mailing" in row for row in effects) == page.count("<summary>")


def test_reasons_that_differ_in_figures_are_one_reason(inputs: AtlasInputs, page: str) -> None:
    plan = [
        row for row in inputs.tables["action_plan"].to_pylist() if row["action"] == "none" and not row["is_holdout"]
    ]
    said = words(page)
    costly = sum("clear its cost" in row["reason"] for row in plan)
    assert said.count("the interval of mailing (−2.00 … 1.00) does not clear its cost") == 1
    assert re.search(rf"does not clear its cost \d\.50 \(figures differ[^)]*\) {costly} ", said)
    held_out = sum(row["is_holdout"] for row in inputs.tables["action_plan"].to_pylist())
    assert f"held out on purpose {held_out} " in said


def test_reasons_of_the_plan_are_distinguished_by_their_code_and_not_by_their_words(
    engine: DuckDB, inputs: AtlasInputs
) -> None:
    def counts(of: AtlasInputs) -> list[tuple[str, bool]]:
        return [(row["customers"], row["similar"]) for row in reasons(planned_of(count(engine, of))[0])]

    said = inputs.tables["action_plan"]
    position = said.schema.get_field_index("reason")
    dada = said.set_column(position, "reason", pa.array(["dada 17"] * said.num_rows))
    before, other = counts(inputs), counts(replace(inputs, tables={**inputs.tables, "action_plan": dada}))
    assert len(before) == 2 and [size for size, _ in other] == [size for size, _ in before]
    without = said.schema.get_field_index("reason_parameters")
    coded = said.set_column(without, "reason_parameters", pa.nulls(said.num_rows, pa.string()))
    assert counts(replace(inputs, tables={**inputs.tables, "action_plan": coded})) == counts(inputs), "codes alone do"
    older = said
    for name in ("reason_code", "reason_parameters"):
        older = older.set_column(older.schema.get_field_index(name), name, pa.nulls(older.num_rows, pa.string()))
    shown = reasons(planned_of(count(engine, replace(inputs, tables={**inputs.tables, "action_plan": older})))[0])
    assert len(shown) == 6 and not any(row["similar"] for row in shown)  # five costs, as they are said


def test_share_expected_to_leave_comes_from_the_longest_horizon(page: str) -> None:
    line = re.search(r"<tbody><tr><th>[^<]*(<td.*?)<tr>", page, flags=re.S)
    assert line and "<td>20%" in line[1]


def test_unfavourable_evidence_is_shown(engine: DuckDB, inputs: AtlasInputs, page: str) -> None:
    assert "individual model (51%) and quantile bins of predicted spend (49%) explain more." in words(page)
    ours = table(
        tables.SEGMENT_EVIDENCE,
        [
            {"grouping": "micro-segments", "groups": 9, "r2_spend": 0.2, "r2_log_spend": 0.4},
            {"grouping": "stage only", "groups": 6, "r2_spend": 0.2, "r2_log_spend": -0.1},
        ],
        None,
    )
    text = words(render(engine, replace(inputs, evidence=ours)))
    assert "more than every alternative; the next best, stage only, explains −10%." in text


def test_before_any_model_the_page_says_so(engine: DuckDB, inputs: AtlasInputs) -> None:
    stages = [row for row in inputs.tables["micro_segment_profiles"].to_pylist() if row["depth"] == 0]
    bare = emptied(inputs, "movements", "journey_forecasts", "action_effects", "action_plan", "audiences")
    bare = replace(
        bare,
        tables={
            **bare.tables,
            "micro_segment_profiles": table(tables.MICRO_SEGMENT_PROFILES, [{**r, "is_leaf": True} for r in stages]),
        },
        moves=tables.MOVEMENTS.empty_days(),
        evidence=tables.SEGMENT_EVIDENCE.empty(),
        lineage=tables.CLUSTER_LINEAGE.empty(),
        choices=(),
        switched_off=("exposures",),
    )
    said = words(render(engine, bare))
    for claim in (
        "No model yet",
        "No movements yet",
        "No clusters yet",
        "No forecasts yet",
        "No effects yet",
        "No plan yet",
        "No evidence yet",
    ):
        assert claim in said
    assert "exposures: the effects of actions cannot be measured" in said
    assert "nan" not in said.lower().split() and "None" not in said


@pytest.mark.parametrize("name", [*TABLES, "all"])
def test_any_table_may_be_empty(engine: DuckDB, inputs: AtlasInputs, name: str) -> None:
    without = emptied(inputs, *(TABLES if name == "all" else (name,)))
    assert "</html>" in render(engine, without)


def test_missing_numbers_are_dashes(engine: DuckDB, inputs: AtlasInputs) -> None:
    rows = inputs.tables["micro_segment_profiles"].to_pylist()
    broken = ("average_order", "ltv", "ltv_per_customer", "p_churn", "conversion", "events_per_customer", "revenue")
    for row in rows:
        row |= {name: None if i % 2 else float("nan") for i, name in enumerate(broken)}
    said = words(
        render(
            engine,
            replace(
                inputs, tables={**inputs.tables, "micro_segment_profiles": table(tables.MICRO_SEGMENT_PROFILES, rows)}
            ),
        )
    )
    assert "nan" not in said.lower().split() and "None" not in said and "–" in said


def test_forecasts_need_no_movements(engine: DuckDB, inputs: AtlasInputs) -> None:
    """Without movements the plan says who is in which micro-segment; without both, stages still have a forecast."""
    planned = render(engine, emptied(inputs, "movements"))
    assert "Expected: 80%" in planned
    neither = render(engine, emptied(inputs, "movements", "action_plan"))
    assert "Expected: 80%" not in neither and "expected in 28 days" in neither


# ── clusters ──────────────────────────────────────────────────────────────────────────────────────────────────────


def section_of(page: str, name: str = "clusters") -> str:
    """The markup of one section."""
    return page.split(f'<section id="{name}"')[1].split("</section>")[0]


def section_words(engine: DuckDB, inputs: AtlasInputs, *rows: Mapping[str, Any]) -> str:
    """The section on clusters as read, for these rows of lineage."""
    return words("<section" + section_of(render(engine, replace(inputs, lineage=lineage(*rows)))))


def fixed_kind(code: Code, **figures: Any) -> dict[str, Any]:
    return {"kind": "fixed", **why(code, **figures)}


UNKNOWN = {"features": ["income"], "unknown": 90, "customers": 900}


@pytest.mark.parametrize(
    ("row", "count", "said"),
    [
        ({"kind": "natural", "stability": 0.934}, 3, "rhythm: 3 natural clusters (bootstrap agreement 0.93)"),
        ({"kind": "cut", "gain": 0.0213}, 4, "rhythm: a cut into 4, explains 2.1% more of the variance"),
        (fixed_kind(Code.ASKED_FOR, asked=5), 5, "rhythm: 5 clusters, as set in the project file A"),
        (
            fixed_kind(Code.FEWER_THAN_ASKED, asked=5, clusters=3, smallest=30),
            3,
            "rhythm: 3 clusters, where the project file asks for 5 The project file asks for 5; of more than 3 one",
        ),
        (
            fixed_kind(Code.QUANTILES, asked=2, feature="ltv"),
            2,
            "rhythm: 2 clusters, as set in the project file The project file asks for 2 quantiles of ltv.",
        ),
        (
            fixed_kind(Code.QUANTILES, asked=5, feature="ltv"),
            4,
            "rhythm: 4 clusters, where the project file asks for 5 The project file asks for 5 quantiles of ltv.",
        ),
        (
            fixed_kind(Code.UNKNOWN_APART, others=Reason(Code.ASKED_FOR, {"asked": 3}).stored(), **UNKNOWN),
            4,
            "rhythm: 3 clusters, as set in the project file, and one of customers without known values Income unknown",
        ),
        (
            fixed_kind(Code.UNKNOWN_APART, others=Reason(Code.ALL_ALIKE).stored(), **UNKNOWN),
            2,
            "rhythm: one cluster, and one of customers without known values Income unknown for 90 of 900 customers, a",
        ),
        ({"kind": "rules", **why(Code.RULES)}, 2, "rhythm: 2 groups by the project file’s rules A"),
        (
            {"kind": "fixed", "reason": "what was said then", "reason_code": None, "reason_parameters": None},
            2,
            "rhythm: 2 clusters What was said then.",
        ),
    ],
)
def test_each_kind_of_layer_is_described_in_words(
    engine: DuckDB, inputs: AtlasInputs, row: dict[str, Any], count: int, said: str
) -> None:
    assert said in section_words(
        engine, inputs, *(cluster("active", "rhythm", letter, **row) for letter in "ABCDE"[:count])
    )


def test_why_a_layer_has_its_clusters_is_explained_in_full(inputs: AtlasInputs, page: str) -> None:
    said = words("<section" + section_of(page))
    for row in inputs.lineage.to_pylist():
        if row["kind"] in ("natural", "cut"):
            assert row["reason"][1:] in said.replace("&#39;", "'")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (cluster("active", "rhythm", "C", retained_share=0.98), "22 October 2017 continued: 98% stayed "),
        (cluster("active", "rhythm", "C", inherited_share=0.88), "continued: all stayed, 12% joined"),
        (
            cluster("active", "rhythm", "C", customers_before=0, retained_share=0.0, inherited_share=0.0),
            "continued: it was empty",
        ),
        (
            cluster("active", "rhythm", "C", "split", other="A", retained_share=0.44),
            "new this week split off A, with 44% of its customers",
        ),
        (
            cluster("active", "rhythm", "C", "born", retained_share=0.1, inherited_share=0.31),
            "new this week new: at most 31% came from any one cluster",
        ),
        (
            cluster("active", "rhythm", "C", "born", retained_share=0.0, inherited_share=0.0),
            "new: from none of last week’s",
        ),
        (cluster("active", "rhythm", "C", "first"), "new this week first fit"),
        (
            cluster("active", "rhythm", "C", "merged", other="B", retained_share=0.82),
            "C merged into B, with 82% of its customers.",
        ),
        (
            cluster("active", "rhythm", "C", "retired", retained_share=0.4, customers_before=212),
            "C was retired: its 212 customers are elsewhere now, at most 40% in any one cluster.",
        ),
        (
            cluster("active", "rhythm", "C", "retired", retained_share=0.0, customers_before=0),
            "C was retired: no customers were left in it.",
        ),
    ],
)
def test_what_became_of_each_cluster_is_described(
    engine: DuckDB, inputs: AtlasInputs, row: dict[str, Any], said: str
) -> None:
    assert said in section_words(engine, inputs, *(cluster("active", "rhythm", letter) for letter in "AB"), row)


def test_all_changes_of_a_week_are_summed_up(engine: DuckDB, inputs: AtlasInputs) -> None:
    rows = [
        *(cluster("active", "rhythm", letter) for letter in "AB"),
        cluster("active", "rhythm", "C", "merged", other="B"),
        cluster("active", "rhythm", "D", "split", other="A", retained_share=0.4),
        cluster("star", "rhythm", "A"),
        cluster("star", "rhythm", "B", "retired"),
        cluster("star", "rhythm", "C", "born", inherited_share=0.2),
        *(cluster("new", "rhythm", letter, "first") for letter in "AB"),
    ]
    assert (
        "Of 7 clusters, 3 continue from last week, 1 is new, 1 split off another and 2 are from a layer’s first fit; "
        "of last week’s, 1 merged into another and 1 was retired. "
        "Clusters changed in active · rhythm and star · rhythm." in section_words(engine, inputs, *rows)
    )


def test_a_week_that_changed_nothing_says_so_and_draws_nothing(engine: DuckDB, inputs: AtlasInputs) -> None:
    rows = [row for row in shop_clusters() if (row["stage"], row["layer"]) != ("active", "engagement")]
    page = section_of(render(engine, replace(inputs, lineage=lineage(*rows))))
    shown = sum(row["kind"] != "one" for row in rows)
    assert f"<p>All {shown} clusters continue from last week.</p>" in page
    assert "<svg" not in page
    assert "All " not in section_words(engine, inputs, *shop_clusters())


def test_boundaries_that_moved_are_reported(engine: DuckDB, inputs: AtlasInputs) -> None:
    rows = [
        cluster("active", "rhythm", "A", retained_share=0.9, customers_before=300),
        cluster("active", "rhythm", "B", retained_share=0.8, customers_before=100),
    ]
    said = (
        "All 2 clusters continue from last week. Cluster boundaries moved in active · rhythm, where 88% of customers "
        "stayed in their cluster."
    )
    assert said in section_words(engine, inputs, *rows)
    rows += [cluster("star", "rhythm", letter, retained_share=0.5) for letter in "AB"]
    assert "Cluster boundaries moved in 2 layers, most in star · rhythm, where 50% of" in section_words(
        engine, inputs, *rows
    )


def test_a_first_fit_has_nothing_to_be_compared_with(engine: DuckDB, inputs: AtlasInputs) -> None:
    said = section_words(engine, inputs, *(cluster("active", "rhythm", letter, "first") for letter in "AB"))
    assert "All 2 clusters are new: there is no earlier week" in said
    assert "from last week." not in said


def drawn(page: str) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    """Of the pictures of lineage: bars' heights by letter, last week and now, and the ribbons' customers."""
    bars = r'<rect class="e" x="{}" y="[^"]*" width="8" height="([^"]*)"/><text [^>]*>(\w+)'
    left, right = (
        {letter: float(height) for height, letter in re.findall(bars.format(x), section_of(page))} for x in (112, 300)
    )
    ribbons = re.findall(r"<title>([^<:]*): ([\d,]+) customers?</title>", section_of(page))
    return left, right, {said: int(count.replace(",", "")) for said, count in ribbons}


def test_the_picture_is_as_wide_as_customers_are_many(page: str) -> None:
    left, right, ribbons = drawn(page)
    before, now = {"A": 410, "B": 430, "C": 207}, {"A": 237, "B": 599, "D": 211}
    assert left == pytest.approx({letter: 150 * size / 1047 for letter, size in before.items()}, abs=0.1)
    assert right == pytest.approx({letter: 150 * size / 1047 for letter, size in now.items()}, abs=0.1)
    assert ribbons == {"A stays": 230, "B stays": 421, "A to D": 172, "C to B": 170}


def test_a_merge_that_is_also_a_split_is_drawn_once(engine: DuckDB, inputs: AtlasInputs) -> None:
    """Both rows describe the same customers: drawn twice, there would be more than existed."""
    rows = [
        cluster("active", "rhythm", "A", "merged", other="B", retained_share=0.6, customers_before=200),
        cluster("active", "rhythm", "B", "split", other="A", retained_share=0.6, inherited_share=1.0, customers=120),
        cluster("active", "rhythm", "C", "split", other="A", retained_share=0.4, inherited_share=1.0, customers=80),
    ]
    left, right, ribbons = drawn(render(engine, replace(inputs, lineage=lineage(*rows))))
    assert list(left) == ["A"] and list(right) == ["B", "C"]
    assert ribbons == {"A to B": 120, "A to C": 80}


def test_layers_with_one_cluster_share_a_line(engine: DuckDB, inputs: AtlasInputs) -> None:
    few = why(Code.TOO_FEW, customers=41, needed=60)
    one = {"kind": "one", "cluster_name": "all alike"}
    rows = [
        *(cluster("active", "value", letter) for letter in "AB"),
        cluster("active", "affinity", "A", **NO_CUT, **one),
        cluster("active", "promotion", "A", **why(Code.NO_CUT_PAYS, best=0.004), **one),
        cluster("active", "predicted", "A", **few, **one),
    ]
    said = section_words(engine, inputs, *rows)
    assert (
        "Not cut: affinity, promotion — no natural clusters, and no cut surely tells what comes next; "
        f"predicted — {few['reason']}." in said
    )
    assert "all alike" not in said and "All 2 clusters continue from last week." in said
    assert "No layer divides any stage" in section_words(engine, inputs, *rows[2:])


def test_a_layer_that_is_not_cut_any_more_has_a_block_of_its_own(engine: DuckDB, inputs: AtlasInputs) -> None:
    rows = [
        cluster(
            "active", "rhythm", "A", kind="one", inherited_share=0.5, customers=200, customers_before=100, **NO_CUT
        ),
        cluster("active", "rhythm", "B", "merged", other="A", kind="one", **NO_CUT),
    ]
    said = section_words(engine, inputs, *rows)
    assert (
        f"rhythm: one cluster N{NO_CUT['reason'][1:]}." in said
        and "B merged into A, with all of its customers." in said
    )
    assert "Not cut" not in said


def test_clusters_are_in_the_order_of_the_page_and_of_the_strings(engine: DuckDB, inputs: AtlasInputs) -> None:
    rows = [
        cluster(stage, layer, letter)
        for stage in ("churn", "new")
        for layer in ("engagement", "value")  # strings have value first
        for letter in ("AA", "B")
    ]
    page = section_of(render(engine, replace(inputs, lineage=lineage(*rows))))
    assert re.findall(r"<h3>(\w+)", page) == ["new", "churn"]
    assert re.findall(r"scope=rowgroup>(\w+):", page) == ["value", "engagement"] * 2
    assert re.findall(r"<b>(\w+)</b> kind", page) == ["B", "AA"] * 4


def test_shares_of_clusters_are_of_their_stage(engine: DuckDB, inputs: AtlasInputs) -> None:
    sizes = {"A": 1500, "B": 500}
    rows = [cluster("active", "rhythm", letter, customers=size) for letter, size in sizes.items()]
    page = section_of(render(engine, replace(inputs, lineage=lineage(*rows))))
    assert "<td style=--b:75>1,500 (75%)" in page and "<td style=--b:25>500 (25%)" in page


def test_names_of_clusters_are_escaped(engine: DuckDB, inputs: AtlasInputs) -> None:
    evil = "<img src=x>"
    named = {"cluster_name": evil, "reason": evil, "differences": evil, "other": evil}
    rows = [
        cluster(evil, evil, evil, **named),
        cluster(evil, evil, "B", "split", **named, inherited_share=1.0),
        cluster(evil, evil, "C", "merged", **named),
        cluster(evil, "one", "A", **named),
    ]
    page = render(engine, replace(inputs, lineage=lineage(*rows)))
    assert "<img" not in page
    assert section_of(page).count("&lt;img src=x&gt;") >= 10


def test_without_a_model_there_are_no_clusters_to_describe(engine: DuckDB, inputs: AtlasInputs) -> None:
    said = section_words(engine, inputs)
    assert "No clusters yet" in said and "from last week." not in said


def test_missing_figures_of_clusters_are_never_shown_as_such(engine: DuckDB, inputs: AtlasInputs) -> None:
    keys = {"cluster", "layer", "stage", "event", "kind"}
    rows = [
        {name: value for name, value in cluster("active", kind, letter, event, kind=kind).items() if name in keys}
        for kind in ("natural", "cut", "fixed", "rules", "one")
        for letter, event in zip("ABCDEF", ("continued", "first", "born", "split", "merged", "retired"), strict=True)
    ]
    said = section_words(engine, inputs, *rows)
    assert "None" not in said and "nan" not in said.lower().split()


def test_the_page_shows_what_the_models_report(engine: DuckDB, inputs: AtlasInputs) -> None:
    rhythm = LayerModel(
        "active",
        LayerSpec("rhythm", ("spend_90d",)),
        letters=("A", "C"),
        names=("high spend", "low spend"),
        since=("2017-10-01", "2017-11-26"),
        sizes=(300, 100),
        evidence=((Difference("spend_90d", "", 1.4, 412.0, 128.0),), ()),
        kind="natural",
        reason=Reason(sentence="2 natural clusters"),
        curve=(Point(2, separation=0.2, stability=0.91),),
        events=(
            Event("continued", "A", "", 310, 300, 0.95, 0.98),
            Event("merged", "B", "A", 20, 0, 0.9, 0.0),
            Event("split", "C", "A", 0, 100, 0.05, 0.6),
        ),
    )
    models = LayerModels((rhythm.layer,), (rhythm,), date(2017, 11, 26))
    said = section_words(engine, inputs, *models.lineage().to_pylist())
    for claim in (
        "rhythm: 2 natural clusters (bootstrap agreement 0.91)",
        "A high spend 300 (75%) spend in 90 days 412 against 128 1 October 2017 continued: 95% stayed",
        "C low spend 100 (25%) new this week split off A, with 5.0% of its customers",
        "B merged into A, with 90% of its customers.",
    ):
        assert claim in said
    assert "All 2 clusters continue from last week." in section_words(
        engine, inputs, *models.lineage(is_new=False).to_pylist()
    )


# ── what is said first, and in which order ────────────────────────────────────────────────────────────────────────


def test_sections_that_have_nothing_to_show_come_last(engine: DuckDB, inputs: AtlasInputs, page: str) -> None:
    order = [name for name in re.findall(r'<section id="(\w+)"', page) if name != "glossary"]
    assert order == re.findall(r'<li><a href="#(\w+)">', page)[:-1]
    bare = emptied(inputs, "action_effects", "action_plan", "audiences")
    order = re.findall(r'<section id="(\w+)"', render(engine, bare))
    assert order[0] == "glossary" and order[-3:] == ["effects", "plan", "audiences"]
    assert order.index("evidence") < order.index("effects")


def test_the_glossary_precedes_the_sections(page: str) -> None:
    assert page.index('id="glossary"') < page.index('id="stages"')


def test_the_chance_of_no_order_is_not_called_churn_and_both_windows_are_shown(
    engine: DuckDB, inputs: AtlasInputs
) -> None:
    page = words(render(engine, replace(inputs, windows={"churn_after": 211, "horizon": 90})))
    assert "P(churn)" not in page
    assert "No order in 90 days" in page and "it begins after 211 days without a purchase" in page


def test_an_audience_is_described_in_words(engine: DuckDB, inputs: AtlasInputs) -> None:
    name = inputs.tables["audiences"]["audience"][0].as_py()
    page = words(render(engine, replace(inputs, audience_words={name: "who they are, in words"})))
    assert f"{name.replace('_', ' ').capitalize()} who they are, in words" in page


def test_a_difference_has_units_and_no_exponents() -> None:
    assert str(Difference("ltv", "", 1.0, 1360.4, 375.2)) == "lifetime value 1,360 against 375"
    assert (
        str(Difference("purchase_days_28d", "", 1.0, 1.38, 0.4)) == "days with a purchase in 28 days 1.38 against 0.40"
    )
    assert str(Difference("recency_days", "", 1.0, 41.6, 9.0)) == "last purchase 42 days ago against 9 days ago"
    assert str(Difference("p_alive", "", 1.0, 0.5, 0.071)) == "chance of an order 50% against 7.1%"
    assert str(Difference("income", "unknown", 1.0, 1.0, 0.4)) == "income unknown for 100% against 40%"


def test_the_headline_is_the_change_that_moves_most_value_not_most_customers(
    engine: DuckDB, inputs: AtlasInputs
) -> None:
    """Ten from prospect to new are fewer in value than two stars who are gone."""
    ways = [[("new", "active", "behaviour"), ("active", "active", None)]] * 10
    ways += [[("star", "churn", "behaviour"), ("churn", "churn", None)]] * 8
    page = words(render(engine, replace(inputs, moves=moves_of(*ways))))
    assert "The most important change of the week: 8 customers moved from “star” to “churn”" in page
