"""The page: its top, its table of stages, and the sections put together.

Belongs here: what is said first, and which section follows which facts. Does not belong here: the words of a section
with a module of its own, and the looks (see ``page.html``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ml.engine import Engine
from ml.report.clusters import clusters
from ml.report.data import Atlas, AtlasData, Row, counted, total
from ml.report.effects import actions, scale_of
from ml.report.evidence import evidence, models, switched_off, verdict
from ml.report.flow import flow
from ml.report.micro_segments import Outlook, known_ltv, micro_segments, outlooks
from ml.report.movements import Pair, Week, movements, stage_move, week_of
from ml.report.plan import Planned, plan_section, planned
from ml.report.words import MISSING, amount, full_day, is_known, number, plural, share, width

TITLES = {
    "stages": "Stages",
    "movements": "Movements",
    "segments": "Micro-segments",
    "clusters": "Clusters",
    "effects": "Effects of actions",
    "plan": "Plan",
    "audiences": "Audiences",
    "evidence": "Evidence",
    "models": "Models",
}
LEAST_WORTH = 0.005  # share of all lifetime value from which a headline speaks of it


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
        loader=jinja2.PackageLoader("ml.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("page.html").render(_view(counted(engine, atlas)))
    page = re.sub(r"\n\s*", "\n", page).strip() + "\n"
    return re.sub(r"\n(?=</?(?:tr|tbody|p|details)\b)", "", page)


def _view(facts: AtlasData) -> Row:
    """Everything the template says, as text."""
    week, ahead, scale = week_of(facts), outlooks(facts), scale_of(facts)
    plan, plans = planned(facts)
    moves, planning, judged = movements(facts, week), plan_section(plan), verdict(facts)
    view: Row = {
        "project": facts.atlas.project,
        "day": full_day(facts.atlas.day),
        "iso_day": facts.atlas.day.isoformat(),
        "currency": facts.atlas.currency,
        "horizon": facts.horizon,
        "headline": _headline(facts, plan),
        "outstanding": [
            *_biggest_change(facts, week),
            *_most_at_stake(facts, ahead),
            *_what_the_plan_does(plan, planning["reasons"]),
            *([judged] if judged else []),
        ],
        "stages": _stages(facts, week),
        "has_forecasts": bool(facts.forecasts),
        "flow": flow(facts, week),
        "week": moves,
        "segments": micro_segments(facts, ahead, plans, scale),
        "clusters": clusters(facts),
        "actions": actions(facts, scale),
        "zero": f"{scale.x(0.0):.0f}",
        "plan": planning,
        "audiences": _audiences(facts),
        "evidence": evidence(facts),
        "verdict": judged,
        "models": models(facts),
        "switched_off": switched_off(facts),
        "churn_after": facts.atlas.windows.get("churn_after"),
        "ltv_horizon": facts.atlas.windows.get("horizon"),
    }
    return view | {"sections": _sections(view)}


def _headline(facts: AtlasData, plan: Planned) -> list[Row]:
    """The cards at the top."""
    profiles = facts.stage_profiles.values()
    buyers, revenue = (total(row[name] for row in profiles) for name in ("buyers", "revenue"))
    top = _top_stage(facts)
    unit = facts.atlas.currency
    return [
        {
            "label": "Customers known",
            "value": number(facts.customers),
            "note": f"{plural(len(facts.stages), 'stage')}, {plural(len(facts.leaves), 'micro-segment')}",
        },
        {
            "label": "Revenue, last 28 days",
            "value": amount(revenue) if profiles else MISSING,
            "unit": unit,
            "note": f"{share(buyers, facts.customers)} of customers bought",
        },
        {
            "label": "Lifetime value in all",
            "value": amount(facts.ltv) if profiles else MISSING,
            "unit": unit,
            "note": _value_rests_on(facts) if facts.customers and profiles else "no customers yet",
        },
        *(
            {
                "label": f"LTV held by stage “{row['stage']}”",
                "value": share(row["ltv"], facts.ltv),
                "note": f"by {share(row['customers'], facts.customers)} of customers",
            }
            for row in top
        ),
        {
            "label": "Customers to act upon",
            "value": number(plan.acted) if plan.customers else MISSING,
            "note": f"expected to bring {facts.money(plan.value)} after cost"
            if plan.acted
            else ("the plan abstains for everybody" if plan.customers else "no plan yet"),
        },
    ]


def _value_rests_on(facts: AtlasData) -> str:
    """What stands beside the sum of values: per customer, over which horizon, and in or without which season."""
    each = f"{facts.money(facts.ltv / facts.customers)} per customer"
    return f"{each}. {facts.atlas.basis.words()}" if facts.atlas.basis else each


def _top_stage(facts: AtlasData) -> list[Row]:
    """The profile of the stars or, without such a stage, of the one with the highest LTV per customer."""
    valued = [row for row in facts.stage_profiles.values() if is_known(row["ltv_per_customer"])]
    stars = [row for row in facts.stage_profiles.values() if row["stage"] == "star"]
    return stars or sorted(valued, key=lambda row: (row["ltv_per_customer"], row["stage"]))[-1:]


def _biggest_change(facts: AtlasData, week: Week) -> list[str]:
    """The change between stages that moves most value: customers times the difference of the stages' mean LTV."""
    each = {stage: row["ltv_per_customer"] for stage, row in facts.stage_profiles.items()}

    def value(pair: Pair) -> float:
        before, after = pair
        if before is None or not (is_known(each.get(before)) and is_known(each.get(after))):
            return 0.0
        return float(week.moved[pair].total() * (each[after] - each[before]))

    pairs = [pair for pair in week.moved if pair[0] is not None]
    if not pairs:
        return []
    most = max(pairs, key=lambda pair: (abs(value(pair)), week.moved[pair].total(), pair[0] or "", pair[1]))
    worth = value(most)
    said = f"The change of the week that matters most: {stage_move(most, week.moved[most])}"
    if abs(worth) < LEAST_WORTH * facts.ltv or not facts.ltv:
        return [said]
    way = "more" if worth > 0 else "less"
    return [
        f"{said} By what customers of these stages are worth, that is {facts.money(abs(worth))} {way} lifetime value."
    ]


