"""Claims about the segment atlas: it repeats the tables truthfully, is safe to open, and never oversells an effect."""

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
from ml.atlas import TABLES, Atlas, render
from ml.engine import DuckDB

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


def business(customers: int = 600, leaves: int = 4, seed: int = 7, own: float = 0.34) -> Atlas:
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
            "reason": f"the interval of mailing does not clear its cost ({number % 5}.50)",
        }
        if number % 10 == 0:
            row |= {"is_holdout": True, "reason": "held out for this cycle"}
        elif stage in ("active", "star"):
            row |= {
                "action": "mailing",
                "expected_incremental_value": 3.7,
                "cost": 0.5,
                "reason": "best value for money",
            }
        elif stage == "churn":
            row |= {"reason": "no supported effect in this micro-segment or above it"}
        plan.append(row)
    return Atlas(
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
        treatments={"active": "Keep the habit", "active/at-risk": "Reach out before the silence becomes a habit"},
    )


@pytest.fixture(scope="module")
def engine() -> DuckDB:
    return DuckDB(threads=2)


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return business()


@pytest.fixture(scope="module")
def page(engine: DuckDB, atlas: Atlas) -> str:
    return render(engine, atlas)


def words(page: str) -> str:
    """The page as read: without styles, scripts and tags."""
    bare = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare))


def emptied(atlas: Atlas, *names: str) -> Atlas:
    return replace(atlas, tables={**atlas.tables, **{name: tables.OUTPUTS[name].empty_days() for name in names}})


def test_identical_inputs_give_identical_bytes(engine: DuckDB, atlas: Atlas, page: str) -> None:
    assert render(DuckDB(threads=1), atlas) == page


def test_row_order_never_shows(engine: DuckDB, atlas: Atlas, page: str) -> None:
    rng = random.Random(1)

    def shuffled(given: pa.Table) -> pa.Table:
        return given.take(rng.sample(range(given.num_rows), given.num_rows))

    mixed = replace(
        atlas,
        tables={name: shuffled(given) for name, given in atlas.tables.items()},
        moves=shuffled(atlas.moves),
        evidence=shuffled(atlas.evidence),
        choices=atlas.choices[::-1],
    )
    assert render(engine, mixed) == page


def test_another_day_in_the_tables_changes_nothing(engine: DuckDB, atlas: Atlas, page: str) -> None:
    yesterday = business(customers=50, seed=3)
    earlier = {}
    for name, given in yesterday.tables.items():
        at = given.schema.get_field_index("day")
        days = pa.array([DAY - timedelta(days=1)] * given.num_rows, pa.date32())
        earlier[name] = pa.concat_tables([atlas.tables[name], given.set_column(at, "day", days)])
    old = atlas.moves.set_column(
        atlas.moves.schema.get_field_index("day"),
        "day",
        pa.array([DAY - timedelta(days=7)] * atlas.moves.num_rows, pa.date32()),
    )
    assert render(engine, replace(atlas, tables=earlier, moves=pa.concat_tables([atlas.moves, old]))) == page


