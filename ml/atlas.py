"""The segment atlas: one self-contained page per day that tells a marketer who the customers are, where they are going,
what they are worth, what to do about it, and why the system abstains where it does.

Belongs here: counting and wording what the day's tables say, and the geometry of the page's pictures. Does not belong
here: any estimate (the page only repeats what the tables hold), and the looks of the page (see ``atlas.html``).

Customers are counted by SQL through the engine; what is left is as small as the number of micro-segments. The same
tables always give the same bytes: nothing is drawn at random and no clock is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib import resources
from typing import Any

import pyarrow as pa

from ml import tables
from ml.engine import Engine

Row = dict[str, Any]

TABLES = (
    "lifecycle_stages",
    "micro_segment_profiles",
    "movements",
    "journey_forecasts",
    "action_effects",
    "action_plan",
    "audiences",
)
DAYS = 7  # of movements
_ALL = "all"  # the root of every string in `action_effects`
_ABSTAINS = frozenset({"", "none", "control"})
_ORDER = ("prospect", "fun", "new", "active", "star", "reengaged", "churn")
_CAUSES = ("behaviour", "model", "both", "rule", "entry")
_CAUSE_WORDS = {
    "behaviour": "by behaviour",
    "model": "by new models",
    "both": "by behaviour and new models together",
    "rule": "by the calendar",
    "entry": "newly known",
}
_CAUSE_MEANING = {
    "behaviour": "they bought or did something else, or fell silent",
    "model": "a new model drew the lines elsewhere; the customers did nothing new",
    "both": "they did something, and the lines moved as well",
    "rule": "a stage with a time limit came to its end",
}
_OFF_WORDS = {
    "transactions": "nothing can be computed without it",
    "customers": "no attributes of customers, and nobody is known before the first purchase",
    "events": "no engagement beside buying, and no audiences made of events",
    "exposures": "no effect of any action can be measured, so the plan has nothing to stand on",
    "balances": "nobody is recognised by what they still hold",
}
_FAMILY_WORDS = {
    "value": "what each customer will bring",
    "lifecycle": "where the stages' thresholds lie",
    "layers": "the clusters of each stage and layer",
    "transition": "where customers go next",
    "transitions": "where customers go next",
    "action_response": "what an action changes",
}
_PLACEBO_WORDS = {
    "passed": "placebo passed: no effect on the time before the action",
    "failed": "placebo failed: an “effect” shows before the action, so selection is at work",
    "cannot tell": "placebo cannot tell: too little data before the action to rule selection out",
    "not needed": "no placebo needed: chance chose who got it",
}


@dataclass(frozen=True)
class Atlas:
    """What one day's page is made of.

    Parameters
    ----------
    project, day, currency : whose page, the day's end it shows, and the code money is written with
    tables : the day's `lifecycle_stages`, `micro_segment_profiles`, `movements`, `journey_forecasts`, `action_effects`,
        `action_plan` and `audiences`, each with `day`; a missing one counts as empty
    moves : `movements` of the last seven days, up to and including `day`
    evidence : `segment_evidence` of the week in force
    choices : rows of `model_choices` in force, with `week`
    switched_off : input tables that the business does not bring
    treatments : what to do about the customers of a stage (``active``) or sub-stage (``active/at-risk``), in words
    """

    project: str
    day: date
    currency: str
    tables: Mapping[str, pa.Table]
    moves: pa.Table
    evidence: pa.Table
    choices: Sequence[Mapping[str, Any]]
    switched_off: Sequence[str]
    treatments: Mapping[str, str] = field(default_factory=dict)


def render(engine: Engine, atlas: Atlas) -> str:
    """The page as HTML: everything inline, nothing fetched, all text from data escaped.

    Parameters
    ----------
    engine : counts the customers
    atlas : the tables; any of them may be empty

    Returns
    -------
    The same text for the same input, byte by byte.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((resources.files("ml") / "atlas.html").read_text(encoding="utf-8"))
    page = template.render(_view(_Source(engine, atlas)))
    page = re.sub(r"\n\s*", "\n", page).strip() + "\n"
    return re.sub(r"\n(?=</?(?:tr|tbody|p|details)\b)", "", page)


# ── numbers for people ────────────────────────────────────────────────────────────────────────────────────────────

MISSING = "–"