def _most_at_stake(facts: AtlasData, ahead: Mapping[str, Outlook]) -> list[str]:
    """The group that loses most beyond what is usual in its stage; nothing where that is little of all value."""
    usual: dict[str, float] = {}
    for stage in facts.stages:
        inside = [one for one in ahead.values() if one.leaf["stage"] == stage]
        customers = total(one.leaf["customers"] for one in inside)
        usual[stage] = total(one.leaving * one.leaf["customers"] for one in inside) / customers if customers else 0.0

    def beyond(one: Outlook) -> float:
        return (one.leaving - usual.get(one.leaf["stage"], 0.0)) * known_ltv(one.leaf)

    worst = max(ahead.values(), key=lambda one: (beyond(one), one.leaf["name"]), default=None)
    if worst is None or beyond(worst) < LEAST_WORTH * facts.ltv or beyond(worst) <= 0:
        return []
    stage = worst.leaf["stage"]
    said = (
        f"Watch {worst.leaf['name']}: {share(worst.leaving)} of its {plural(worst.leaf['customers'], 'customer')} are "
        f"expected in another stage within {facts.horizon} days, where {share(usual[stage])} are usual in “{stage}”; "
        f"the group’s lifetime value is {facts.money(known_ltv(worst.leaf))}."
    )
    return [said]


def _what_the_plan_does(plan: Planned, reasons: list[Row]) -> list[str]:
    if plan.acted:
        rest = f"; for {plural(plan.abstained, 'customer')} it abstains" if plan.abstained else ""
        acted = plural(plan.acted, "customer")
        return [f"The plan acts on {acted} and holds out {number(plan.held)} on purpose{rest}."]
    if plan.customers:
        return ["The plan acts on nobody." + "".join(f" The main reason: {why['text']}." for why in reasons[:1])]
    return []


def _stages(facts: AtlasData, week: Week) -> list[Row]:
    """The table under the picture."""
    rows = []
    for stage in facts.stages:
        profile, size = facts.stage_profiles.get(stage, {}), facts.sizes[stage]
        later = total(count for (_, after), count in facts.flows.items() if after == stage)
        rows.append(
            {
                "stage": stage,
                "customers": number(size),
                "share": share(size, facts.customers),
                "width": width(size, facts.customers),
                "revenue": amount(profile.get("revenue")),
                "ltv": amount(profile.get("ltv")),
                "ltv_each": amount(profile.get("ltv_per_customer")),
                "ltv_share": share(profile.get("ltv"), facts.ltv),
                "ltv_width": width(profile.get("ltv"), facts.ltv),
                "arrived": number(week.arrived.get(stage, 0), sign=True) if week.is_known else MISSING,
                "left": number(-week.left.get(stage, 0)) if week.is_known else MISSING,
                "later": number(later),
                "change": number(later - size, sign=True),
            }
        )
    return rows


def _audiences(facts: AtlasData) -> list[Row]:
    return [
        {
            "name": row["audience"].replace("_", " ").capitalize(),
            "meaning": facts.atlas.audience_words.get(row["audience"], ""),
            "customers": number(row["customers"]),
            "share": share(row["customers"], facts.customers),
            "width": width(row["customers"], facts.customers),
        }
        for row in facts.audiences
    ]


def _sections(view: Row) -> list[Row]:
    """The sections in their order: those that have something to show, then the others."""
    has = {
        "stages": bool(view["stages"]),
        "movements": view["week"]["known"],
        "segments": bool(view["segments"]["count"]),
        "clusters": bool(view["clusters"]),
        "effects": bool(view["actions"]),
        "plan": bool(view["plan"]["rows"]),
        "audiences": bool(view["audiences"]),
        "evidence": bool(view["evidence"]),
        "models": bool(view["models"]),
    }
    return [{"id": name, "title": TITLES[name]} for name in sorted(has, key=lambda name: not has[name])]