def test_text_from_data_is_escaped_wherever_it_stands(engine: DuckDB, atlas: Atlas) -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"

    def poisoned(given: pa.Table) -> pa.Table:
        keep = {"customer_id", "evidence_level", "cause", "micro_segment_id", "micro_segment", "design"}
        for i, column in enumerate(given.schema):
            if pa.types.is_string(column.type) and column.name not in keep and "_id" not in column.name:
                values = [None if v is None else v + evil for v in given[column.name].to_pylist()]
                given = given.set_column(i, column, pa.array(values, pa.string()))
        return given

    page = render(
        engine,
        Atlas(
            project=evil,
            day=DAY,
            currency=evil,
            tables={name: poisoned(given) for name, given in atlas.tables.items()},
            moves=poisoned(atlas.moves),
            evidence=poisoned(atlas.evidence),
            choices=[
                {name: value + evil if isinstance(value, str) else value for name, value in row.items()}
                for row in atlas.choices
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


def test_headline_adds_up_to_the_tables(engine: DuckDB, atlas: Atlas, page: str) -> None:
    leaves = [row for row in atlas.tables["micro_segment_profiles"].to_pylist() if row["is_leaf"]]
    said = words(page)
    assert f"Customers known {sum(row['customers'] for row in leaves):,} " in said
    assert f"USD {sum(row['revenue'] for row in leaves):,.0f} " in said
    assert f"USD {sum(row['ltv'] for row in leaves):,.0f} " in said


def test_every_micro_segment_has_one_line(atlas: Atlas, page: str) -> None:
    strings = [r["micro_segment"] for r in atlas.tables["micro_segment_profiles"].to_pylist() if r["is_leaf"]]
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


def test_who_went_and_came_back_has_not_moved(engine: DuckDB, atlas: Atlas) -> None:
    there_and_back = [("active", "star", "behaviour"), ("star", "active", "behaviour")]
    page = words(render(engine, replace(atlas, moves=moves_of(there_and_back, [STAY, STAY]))))
    assert "Another 1 customer left theirs and came back, and is not counted." in page
    assert "Nobody changed the stage." in page


def test_causes_of_a_week_are_split_and_never_hidden(engine: DuckDB, atlas: Atlas) -> None:
    moves = moves_of(
        [("active", "star", "behaviour"), ("star", "star", None)],
        [("active", "star", "model"), ("star", "star", None)],
        [("active", "new", "model"), ("new", "star", "behaviour")],
        [STAY, (*STAY[:2], None)],
        [("new", "active", "rule"), STAY],
    )
    page = words(render(engine, replace(atlas, moves=moves)))
    assert (
        "3 customers went from “active” to “star”: 1 by behaviour, 1 by new models and "
        "1 by behaviour and new models together." in page
    )
    assert "1 customer went from “new” to “active”: by the calendar." in page
    assert "80% of customers (4) are in another micro-segment than a week ago." in page


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Active: low · rising · A", "Active: low · fading · A", "inside “Active: low · A” from “rising” to “fading”"),
        ("Active: often · often", "Active: often · rarely", "inside “Active: often” from “often” to “rarely”"),
        ("Active: low · A", "Active: high", "inside “Active” from “low · A” to “high”"),
        ("Active: low", "Active: low", "inside “Active” from “low” to “low”"),
        ("Active: low", "Star: low", "1 customer from “Active: low” to “Star: low”"),
    ],
)
def test_movement_between_micro_segments_says_the_difference(
    engine: DuckDB, atlas: Atlas, old: str, new: str, said: str
) -> None:
    names = {"active/value.A": old, "active/value.B": new}
    (way,) = moves_of([("active/value.A", "active/value.B", "behaviour")]).to_pylist()
    moves = table(tables.MOVEMENTS, [way | {"from_stage": "active", "to_stage": "active"}])
    profiles = table(tables.MICRO_SEGMENT_PROFILES, [profile(text, 1, 9.0, True, name) for text, name in names.items()])
    page = render(engine, replace(atlas, moves=moves, tables={**atlas.tables, "micro_segment_profiles": profiles}))
    assert f"{said}: by behaviour." in words(page)


def test_picture_and_table_expect_the_same_customers(page: str) -> None:
    picture = dict(re.findall(r'<text x="860"[^>]*>(\w+)</text><text class="f"[^>]*>([\d,]+) ', page))
    table_ = dict(re.findall(r'<tr><th scope="row">(\w+)<td>.*?<td>([\d,]+) <span class="soft">\(', page))
    assert picture and picture == table_


def test_first_day_of_the_record_moves_nobody(engine: DuckDB, atlas: Atlas) -> None:
    first = moves_of([(None, "active", "entry")], [(None, "star", "entry")])
    page = words(render(engine, replace(atlas, moves=first)))
    assert "No movements yet: the record begins on 1 December 2017" in page
    assert "became known" not in page


def test_record_that_begins_inside_the_week_is_no_wave_of_entries(engine: DuckDB, atlas: Atlas) -> None:
    moves = moves_of([(None, "active", "entry"), ("active", "star", "behaviour")], [(None, "active", "entry"), STAY])
    page = words(render(engine, replace(atlas, moves=moves)))
    assert "1 customer went from “active” to “star”: by behaviour." in page
    assert "became known" not in page


def effects_in(page: str, section: str) -> list[str]:
    inside = page.split(f'id="{section}"')[1].split("</section>")[0]
    rows = re.findall(
        r"<(?:tr|p\b)[^>]*>.*?(?=<tr|<p\b|</t|</d|</p)", re.sub(r"<svg>.*?</svg>", "", inside), flags=re.S
    )
    return [row for row in rows if "observational" in row.lower() or "randomised" in row.lower()]


def test_design_follows_an_effect_everywhere_and_unsupported_ones_are_grey(page: str, atlas: Atlas) -> None:
    rows = effects_in(page, "segments") + effects_in(page, "effects")
    assert len(rows) >= 3 * sum(atlas.tables["micro_segment_profiles"]["is_leaf"].to_pylist())
    for row in rows:
        assert ("unsupported" in row) == (" class=u" in row)
        if "catalogue" in row or "voucher" in row:
            assert "observational" in row
    cards = [card for card in page.split('<div class="card">')[1:] if "catalogue" in card.split("</h3>")[0]]
    assert "never acted upon" in cards[0] and "placebo failed" in cards[0].lower()
    assert cards[0].split("</h3>")[0].count('class="tag"') == 2  # neither tag in the accent colour


def test_every_effect_of_every_micro_segment_is_told(page: str) -> None:
    told = effects_in(page, "segments")
    assert sum("mailing" in row for row in told) == page.count("<summary>")


def test_reasons_that_differ_in_figures_are_one_reason(atlas: Atlas, page: str) -> None:
    plan = [row for row in atlas.tables["action_plan"].to_pylist() if row["action"] == "none" and not row["is_holdout"]]
    said = words(page)
    costly = sum("clear its cost" in row["reason"] for row in plan)
    assert said.count("the interval of mailing does not clear its cost") == 1
    assert re.search(rf"does not clear its cost \(\d\.50\) \(figures differ[^)]*\) {costly} ", said)
    held = sum(row["is_holdout"] for row in atlas.tables["action_plan"].to_pylist())
    assert f"held out on purpose {held} " in said


def test_share_expected_to_leave_comes_from_the_longest_horizon(page: str) -> None:
    line = re.search(r"<tbody><tr><th>[^<]*(<td.*?)<tr>", page, flags=re.S)
    assert line and "<td>20%" in line[1]


def test_unwelcome_evidence_is_said(engine: DuckDB, atlas: Atlas, page: str) -> None:
    assert "individual model (51%) and quantile bins of predicted spend (49%) tell more." in words(page)
    ours = table(
        tables.SEGMENT_EVIDENCE,
        [
            {"grouping": "micro-segments", "groups": 9, "r2_spend": 0.2, "r2_log_spend": 0.4},
            {"grouping": "stage only", "groups": 6, "r2_spend": 0.2, "r2_log_spend": -0.1},
        ],
        None,
    )
    better = words(render(engine, replace(atlas, evidence=ours)))
    assert "more than every alternative; the next best, stage only, tells −10%." in better


def test_before_any_model_the_page_says_so(engine: DuckDB, atlas: Atlas) -> None:
    stages = [row for row in atlas.tables["micro_segment_profiles"].to_pylist() if row["depth"] == 0]
    bare = emptied(atlas, "movements", "journey_forecasts", "action_effects", "action_plan", "audiences")
    bare = replace(
        bare,
        tables={
            **bare.tables,
            "micro_segment_profiles": table(tables.MICRO_SEGMENT_PROFILES, [{**r, "is_leaf": True} for r in stages]),
        },
        moves=tables.MOVEMENTS.empty_days(),
        evidence=tables.SEGMENT_EVIDENCE.empty(),
        choices=(),
        switched_off=("exposures",),
    )
    said = words(render(engine, bare))
    for claim in (
        "No model yet",
        "No movements yet",
        "No forecasts yet",
        "No effects yet",
        "No plan yet",
        "No evidence yet",
    ):
        assert claim in said
    assert "exposures is not brought" in re.sub(r"\s+", " ", said)
    assert "nan" not in said.lower().split() and "None" not in said


@pytest.mark.parametrize("name", [*TABLES, "all"])
def test_any_table_may_be_empty(engine: DuckDB, atlas: Atlas, name: str) -> None:
    without = emptied(atlas, *(TABLES if name == "all" else (name,)))
    assert "</html>" in render(engine, without)


def test_missing_numbers_are_dashes(engine: DuckDB, atlas: Atlas) -> None:
    rows = atlas.tables["micro_segment_profiles"].to_pylist()
    broken = ("average_order", "ltv", "ltv_per_customer", "p_churn", "conversion", "events_per_customer", "revenue")
    for row in rows:
        row |= {name: None if i % 2 else float("nan") for i, name in enumerate(broken)}
    said = words(
        render(
            engine,
            replace(
                atlas, tables={**atlas.tables, "micro_segment_profiles": table(tables.MICRO_SEGMENT_PROFILES, rows)}
            ),
        )
    )
    assert "nan" not in said.lower().split() and "None" not in said and "–" in said


def test_forecasts_need_no_movements(engine: DuckDB, atlas: Atlas) -> None:
    """Without movements the plan says who is in which micro-segment; without both, stages still have a forecast."""
    planned = render(engine, emptied(atlas, "movements"))
    assert "In 28 days: 80%" in planned
    neither = render(engine, emptied(atlas, "movements", "action_plan"))
    assert "In 28 days: 80%" not in neither and "expected in 28 days" in neither
