"""The page: its headline, its table of stages, and the sections put together.

Belongs here: the headline, and the order of sections. Does not belong here: the words of a section with its own module,
and the layout (see ``page.html``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ml.engine import Engine
from ml.report.clusters import clusters
from ml.report.data import AtlasData, AtlasInputs, Row, count, total
from ml.report.effects import actions, scale_of
from ml.report.evidence import evidence, models, switched_off, verdict
from ml.report.flow import flow
from ml.report.micro_segments import Outlook, known_ltv, micro_segments, outlooks
from ml.report.movements import Pair, Week, movements, stage_move, week_of
from ml.report.plan import Planned, plan_section, planned
from ml.report.words import MISSING, amount, full_day, is_known, money_words, number, plural, share, width

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
MIN_LTV_SHARE = 0.005  # of all lifetime value, below which the headline leaves a change out


def render(engine: Engine, inputs: AtlasInputs) -> str:
    """Render the page as HTML: everything inline, nothing fetched, all text from data escaped.

    Parameters
    ----------
    engine : Engine
        Counts the customers.
    inputs : AtlasInputs
        The day's tables; any of them may be empty.

    Returns
    -------
    str
        The page; identical inputs give identical bytes.

    Examples
    --------
    >>> from datetime import date
    >>> from ml import tables
    >>> from ml.engine import DuckDB
    >>> from ml.report.data import TABLES
    >>> inputs = AtlasInputs(
    ...     "corner shop", date(2024, 1, 31), "EUR",
    ...     tables={name: tables.OUTPUTS[name].empty_days() for name in TABLES},
    ...     moves=tables.MOVEMENTS.empty_days(), evidence=tables.SEGMENT_EVIDENCE.empty(),
    ...     lineage=tables.CLUSTER_LINEAGE.empty(), choices=[], switched_off=["balances"],
    ... )
    >>> page = render(DuckDB(), inputs)
    >>> page[page.index("<title>") : page.index("</title>")]
    '<title>corner shop: segment atlas, 31 January 2024'
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
    page = environment.get_template("page.html").render(_view(count(engine, inputs)))
    page = re.sub(r"\n\s*", "\n", page).strip() + "\n"
    return re.sub(r"\n(?=</?(?:tr|tbody|p|details)\b)", "", page)


def _view(data: AtlasData) -> Row:
    """Everything that the template shows, as text."""
    week, expected, scale = week_of(data), outlooks(data), scale_of(data)
    plan, plans = planned(data)
    moves, planning, conclusion = movements(data, week), plan_section(plan), verdict(data)
    view: Row = {
        "project": data.inputs.project,
        "day": full_day(data.inputs.day),
        "iso_day": data.inputs.day.isoformat(),
        "currency": data.inputs.currency,
        **money_words(data.value_of),
        "horizon": data.horizon,
        "headline": _headline(data, plan),
        "outstanding": [
            *_largest_change(data, week),
            *_most_at_stake(data, expected),
            *_what_the_plan_does(plan, planning["reasons"]),
            *([conclusion] if conclusion else []),
        ],
        "stages": _stages(data, week),
        "has_forecasts": bool(data.forecasts),
        "flow": flow(data, week),
        "week": moves,
        "segments": micro_segments(data, expected, plans, scale),
        "clusters": clusters(data),
        "actions": actions(data, scale),
        "zero": f"{scale.x(0.0):.0f}",
        "plan": planning,
        "audiences": _audiences(data),
        "evidence": evidence(data),
        "verdict": conclusion,
        "models": models(data),
        "switched_off": switched_off(data),
        "churn_after": data.inputs.windows.get("churn_after"),
        "ltv_horizon": data.inputs.windows.get("horizon"),
    }
    return view | {"sections": _sections(view)}


def _headline(data: AtlasData, plan: Planned) -> list[Row]:
    """The cards at the top."""
    profiles = data.stage_profiles.values()
    buyers, revenue = (total(row[name] for row in profiles) for name in ("buyers", "revenue"))
    top = _top_stage(data)
    unit = data.inputs.currency
    return [
        {
            "label": "Customers known",
            "value": number(data.customers),
            "note": f"{plural(len(data.stages), 'stage')}, {plural(len(data.leaves), 'micro-segment')}",
        },
        {
            "label": f"{data.value_of.capitalize()}, last 28 days",
            "value": amount(revenue) if profiles else MISSING,
            "unit": unit,
            "note": f"{share(buyers, data.customers)} of customers bought",
        },
        {
            "label": "Total lifetime value",
            "value": amount(data.ltv) if profiles else MISSING,
            "unit": unit,
            "note": _basis(data) if data.customers and profiles else "no customers yet",
        },
        *(
            {
                "label": f"Share of LTV in stage “{row['stage']}”",
                "value": share(row["ltv"], data.ltv),
                "note": f"from {share(row['customers'], data.customers)} of customers",
            }
            for row in top
        ),
        {
            "label": "Customers with an action",
            "value": number(plan.acted) if plan.customers else MISSING,
            "note": f"expected to bring {data.money(plan.value)} after cost"
            if plan.acted
            else ("the plan assigns no action" if plan.customers else "no plan yet"),
        },
    ]