def _known(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _number(value: float | None, digits: int = 0, *, sign: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    if round(value, digits) == 0:
        value = 0.0
    return f"{value:{'+' if sign and value else ''},.{digits}f}".replace("-", "−")


def _amount(value: float | None, *, sign: bool = False) -> str:
    """Money without its currency: cents only where they matter."""
    return _number(value, 2 if value is not None and abs(value) < 100 else 0, sign=sign)


def _share(part: float | None, whole: float | None = 1.0) -> str:
    if part is None or whole is None or not (math.isfinite(part) and math.isfinite(whole)) or whole <= 0:
        return MISSING
    percent = 100 * part / whole
    return _number(percent, 1 if 0 < abs(percent) < 9.95 else 0) + "%"


# Not strftime, whose names follow the machine's language.
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def _day(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _plural(count: float, one: str, many: str | None = None) -> str:
    return f"{_number(count)} {one if count == 1 else many or one + 's'}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def _total(values: Iterable[float | None]) -> float:
    return math.fsum(value for value in values if _known(value))  # type: ignore[misc]


# ── what is asked of the tables ───────────────────────────────────────────────────────────────────────────────────

_STAGES = """
SELECT COALESCE(stage, 'unknown') AS stage, sub_stage, COUNT(*) AS customers FROM lifecycle_stages WHERE day = $day
GROUP BY stage, sub_stage ORDER BY stage, customers DESC, sub_stage
"""
# Where each customer was before the first day of the window and is at its end. On the first day of the record everybody
# is an entry, which says nothing about them: there the way begins at that day's end.
_WEEK = """
WITH counted AS (
    SELECT day, SUM(CASE WHEN from_stage IS NULL THEN 0 ELSE 1 END) AS known_before
    FROM moves WHERE day > $after AND day <= $day GROUP BY day
),
steps AS (
    SELECT moves.customer_id AS customer_id, moves.day AS day,
           CASE WHEN counted.known_before = 0 THEN moves.to_stage ELSE moves.from_stage END AS from_stage,
           moves.to_stage AS to_stage,
           CASE WHEN counted.known_before = 0 THEN moves.to_micro_segment_id
                ELSE moves.from_micro_segment_id END AS from_id,
           moves.to_micro_segment_id AS to_id,
           moves.cause AS cause
    FROM moves JOIN counted ON counted.day = moves.day
),
spans AS (SELECT customer_id, MIN(day) AS first_day, MAX(day) AS last_day FROM steps GROUP BY customer_id),
net AS (
    SELECT steps.customer_id AS customer_id,
           MAX(CASE WHEN steps.day = spans.first_day THEN steps.from_stage END) AS from_stage,
           MAX(CASE WHEN steps.day = spans.last_day THEN steps.to_stage END) AS to_stage,
           MAX(CASE WHEN steps.day = spans.first_day THEN steps.from_id END) AS from_id,
           MAX(CASE WHEN steps.day = spans.last_day THEN steps.to_id END) AS to_id,
           MAX(CASE WHEN steps.from_stage <> steps.to_stage AND steps.cause IN ('model', 'both')
                    THEN 1 ELSE 0 END) AS stage_model,
           MAX(CASE WHEN steps.from_stage <> steps.to_stage AND steps.cause IN ('behaviour', 'both')
                    THEN 1 ELSE 0 END) AS stage_behaviour,
           MAX(CASE WHEN steps.from_id <> steps.to_id AND steps.cause IN ('model', 'both')
                    THEN 1 ELSE 0 END) AS by_model,
           MAX(CASE WHEN steps.from_id <> steps.to_id AND steps.cause IN ('behaviour', 'both')
                    THEN 1 ELSE 0 END) AS by_behaviour,
           MAX(CASE WHEN steps.from_id <> steps.to_id AND steps.cause = 'rule' THEN 1 ELSE 0 END) AS by_rule,
           MAX(CASE WHEN steps.from_id <> steps.to_id THEN 1 ELSE 0 END) AS has_moved
    FROM steps JOIN spans ON spans.customer_id = steps.customer_id
    GROUP BY steps.customer_id
)
SELECT from_stage, to_stage, from_id, to_id,
       CASE WHEN from_stage IS NULL THEN 'entry'
            WHEN from_stage = to_stage THEN ''
            WHEN stage_model = 1 AND stage_behaviour = 1 THEN 'both'
            WHEN stage_model = 1 THEN 'model'
            WHEN stage_behaviour = 1 THEN 'behaviour' ELSE 'rule' END AS stage_cause,
       CASE WHEN from_id IS NULL THEN 'entry'
            WHEN from_id = to_id THEN ''
            WHEN by_model = 1 AND (by_behaviour = 1 OR by_rule = 1) THEN 'both'
            WHEN by_model = 1 THEN 'model'
            WHEN by_behaviour = 1 THEN 'behaviour' ELSE 'rule' END AS cause,
       has_moved, COUNT(*) AS customers
FROM net
GROUP BY from_stage, to_stage, from_id, to_id, stage_cause, cause, has_moved
ORDER BY customers DESC, from_stage, to_stage, from_id, to_id, stage_cause, cause, has_moved
"""
_WEEK_DAYS = """
SELECT MIN(day) AS first_day, COUNT(DISTINCT day) AS days,
       SUM(CASE WHEN from_stage IS NULL THEN 0 ELSE 1 END) AS known_before
FROM moves WHERE day > $after AND day <= $day
"""
_FORECASTS = """
WITH horizon AS (SELECT MAX(horizon_days) AS days FROM journey_forecasts WHERE day = $day),
here AS (
    SELECT stages.customer_id AS customer_id, stages.stage AS stage,
           COALESCE(moved.to_micro_segment_id, planned.micro_segment_id) AS micro_segment_id
    FROM lifecycle_stages AS stages
    LEFT JOIN movements AS moved ON moved.customer_id = stages.customer_id AND moved.day = stages.day
    LEFT JOIN action_plan AS planned ON planned.customer_id = stages.customer_id AND planned.day = stages.day
    WHERE stages.day = $day
)
SELECT here.stage AS stage, here.micro_segment_id AS micro_segment_id, forecasts.stage AS next_stage,
       horizon.days AS horizon_days,
       CAST(SUM(CAST(forecasts.probability AS DECIMAL(18, 9))) AS DOUBLE) AS customers
FROM journey_forecasts AS forecasts
JOIN horizon ON horizon.days = forecasts.horizon_days
JOIN here ON here.customer_id = forecasts.customer_id
WHERE forecasts.day = $day
GROUP BY here.stage, here.micro_segment_id, forecasts.stage, horizon.days
ORDER BY stage, micro_segment_id, next_stage
"""
_PLAN = """
SELECT micro_segment_id, COALESCE(action, 'none') AS action, COALESCE(is_holdout, FALSE) AS is_holdout,
       COALESCE(reason, 'no reason given') AS reason, COUNT(*) AS customers,
       CAST(SUM(CAST(expected_incremental_value AS DECIMAL(18, 4))) AS DOUBLE) AS value,
       CAST(SUM(CAST(cost AS DECIMAL(18, 4))) AS DOUBLE) AS cost
FROM action_plan WHERE day = $day
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
_AUDIENCES = """
SELECT audience, COUNT(*) AS customers FROM audiences WHERE day = $day
GROUP BY audience ORDER BY customers DESC, audience
"""
_PROFILES = "SELECT * FROM micro_segment_profiles WHERE day = $day ORDER BY micro_segment"
_EFFECTS = "SELECT * FROM action_effects WHERE day = $day ORDER BY micro_segment, action"
_EVIDENCE = "SELECT grouping, groups, r2_spend, r2_log_spend FROM evidence ORDER BY r2_log_spend DESC, grouping"


class _Source:
    """The day's tables, counted once."""

    def __init__(self, engine: Engine, atlas: Atlas) -> None:
        self.atlas = atlas
        given: dict[str, pa.Table] = {
            name: atlas.tables.get(name, tables.OUTPUTS[name].empty_days()) for name in TABLES
        } | {"moves": atlas.moves, "evidence": atlas.evidence}
        parameters = {"day": atlas.day, "after": atlas.day - timedelta(days=DAYS)}

        def rows(sql: str) -> list[Row]:
            used = {name: table for name, table in given.items() if re.search(rf"\b{name}\b", sql)}
            return engine.query(sql, parameters, **used).to_pylist()

        self.sub_stages = rows(_STAGES)
        self.week = rows(_WEEK)
        self.week_days = rows(_WEEK_DAYS)[0]
        self.forecasts = rows(_FORECASTS)
        self.plan = rows(_PLAN)
        self.audiences = rows(_AUDIENCES)
        self.profiles = rows(_PROFILES)
        self.effects = rows(_EFFECTS)
        self.evidence = rows(_EVIDENCE)

        self.sizes: dict[str, int] = {}
        for row in self.sub_stages:
            self.sizes[row["stage"]] = self.sizes.get(row["stage"], 0) + row["customers"]
        self.customers = sum(self.sizes.values())
        self.stages = sorted(self.sizes, key=_place)
        self.stage_profiles = {row["stage"]: row for row in self.profiles if row["depth"] == 0}
        self.leaves = [row for row in self.profiles if row["is_leaf"]]
        self.names = {row["micro_segment_id"]: row["name"] or row["micro_segment"] for row in self.profiles}
        self.ltv = _total(row["ltv"] for row in self.stage_profiles.values())
        self.revenue = _total(row["revenue"] for row in self.stage_profiles.values())
        self.horizon = self.forecasts[0]["horizon_days"] if self.forecasts else 28

    def money(self, value: float | None, *, sign: bool = False) -> str:
        text = _amount(value, sign=sign)
        return text if text == MISSING else f"{self.atlas.currency} {text}"


def _place(stage: str) -> tuple[int, str]:
    """Prospect first, churn last, a project's own stages behind them by name."""
    return (_ORDER.index(stage) if stage in _ORDER else len(_ORDER), stage)


def _view(source: _Source) -> Row:
    atlas = source.atlas
    week = _week(source)
    plan = _plan(source)
    evidence = _evidence(source)
    scale = _scale(source)
    return {
        "project": atlas.project,
        "day": _day(atlas.day),
        "iso_day": atlas.day.isoformat(),
        "currency": atlas.currency,
        "horizon": source.horizon,
        "headline": _headline(source, plan),
        "outstanding": _outstanding(source, week, plan, evidence),
        "stages": _stages(source, week),
        "has_forecasts": bool(source.forecasts),
        "flow": _flow(source, week),
        "week": week,
        "groups": _groups(source, plan, scale),
        "leaves": len(source.leaves),
        "actions": _actions(source, scale),
        "is_crowded": len(
            [
                row
                for row in source.effects
                if row["micro_segment_id"] in {leaf["micro_segment_id"] for leaf in source.leaves}
            ]
        )
        > _DRAWN,
        "zero": f"{scale.zero:.0f}",
        "plan": plan,
        "audiences": [
            {
                "name": row["audience"],
                "customers": _number(row["customers"]),
                "share": _share(row["customers"], source.customers),
                "width": _width(row["customers"], source.customers),
            }
            for row in source.audiences
        ],
        "evidence": evidence,
        "models": _models(atlas.choices),
        "switched_off": [(name, _OFF_WORDS.get(name, "what needs it is left out")) for name in atlas.switched_off],
    }


def _width(part: float | None, whole: float | None) -> str:
    """A bar's length in percent, as CSS takes it."""
    if part is None or whole is None or not (math.isfinite(part) and math.isfinite(whole)) or whole <= 0:
        return "0"
    return f"{100 * min(max(part / whole, 0.0), 1.0):.3g}"


# ── the top of the page ───────────────────────────────────────────────────────────────────────────────────────────


def _top_stage(source: _Source) -> Row | None:
    """The stars; without such a stage, the one with the highest LTV per customer."""
    if "star" in source.stage_profiles:
        return source.stage_profiles["star"]
    valued = [row for row in source.stage_profiles.values() if _known(row["ltv_per_customer"])]
    return max(valued, key=lambda row: (row["ltv_per_customer"], row["stage"]), default=None)


def _headline(source: _Source, plan: Row) -> list[Row]:
    top = _top_stage(source)
    buyers = _total(row["buyers"] for row in source.stage_profiles.values())
    cards = [
        {
            "label": "Customers known",
            "value": _number(source.customers),
            "note": f"{_plural(len(source.stages), 'stage')}, {_plural(len(source.leaves), 'micro-segment')}",
        },
        {
            "label": "Revenue, last 28 days",
            "value": _amount(source.revenue) if source.stage_profiles else MISSING,
            "unit": source.atlas.currency,
            "note": f"{_share(buyers, source.customers)} of customers bought",
        },
        {
            "label": "Lifetime value in all",
            "value": _amount(source.ltv) if source.stage_profiles else MISSING,
            "unit": source.atlas.currency,
            "note": f"{source.money(source.ltv / source.customers)} per customer"
            if source.customers and source.stage_profiles
            else "no customers yet",
        },
    ]
    if top:
        cards.append(
            {
                "label": f"LTV held by stage “{top['stage']}”",
                "value": _share(top["ltv"], source.ltv),
                "note": f"by {_share(top['customers'], source.customers)} of customers",
            }
        )
    cards.append(
        {
            "label": "Customers to act upon",
            "value": _number(plan["acted"]) if plan["rows"] else MISSING,
            "note": f"expected to bring {source.money(plan['worth'])} after cost"
            if plan["acted"]
            else ("the plan abstains for everybody" if plan["rows"] else "no plan yet"),
        }
    )
    return [{"unit": "", **card} for card in cards]


def _outstanding(source: _Source, week: Row, plan: Row, evidence: Row) -> list[str]:
    """A few sentences that are worth reading first."""
    said = []
    if week["stage_moves"]:
        said.append(f"The biggest change of the week: {week['stage_moves'][0]['text']}")
    leaving = [row for row in _leaving(source).values() if row["valued"] and row["share"] > 0]
    if leaving:
        worst = max(leaving, key=lambda row: (row["at_stake"], row["name"]))
        said.append(
            f"The most value on the move: {worst['name']}, where {_share(worst['share'])} of customers are expected in "
            f"another stage within {source.horizon} days; the group’s LTV is {source.money(worst['ltv'])}."
        )
    if plan["rows"]:
        rest = f"; for {_plural(plan['abstained'], 'customer')} it abstains" if plan["abstained"] else ""
        acted = (
            f"The plan acts on {plan['acted_text']} and holds out {_number(plan['held'])} on purpose{rest}."
            if plan["acted"]
            else f"The plan acts on nobody. The main reason: {plan['reasons'][0]['text']}."
            if plan["reasons"]
            else "The plan acts on nobody."
        )
        said.append(acted)
    if evidence["verdict"]:
        said.append(evidence["verdict"])
    return said


def _leaving(source: _Source) -> dict[str, Row]:
    """Per micro-segment id: the share expected in another stage, and the LTV that goes with it."""
    ahead: dict[str, dict[str, float]] = {}
    for row in source.forecasts:
        if row["micro_segment_id"] is not None:
            stages = ahead.setdefault(row["micro_segment_id"], {})
            stages[row["next_stage"]] = stages.get(row["next_stage"], 0.0) + row["customers"]
    found: dict[str, Row] = {}
    for leaf in source.leaves:
        stages = ahead.get(leaf["micro_segment_id"], {})
        whole = _total(stages.values())
        if whole > 0:
            share = max(0.0, 1 - stages.get(leaf["stage"], 0.0) / whole)
            ltv = leaf["ltv"] if _known(leaf["ltv"]) else 0.0
            found[leaf["micro_segment_id"]] = {
                "name": leaf["name"] or leaf["micro_segment"],
                "share": share,
                "ltv": ltv,
                "at_stake": share * ltv,
                "valued": ltv > 0,
                "stages": [(stage, stages[stage] / whole) for stage in sorted(stages, key=lambda s: (-stages[s], s))],
            }
    return found


def _expected(source: _Source) -> dict[tuple[str, str], float]:
    """Expected customers per stage of today and stage at the horizon, scaled to the stage's size."""
    flows: dict[tuple[str, str], float] = {}
    for row in source.forecasts:
        pair = (row["stage"], row["next_stage"])
        flows[pair] = flows.get(pair, 0.0) + row["customers"]
    return flows


def _stages(source: _Source, week: Row) -> list[Row]:
    ahead = _expected(source)
    rows = []
    for stage in source.stages:
        profile = source.stage_profiles.get(stage, {})
        size = source.sizes[stage]
        later = _total(count for (_, after), count in ahead.items() if after == stage)
        arrived, left = week["arrived"].get(stage, 0), week["left"].get(stage, 0)
        rows.append(
            {
                "stage": stage,
                "customers": _number(size),
                "share": _share(size, source.customers),
                "width": _width(size, source.customers),
                "revenue": _amount(profile.get("revenue")),
                "ltv": _amount(profile.get("ltv")),
                "ltv_each": _amount(profile.get("ltv_per_customer")),
                "ltv_share": _share(profile.get("ltv"), source.ltv),
                "ltv_width": _width(profile.get("ltv"), source.ltv),
                "arrived": _number(arrived, sign=True) if week["known"] else MISSING,
                "left": _number(-left) if week["known"] else MISSING,
                "later": _number(later) if ahead else MISSING,
                "change": _number(later - size, sign=True) if ahead else "",
            }
        )
    return rows


# ── movements ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _week(source: _Source) -> Row:
    """Where customers were a week ago and are now, netted per customer: who went and came back did not move."""
    days = source.week_days["days"]
    stages: dict[tuple[str | None, str], dict[str, int]] = {}
    segments: dict[tuple[str | None, str], dict[str, int]] = {}
    causes = dict.fromkeys(_CAUSES, 0)
    returned = stayed = 0
    for row in source.week:
        count = row["customers"]
        _count(stages, (row["from_stage"], row["to_stage"]), row["stage_cause"], count)
        if row["cause"]:
            _count(segments, (row["from_id"], row["to_id"]), row["cause"], count)
            causes[row["cause"]] += count
        else:
            stayed += count
            returned += count if row["has_moved"] else 0
    moved = {pair: split for pair, split in stages.items() if pair[0] is not None and pair[0] != pair[1]}
    entered = {pair: split for pair, split in stages.items() if pair[0] is None}
    known = bool(source.week_days["known_before"])
    changed = sum(causes.values()) - causes["entry"]
    return {
        "known": known,
        "days": days,
        "since": _day(source.week_days["first_day"]) if days else "",
        "since_short": " ".join(_day(source.week_days["first_day"]).split()[:2]) if days else "",
        "stages": stages,
        "stage_moves": [
            {"text": _stage_move(pair, split), "split": _split(split)} for pair, split in _biggest(moved | entered, 10)
        ],
        "segment_moves": [
            {"text": _segment_move(source, pair, split), "split": _split(split)}
            for pair, split in _biggest({pair: split for pair, split in segments.items() if pair[0]}, 8)
        ],
        "changed": _number(changed),
        "changed_share": _share(changed, changed + stayed),
        "anything": bool(moved or segments),
        "returned": returned,
        "returned_text": _plural(returned, "customer"),
        "causes": [
            {
                "cause": cause,
                "words": _CAUSE_WORDS[cause],
                "meaning": _CAUSE_MEANING[cause],
                "customers": _number(causes[cause]),
                "share": _share(causes[cause], changed),
                "width": _width(causes[cause], changed),
            }
            for cause in _CAUSES
            if cause != "entry" and causes[cause]
        ],
        "entered": causes["entry"],
        "entered_text": _plural(causes["entry"], "customer"),
        "arrived": _sums((pair[1], split) for pair, split in (moved | entered).items()),
        "left": _sums((pair[0], split) for pair, split in moved.items()),
    }


def _count(into: dict[Any, dict[str, int]], pair: Any, cause: str, count: int) -> None:
    split = into.setdefault(pair, {})
    split[cause] = split.get(cause, 0) + count


def _sums(pairs: Iterable[tuple[str | None, dict[str, int]]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, split in pairs:
        if name is not None:
            found[name] = found.get(name, 0) + sum(split.values())
    return found


def _biggest(flows: Mapping[Any, dict[str, int]], most: int) -> list[tuple[Any, dict[str, int]]]:
    return sorted(flows.items(), key=lambda item: (-sum(item[1].values()), item[0][0] or "", item[0][1]))[:most]


def _split(split: Mapping[str, int]) -> list[Row]:
    whole = sum(split.values())
    return [{"cause": cause, "width": _width(split[cause], whole)} for cause in _CAUSES if split.get(cause)]


def _because(split: Mapping[str, int]) -> str:
    named = [cause for cause in _CAUSES if split.get(cause)]
    if len(named) == 1:
        alone = sum(split.values()) == 1
        return ("" if alone else "all ") + _CAUSE_WORDS[named[0]]
    return _listed([f"{_number(split[cause])} {_CAUSE_WORDS[cause]}" for cause in named])


def _stage_move(pair: tuple[str | None, str], split: Mapping[str, int]) -> str:
    count = sum(split.values())
    if pair[0] is None:
        return f"{_plural(count, 'customer')} became known and {'is' if count == 1 else 'are'} now in “{pair[1]}”."
    return f"{_plural(count, 'customer')} went from “{pair[0]}” to “{pair[1]}”: {_because(split)}."


def _segment_move(source: _Source, pair: tuple[str, str], split: Mapping[str, int]) -> str:
    old, new = (source.names.get(one, f"a micro-segment without members today ({one})") for one in pair)
    stage, _, rest = new.partition(": ")
    inside = ""
    if rest and old.startswith(f"{stage}: "):
        old, new, inside = old.removeprefix(f"{stage}: "), rest, f" inside {stage}"
    return f"{_plural(sum(split.values()), 'customer')}{inside} from “{old}” to “{new}”: {_because(split)}."


# ── the flow picture ──────────────────────────────────────────────────────────────────────────────────────────────

_BARS, _SLOT, _GAP = 300.0, 44.0, 12.0  # pixels: all customers together, the least room of a stage, between stages
_LEFT, _MIDDLE, _RIGHT = (150.0, 158.0), (410.0, 590.0), (842.0, 850.0)
_ENTRY = ""  # the slot of those who were not known a week ago


def _flow(source: _Source, week: Row) -> Row | None:
    """Stages a week ago, today and at the forecast's horizon, with ribbons as wide as the customers between them."""
    past = {(a or _ENTRY, b): split for (a, b), split in week["stages"].items()} if week["known"] else {}
    ahead = {pair: count for pair, count in _expected(source).items() if count >= 0.5}
    if not source.customers or not (past or ahead):
        return None
    before = _sums((pair[0], split) for pair, split in past.items())
    after: dict[str, float] = {}
    for (_, stage), count in ahead.items():
        after[stage] = after.get(stage, 0.0) + count
    names = sorted({*source.stages, *before, *after} - {_ENTRY}, key=_place) + ([_ENTRY] if _ENTRY in before else [])
    unit = _BARS / max(source.customers, sum(before.values()), 1)
    tops, place = {}, 30.0
    for name in names:
        tops[name] = place
        place += max(_SLOT, unit * max(source.sizes.get(name, 0), before.get(name, 0), after.get(name, 0.0))) + _GAP
    rooms = {
        name: (after_top - _GAP - tops[name])
        for name, after_top in zip(names, [*list(tops.values())[1:], place], strict=True)
    }
    boxes = [
        {
            "name": name,
            "y": _px(tops[name]),
            "height": _px(rooms[name]),
            "strip": _px(max(1.5, unit * source.sizes[name])),
            "text": _px(tops[name] + rooms[name] / 2 - 4),
            "below": _px(tops[name] + rooms[name] / 2 + 13),
            "figures": f"{_number(source.sizes[name])} · LTV {_brief(source.stage_profiles.get(name, {}).get('ltv'))}",
        }
        for name in names
        if name in source.sizes
    ]
    ends = {
        "left": [
            {
                "y": _px(tops[n]),
                "height": _px(max(1.5, unit * c)),
                "text": _px(tops[n] + 13),
                "below": _px(tops[n] + 29),
                "name": n or "newly known",
                "figures": _number(c),
            }
            for n, c in sorted(before.items(), key=lambda item: names.index(item[0]))
        ],
        "right": [
            {
                "y": _px(tops[n]),
                "height": _px(max(1.5, unit * c)),
                "text": _px(tops[n] + 13),
                "below": _px(tops[n] + 29),
                "name": n,
                "figures": f"{_number(c)} ({_number(c - source.sizes.get(n, 0), sign=True)})",
            }
            for n, c in sorted(after.items(), key=lambda item: names.index(item[0]))
        ],
    }
    ribbons = []
    if past:
        parts = []
        for pair, split in past.items():
            by_model = split.get("model", 0) + split.get("both", 0)
            for kind, count in (("g", sum(split.values()) - by_model), ("m", by_model)):
                if count:
                    said = f"{pair[0] or 'newly known'} to {pair[1]}: {_plural(count, 'customer')}"
                    kind = "s" if pair[0] == pair[1] else kind
                    parts.append((pair, kind, float(count), said + (", by new models" if kind == "m" else "")))
        ribbons += _ribbons(parts, names, tops, unit, _LEFT[1], _MIDDLE[0])
    if ahead:
        parts = [
            (pair, "s" if pair[0] == pair[1] else "f", count, f"{pair[0]} to {pair[1]}: {_number(count)} expected")
            for pair, count in ahead.items()
        ]
        ribbons += _ribbons(parts, names, tops, unit, _MIDDLE[1], _RIGHT[0])
    left, right = (0.0 if past else _MIDDLE[0] - 6), (1000.0 if ahead else _MIDDLE[1] + 6)
    return {
        "viewbox": f"{left:.0f} 0 {right - left:.0f} {place:.0f}",
        "width": f"{right - left:.0f}",
        "boxes": boxes,
        "ribbons": ribbons,
        "has_model": any(ribbon["kind"] == "m" for ribbon in ribbons),
        **ends,
    }


def _ribbons(
    parts: Sequence[tuple[tuple[str, str], str, float, str]],
    names: Sequence[str],
    tops: Mapping[str, float],
    unit: float,
    x0: float,
    x1: float,
) -> list[Row]:
    """Ribbons stacked inside the bars at both ends; those who stay are drawn first, below the others."""
    out, into = dict(tops), dict(tops)
    middle = (x0 + x1) / 2
    starts: dict[int, float] = {}
    ends: dict[int, float] = {}
    for i in sorted(range(len(parts)), key=lambda i: (*map(names.index, parts[i][0]), parts[i][1])):
        (start, _), _, count, _ = parts[i]
        starts[i] = out[start]
        out[start] += unit * count
    for i in sorted(range(len(parts)), key=lambda i: (*map(names.index, parts[i][0][::-1]), parts[i][1])):
        (_, end), _, count, _ = parts[i]
        ends[i] = into[end]
        into[end] += unit * count
    found = []
    for i in sorted(starts, key=lambda i: (parts[i][1] != "s", starts[i], ends[i])):
        _, kind, count, said = parts[i]
        thick, y0, y1 = max(1.2, unit * count), starts[i], ends[i]
        there = f"M{_px(x0)} {_px(y0)}C{_px(middle)} {_px(y0)} {_px(middle)} {_px(y1)} {_px(x1)} {_px(y1)}v{_px(thick)}"
        y0, y1 = y0 + thick, y1 + thick
        back = f"C{_px(middle)} {_px(y1)} {_px(middle)} {_px(y0)} {_px(x0)} {_px(y0)}z"
        found.append({"kind": kind, "said": said, "path": there + back})
    return found


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _brief(value: float | None) -> str:
    """A short amount for pictures: 950, 12.3k, 4.56M."""
    if value is None or not math.isfinite(value):
        return MISSING
    for size, letter in ((1e9, "bn"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            unit = 1e3 if letter == "k" else size
            return f"{value / unit:.3g}{letter}".replace("-", "−")
    return _number(value)


# ── effects ───────────────────────────────────────────────────────────────────────────────────────────────────────

_WHISKER = 120.0  # pixels


@dataclass(frozen=True)
class _Scale:
    """One scale for every effect on the page, so that they can be compared by eye."""

    low: float
    high: float

    def x(self, value: float) -> float:
        return _WHISKER * (value - self.low) / (self.high - self.low)

    @property
    def zero(self) -> float:
        return self.x(0.0)

    def whisker(self, row: Row) -> str:
        """The path of interval and mean; it ends at the edge where the interval goes on beyond."""
        if not all(_known(row[name]) for name in ("effect", "ci_low", "ci_high")):
            return ""
        low, mean, high = (min(max(self.x(row[name]), 0.0), _WHISKER) for name in ("ci_low", "effect", "ci_high"))
        return f"M{low:.0f} 5H{high:.0f}M{mean:.0f} 1v8"


def _scale(source: _Source) -> _Scale:
    """From the effects that carry evidence of their own, and the overall ones; wider intervals run off the edge."""
    known = [row for row in source.effects if all(_known(row[name]) for name in ("effect", "ci_low", "ci_high"))]
    shown = [r for r in known if r["micro_segment"] == _ALL or (r["evidence_level"] == "own")] or known
    low = min([row["ci_low"] for row in shown] + [0.0])
    high = max([row["ci_high"] for row in shown] + [0.0])
    room = (high - low) * 0.05 or 1.0
    return _Scale(low - room, high + room)


def _effect(row: Row, scale: _Scale) -> Row:
    supported = row["evidence_level"] in ("own", "parent")
    widest = max((abs(row[name]) for name in ("effect", "ci_low", "ci_high") if _known(row[name])), default=0.0)
    digits = 2 if widest < 10 else 1 if widest < 100 else 0
    interval = [_number(row[name], digits) for name in ("ci_low", "ci_high")]
    level = {"own": "own evidence", "parent": "parent’s"}.get(row["evidence_level"], "unsupported")
    return {
        "action": row["action"],
        "effect": _number(row["effect"], digits, sign=True),
        "interval": " to ".join(interval),
        "whisker": scale.whisker(row),
        "label": f"{level}, {row['design'] or 'design unknown'}",
        "supported": supported,
        "is_own": row["evidence_level"] == "own",
    }


def _actions(source: _Source, scale: _Scale) -> list[Row]:
    """Per action: its overall effect with everything that makes it believable or not, then stage by stage."""
    found = []
    for action in sorted({row["action"] for row in source.effects}):
        rows = [row for row in source.effects if row["action"] == action]
        overall = next((row for row in rows if row["micro_segment"] == _ALL), None)
        stages = {row["micro_segment"]: row for row in rows if "/" not in row["micro_segment"] and row is not overall}
        head = overall or rows[0]
        supported = any(row["evidence_level"] in ("own", "parent") for row in rows)
        found.append(
            {
                "action": action,
                "design": head["design"] or "design unknown",
                "is_randomised": head["design"] == "randomised",
                "placebo": _PLACEBO_WORDS.get(head["placebo"] or "", "no placebo was run"),
                "supported": supported,
                "verdict": "May be acted upon."
                if supported
                else "Unsupported: shown for information, never acted upon.",
                "basis": f"{_number(head['treated'])} treated and {_number(head['control'])} control exposures; "
                f"smaller effects than {source.money(head['minimum_detectable_effect'])} would go unnoticed.",
                "rows": [
                    {**_effect(row, scale), "name": name, "is_all": row is overall}
                    for name, row in [
                        *([("everybody", overall)] if overall else []),
                        *((stage, stages[stage]) for stage in sorted(stages, key=_place)),
                    ]
                ],
            }
        )
    return found


# ── micro-segments ────────────────────────────────────────────────────────────────────────────────────────────────

_DRAWN = 300  # intervals drawn in the details: a page with many micro-segments must stay small


def _groups(source: _Source, plan: Row, scale: _Scale) -> list[Row]:
    """Stages with their sub-stages and micro-segments."""
    effects = _leaf_effects(source, scale)
    leaving = _leaving(source)
    most = max((row["ltv"] for row in source.leaves if _known(row["ltv"])), default=0.0)
    treatments = source.atlas.treatments
    groups = []
    for stage in source.stages:
        leaves = sorted(
            (row for row in source.leaves if row["stage"] == stage),
            key=lambda row: (-(row["ltv"] if _known(row["ltv"]) else 0.0), row["micro_segment"]),
        )
        groups.append(
            {
                "stage": stage,
                "customers": _plural(source.sizes[stage], "customer"),
                "treatment": treatments.get(stage, ""),
                "sub_stages": [
                    {
                        "name": row["sub_stage"],
                        "customers": _number(row["customers"]),
                        "share": _share(row["customers"], source.sizes[stage]),
                        "treatment": treatments.get(f"{stage}/{row['sub_stage']}", ""),
                    }
                    for row in source.sub_stages
                    if row["stage"] == stage and row["sub_stage"] and row["sub_stage"] != stage
                ],
                "leaves": [
                    _leaf(source, leaf, leaving.get(leaf["micro_segment_id"]), effects, plan, most) for leaf in leaves
                ],
            }
        )
    return groups


def _leaf_effects(source: _Source, scale: _Scale) -> dict[str, list[Row]]:
    """Effects by micro-segment id. With many of them, own evidence is drawn before others, the most valuable first."""
    worth = {leaf["micro_segment_id"]: leaf["ltv"] if _known(leaf["ltv"]) else 0.0 for leaf in source.leaves}
    found: dict[str, list[Row]] = {}
    ranked: list[tuple[bool, bool, float, int, Row]] = []
    for row in source.effects:
        if (at := row["micro_segment_id"]) in worth:
            effect = _effect(row, scale)
            found.setdefault(at, []).append(effect)
            ranked.append((not effect["is_own"], not effect["supported"], -worth[at], len(ranked), effect))
    for *_, effect in sorted(ranked)[_DRAWN:]:
        effect["whisker"] = ""
    return found


def _leaf(
    source: _Source, leaf: Row, leaving: Row | None, effects: Mapping[str, list[Row]], plan: Row, most: float
) -> Row:
    stage, name = leaf["stage"], leaf["name"] or leaf["micro_segment"]
    short = name.partition(": ")[2] if name.lower().startswith(f"{stage.replace('_', ' ')}: ".lower()) else name
    planned = plan["segments"].get(leaf["micro_segment_id"])
    kpis = [
        f"{_share(leaf['conversion'])} bought",
        _plural(leaf["orders"] or 0, "order") + (f" of {_amount(leaf['average_order'])}" if leaf["orders"] else ""),
        f"revenue {_amount(leaf['revenue'])}",
        f"LTV {_amount(leaf['ltv_per_customer'])} each",
    ]
    if leaf["events_per_customer"]:
        kpis.append(f"{_number(leaf['events_per_customer'], 1)} events each")
    return {
        "name": short,
        "string": leaf["micro_segment"],
        "customers": _number(leaf["customers"]),
        "revenue_each": _amount(leaf["revenue_per_customer"]),
        "ltv": _amount(leaf["ltv"]),
        "ltv_width": f"{float(_width(leaf['ltv'], most)):.0f}",
        "ltv_share": _share(leaf["ltv"], source.ltv),
        "p_churn": _share(leaf["p_churn"]),
        "leaving": _share(leaving["share"]) if leaving else MISSING,
        "kpis": " · ".join(kpis),
        "ahead": _listed([f"{_share(p)} {s}" for s, p in leaving["stages"] if p >= 0.005][:4]) if leaving else "",
        "effects": effects.get(leaf["micro_segment_id"], []),
        "plan": _planned(source, planned) if planned else "",
        "act": planned["top"] if planned else MISSING,
        "acts": bool(planned and planned["acted"]),
    }


# ── the plan ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _plan(source: _Source) -> Row:
    """What the plan does, whom it leaves alone, and why it abstains."""
    actions: dict[str, Row] = {}
    segments: dict[str, Row] = {}
    reasons: dict[str, dict[str, int]] = {}
    held = abstained = 0
    for row in source.plan:
        count, action = row["customers"], row["action"]
        segment = segments.setdefault(row["micro_segment_id"], {"actions": {}, "held": 0, "abstained": 0})
        if row["is_holdout"]:
            held += count
            segment["held"] += count
        elif action in _ABSTAINS:
            abstained += count
            segment["abstained"] += count
            # Reasons that differ in their figures alone are one reason.
            same = reasons.setdefault(re.sub(r"[−-]?\d[\d.,]*", "#", row["reason"]), {})
            same[row["reason"]] = same.get(row["reason"], 0) + count
        else:
            for into in (actions, segment["actions"]):
                found = into.setdefault(action, {"customers": 0, "value": [], "cost": []})
                found["customers"] += count
                found["value"].append(row["value"])
                found["cost"].append(row["cost"])
    for segment in segments.values():
        taken = segment["actions"]
        segment["acted"] = sum(one["customers"] for one in taken.values())
        best = min(taken, key=lambda name: (-taken[name]["customers"], name), default="")
        segment["top"] = f"{best}: {_number(taken[best]['customers'])}" if best else "none"
    acted = sum(one["customers"] for one in actions.values())
    return {
        "rows": bool(source.plan),
        "segments": segments,
        "acted": acted,
        "acted_text": _plural(acted, "customer"),
        "worth": _total(value for one in actions.values() for value in one["value"]),
        "held": held,
        "held_text": _plural(held, "customer"),
        "abstained": abstained,
        "abstained_text": _plural(abstained, "customer"),
        "bars": [
            {
                "kind": kind,
                "words": words,
                "customers": _number(count),
                "width": _width(count, acted + held + abstained),
                "share": _share(count, acted + held + abstained),
            }
            for kind, words, count in (
                ("act", "get an action", acted),
                ("held", "held out on purpose", held),
                ("abstain", "left alone: the plan abstains", abstained),
            )
            if count
        ],
        "actions": [
            {
                "action": name,
                "customers": _number(one["customers"]),
                "value": _amount(_total(one["value"])),
                "cost": _amount(_total(one["cost"])),
            }
            for name, one in sorted(actions.items(), key=lambda item: (-item[1]["customers"], item[0]))
        ],
        "reasons": [
            {
                "text": min(same, key=lambda text: (-same[text], text)).rstrip("."),
                "similar": len(same) > 1,
                "customers": _number(sum(same.values())),
                "width": _width(sum(same.values()), abstained),
            }
            for _, same in sorted(reasons.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:12]
        ],
        "more_reasons": max(0, len(reasons) - 12),
    }


def _planned(source: _Source, segment: Row) -> str:
    parts = [
        f"{_plural(one['customers'], 'customer')} get {name} (expected {_amount(_total(one['value']))} after cost "
        f"{_amount(_total(one['cost']))})"
        for name, one in sorted(segment["actions"].items())
    ]
    parts += [f"{_number(segment['held'])} held out"] if segment["held"] else []
    parts += [f"{_number(segment['abstained'])} left alone"] if segment["abstained"] else []
    return ", ".join(parts)


# ── evidence and models ───────────────────────────────────────────────────────────────────────────────────────────

_OURS = "micro-segments"


def _evidence(source: _Source) -> Row:
    """How well groups tell next month's spend out of time, and what follows from it, also when it is unwelcome."""
    rows = [row for row in source.evidence if _known(row["r2_log_spend"]) or _known(row["r2_spend"])]
    most = max((v for row in rows for v in (row["r2_log_spend"], row["r2_spend"]) if _known(v)), default=0.0)
    return {
        "rows": [
            {
                "grouping": row["grouping"],
                "is_ours": row["grouping"] == _OURS,
                "groups": _number(row["groups"]),
                "log": _share(row["r2_log_spend"]),
                "log_width": _width(row["r2_log_spend"], most),
                "raw": _share(row["r2_spend"]),
                "raw_width": _width(row["r2_spend"], most),
            }
            for row in rows
        ],
        "verdict": _verdict({r["grouping"]: r["r2_log_spend"] for r in rows if _known(r["r2_log_spend"])}),
    }


def _verdict(explained: Mapping[str, float]) -> str:
    if _OURS not in explained or len(explained) < 2:
        return ""
    ours = explained[_OURS]
    others = {name: value for name, value in explained.items() if name != _OURS}
    ahead = sorted((name for name in others if others[name] > ours), key=lambda name: (-others[name], name))
    said = f"Micro-segments tell {_share(ours)} of the differences in next month’s spend (log scale, out of time)"
    if not ahead:
        best = min(others, key=lambda name: (-others[name], name))
        return f"{said}, more than every alternative; the next best, {best}, tells {_share(others[best])}."
    listed = _listed([f"{name} ({_share(others[name])})" for name in ahead])
    return f"{said}; {listed} {'tells' if len(ahead) == 1 else 'tell'} more."


def _models(choices: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The newest choice of each family."""
    newest: dict[str, Mapping[str, Any]] = {}
    for row in sorted(choices, key=lambda row: (str(row.get("family")), str(row.get("week")))):
        newest[str(row.get("family"))] = row
    return [_choice(family, row) for family, row in newest.items()]


def _choice(family: str, row: Mapping[str, Any]) -> Row:
    version = row.get("version")
    in_force = f"{row.get('model_name') or family} v{version:.0f}" if _known(version) else "none yet"
    decided = {
        "challenger": "this week’s fit was chosen",
        "incumbent": "last week’s model stays",
        "none": "no model yet",
    }.get(str(row.get("decision")), str(row.get("decision")))
    return {
        "family": family.replace("_", " "),
        "what": _FAMILY_WORDS.get(family.replace("-", "_"), ""),
        "week": str(row.get("week") or MISSING)[:10],
        "in_force": in_force,
        "is_missing": not _known(version),
        "decision": decided,
        "reason": row.get("reason") or "",
    }