def _basis(data: AtlasData) -> str:
    """The value per customer, and the horizon and season behind the sum of values."""
    each = f"{data.money(data.ltv / data.customers)} per customer"
    return f"{each}. {data.inputs.basis.words()}" if data.inputs.basis else each


def _top_stage(data: AtlasData) -> list[Row]:
    """The profile of the stage star or, without one, of the stage with the highest LTV per customer."""
    valued = [row for row in data.stage_profiles.values() if is_known(row["ltv_per_customer"])]
    stars = [row for row in data.stage_profiles.values() if row["stage"] == "star"]
    return stars or sorted(valued, key=lambda row: (row["ltv_per_customer"], row["stage"]))[-1:]


def _largest_change(data: AtlasData, week: Week) -> list[str]:
    """The change of stage that moves most value: customers times the difference of the stages' mean LTV."""
    each = {stage: row["ltv_per_customer"] for stage, row in data.stage_profiles.items()}

    def value(pair: Pair) -> float:
        before, after = pair
        if before is None or not (is_known(each.get(before)) and is_known(each.get(after))):
            return 0.0
        return float(week.moved[pair].total() * (each[after] - each[before]))

    pairs = [pair for pair in week.moved if pair[0] is not None]
    if not pairs:
        return []
    largest = max(pairs, key=lambda pair: (abs(value(pair)), week.moved[pair].total(), pair[0] or "", pair[1]))
    change = value(largest)
    text = f"The most important change of the week: {stage_move(largest, week.moved[largest])}"
    if abs(change) < MIN_LTV_SHARE * data.ltv or not data.ltv:
        return [text]
    direction = "more" if change > 0 else "less"
    return [f"{text} At the mean LTV of these stages, that is {data.money(abs(change))} {direction} lifetime value."]


def _most_at_stake(data: AtlasData, expected: Mapping[str, Outlook]) -> list[str]:
    """The group that loses most value beyond the mean of its stage; empty where that is little of all value."""
    usual: dict[str, float] = {}
    for stage in data.stages:
        inside = [one for one in expected.values() if one.leaf["stage"] == stage]
        customers = total(one.leaf["customers"] for one in inside)
        weighted = total(one.leave_probability * one.leaf["customers"] for one in inside)
        usual[stage] = weighted / customers if customers else 0.0

    def excess(one: Outlook) -> float:
        return (one.leave_probability - usual.get(one.leaf["stage"], 0.0)) * known_ltv(one.leaf)

    worst = max(expected.values(), key=lambda one: (excess(one), one.leaf["name"]), default=None)
    if worst is None or excess(worst) < MIN_LTV_SHARE * data.ltv or excess(worst) <= 0:
        return []
    stage = worst.leaf["stage"]
    text = (
        f"Watch {worst.leaf['name']}: {share(worst.leave_probability)} of its "
        f"{plural(worst.leaf['customers'], 'customer')} are expected to leave the stage within {data.horizon} days, "
        f"against {share(usual[stage])} of all customers in “{stage}”; the group’s lifetime value is "
        f"{data.money(known_ltv(worst.leaf))}."
    )
    return [text]


def _what_the_plan_does(plan: Planned, reasons: list[Row]) -> list[str]:
    if plan.acted:
        rest = f"; {plural(plan.abstained, 'customer')} get no action" if plan.abstained else ""
        acted = plural(plan.acted, "customer")
        return [f"The plan assigns an action to {acted} and holds out {number(plan.held_out)} on purpose{rest}."]
    if plan.customers:
        return ["The plan assigns no action." + "".join(f" The main reason: {why['text']}." for why in reasons[:1])]
    return []


def _stages(data: AtlasData, week: Week) -> list[Row]:
    """The table under the picture."""
    rows = []
    for stage in data.stages:
        profile, size = data.stage_profiles.get(stage, {}), data.sizes[stage]
        later = total(count for (_, after), count in data.flows.items() if after == stage)
        rows.append(
            {
                "stage": stage,
                "customers": number(size),
                "share": share(size, data.customers),
                "width": width(size, data.customers),
                "revenue": amount(profile.get("revenue")),
                "ltv": amount(profile.get("ltv")),
                "ltv_each": amount(profile.get("ltv_per_customer")),
                "ltv_share": share(profile.get("ltv"), data.ltv),
                "ltv_width": width(profile.get("ltv"), data.ltv),
                "arrived": number(week.arrived.get(stage, 0), sign=True) if week.is_known else MISSING,
                "left": number(-week.left.get(stage, 0)) if week.is_known else MISSING,
                "later": number(later),
                "change": number(later - size, sign=True),
            }
        )
    return rows


def _audiences(data: AtlasData) -> list[Row]:
    return [
        {
            "name": row["audience"].replace("_", " ").capitalize(),
            "meaning": data.inputs.audience_words.get(row["audience"], ""),
            "customers": number(row["customers"]),
            "share": share(row["customers"], data.customers),
            "width": width(row["customers"], data.customers),
        }
        for row in data.audiences
    ]


def _sections(view: Row) -> list[Row]:
    """The sections in order: those with content, then the empty ones."""
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
