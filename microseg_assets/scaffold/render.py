"""The project file as text, each line with its evidence.

Belongs here: words and YAML. Does not belong here: guesses (see `infer`).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import date

import yaml

from microseg_assets.check.advice import Advice, advice
from microseg_assets.scaffold.assign import Assignment, attribute_names, calendar
from microseg_assets.scaffold.columns import Reading, SourceColumn
from microseg_assets.scaffold.infer import guesses
from microseg_assets.scaffold.names import plain
from microseg_assets.scaffold.profile import Delivery
from microseg_assets.scaffold.settle import Draft
from microseg_assets.sources.encodings import AUTO
from ml.features import ROLES, category_column, guess_roles
from ml.profile import CURRENCIES, Code, Observation
from ml.tables import CONTROL, INPUTS, arm_of

# Characters that YAML does not allow, or that end a line; values escape them, comments replace them.
_UNWRITABLE = re.compile(f"{yaml.reader.Reader.NON_PRINTABLE.pattern}|[\r\x85\u2028\u2029\ufeff]")
WIDTH = 116
TODO = "TODO"  # marks what needs an answer
HEAD = f"# Written by `microseg new`, to be read and corrected. A line marked {TODO} needs your answer."
# Observations that the user must decide on: each gets a line marked TODO.
NEEDS_ANSWER = {
    Code.PRICE_OF_A_PIECE, Code.NET_TOTAL,
    Code.SEVERAL_CURRENCIES, Code.ORDER_STATES, Code.SIGN_IN_COLUMN, Code.NOBODY_RETURNS, Code.ORDERS_COME_AGAIN,
    Code.ORDER_IDS_SHARED, Code.IDS_DO_NOT_MEET,
}  # fmt: skip
MAX_EVENT_TYPES = 20  # more values than these are no types
ALSO_PRINTED = {Code.NEW_COLUMN, Code.NO_TRANSACTION_ID, Code.QUANTITY}  # at the terminal, though no warnings
WITHOUT = {
    "customers": "who they are: registration, age, region. Without it: no attributes, known since the first purchase",
    "events": "what they do besides buying: visits, clicks, redemptions. Without it: no engagement besides purchases",
    "exposures": "who was given which action, or held out. Without it: no effects of actions and nothing to plan",
    "balances": "points, credit, deposits. Without it: no customer is known to have a balance",
}


def render_project(name: str, draft: Draft, unused: Sequence[Delivery]) -> str:
    """The text of the project file."""
    bought = draft.tables.get("transactions")
    lines = [
        HEAD,
        "# The keys are explained in docs/your-own-data.md; for completion in an editor: `microseg schema`.",
        f"name: {name}",
        f"title: {_yaml(name.replace('_', ' ').capitalize())}",
        "time_zone: UTC # TODO the zone whose calendar days count, such as Europe/Berlin; " + _about_zone(bought),
        *_currency(bought),
        *_days(bought),
        "",
        "tables:",
    ]
    for table in INPUTS:
        if table in draft.tables:
            lines += _table(table, draft.tables[table], draft)
        elif table == "transactions":
            lines += _no_transactions()
        else:
            lines += [f"  # {table}: # {WITHOUT[table]}", ""]
    for delivery in unused:
        lines += _unused(delivery)
    return _UNWRITABLE.sub("?", "\n".join([*lines, *_ids(draft), *_settings(draft.tables)]).rstrip()) + "\n"


def count_todos(text: str) -> int:
    """The number of marks in a project file that need an answer."""
    return text.removeprefix(HEAD).count(TODO)


def _about_zone(bought: Assignment | None) -> str:
    reading = bought.guess.columns.get("occurred_at") if bought else None
    holds = reading.holds if reading else None
    if holds in ("zoned_stamps", "epoch"):
        return "the stamps have their own zone"
    if holds == "days":
        return "the data have only days, which no zone shifts"
    return "stamps without a zone are read in it, unless the table has its own time_zone"


def _currency(bought: Assignment | None) -> list[str]:
    for seen in bought.delivery.columns if bought else ():
        codes = {v.strip().upper() for v in seen.values}
        if (
            len(codes) == 1
            and seen.is_text
            and re.fullmatch(r"[A-Z]{3}", min(codes))
            and re.search("curr|waehr|devise", plain(seen.name))
        ):
            return [f"currency: {min(codes)} # the only value of {seen.name}"]
        if 2 <= len(codes) <= 40 and codes <= CURRENCIES:
            listed = f"{', '.join(sorted(codes))}; see TODO at transactions"
            return [f"currency: EUR # TODO {seen.name} has {len(codes)} currencies, and nothing is converted: {listed}"]
    uses = bought.guess.columns["amount"].uses if bought and "amount" in bought.guess.columns else ()
    signs = " ".join(
        [*uses, *(v for s in (bought.delivery.columns if bought else ()) if s.name in uses for v in s.values[:20])]
    )
    for pattern, code in (("€|eur", "EUR"), (r"\$|usd|dollar", "USD"), ("£|gbp", "GBP"), ("chf", "CHF")):
        if re.search(rf"(?<![a-z])({pattern})(?![a-z])", signs.lower().replace("_", " ")):
            return [f"currency: {code} # as {', '.join(uses)} says"]
    return ["currency: EUR # TODO the currency of the amounts"]


def _days(bought: Assignment | None) -> list[str]:
    if bought is None or not bought.days:
        return [
            "start: 2024-01-01 # TODO the first day with complete data",
            "# end: 2024-12-31 # the last day, if the data have ended",
        ]
    first, last, stray = calendar(bought.days)
    aside = (
        f"; {row_count(stray)} far from the others, such as {_stray(bought.days, first, last)}, not counted"
        if stray
        else ""
    )
    lines = [f"start: {first} # the first day with purchases{aside}; later, if the first ones are incomplete"]
    if (_today() - last).days <= 2:
        return [*lines, "# end: the last day, if the data have ended; these seem to continue"]
    return [*lines, f"end: {last} # the last one; remove this line when new days are delivered"]


def _today() -> date:
    return date.today()  # noqa: DTZ011


def _stray(days: Mapping[date, int], first: date, last: date) -> date:
    return next(day for day in sorted(days) if not first <= day <= last)


def observation_lines(draft: Draft) -> list[str]:
    """The observations that need an answer, one line each, for a terminal."""
    ids = draft.ids()
    advised = [(one, advice(one, ids)) for one in (*draft.observations, *draft.foretelling.values())]
    lines = [
        line
        for one, words in advised
        if words.is_warning or one.code in ALSO_PRINTED
        for line in _folded(f"{'!' if words.is_warning else ' '} {one.table}: {_answered(draft, one, words)}", "  ")
    ]
    return ["What to look at first:", *lines] if lines else []


def _answered(draft: Draft, one: Observation, words: Advice) -> str:
    return f"{words.evidence}: the project file leaves this out" if draft.answers(one) else str(words)


def _folded(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_long_words=False)


def _ids(draft: Draft) -> list[str]:
    """The block `validation` for ids of nobody, whose rows go to quarantine."""
    if not (draft.not_customers or draft.doubtful or draft.without_rounded):
        return []
    lines = ["validation:", "  ids: # rows of these ids go to quarantine and do not count against their day"]
    if draft.not_customers:
        listed = ", ".join(_yaml_text(one) for one in draft.not_customers)
        lines.append(f"    not_customers: [{listed}] # placeholders, not customers")
    if draft.doubtful:
        listed = ", ".join(_yaml_text(one) for one in draft.doubtful)
        lines.append(f"    # not_customers: [{listed}] # TODO if it is a till or a guest account, list it")
    if draft.without_rounded:
        lines.append("    rounded: refuse # ids such as 4.1E+12, each of which may be several customers")
    elif not draft.not_customers:
        lines[0:2] = [f"# {line}" for line in lines[0:2]]
        lines[2:] = [line.replace("    # not", "#     not", 1) for line in lines[2:]]
    return [*lines, ""]


def _yaml_text(text: str) -> str:
    """A quoted text, so that `-1`, `null` and `0000` stay texts."""
    return yaml.safe_dump(text, default_style="'", allow_unicode=True, width=1_000_000).strip()


def _table(table: str, assignment: Assignment, draft: Draft) -> list[str]:
    guess, delivery = assignment.guess, assignment.delivery
    lines = [f"  {table}: # {row_count(delivery.rows)}{span(assignment)}"]
    ids = draft.ids()
    for one in draft.observations:
        if one.table == table:
            words = advice(one, ids)
            mark = "TODO " if words.is_warning and one.code in NEEDS_ANSWER else ""
            lines.append(f"    # {mark}{' '.join(_answered(draft, one, words).split())}")
    location = delivery.location
    lines.append(
        f"    path: {_yaml(location) if isinstance(location, str) else '[' + ', '.join(map(_yaml, location)) + ']'}"
    )
    if len(delivery.files) > 1:
        same = "files, not all with the same columns" if delivery.partial else "files with the same columns"
        lines[-1] += f" # {len(delivery.files)} {same}"
    lines += _encoding(delivery)
    broken, first = delivery.broken
    if broken:
        lines.append(f"    # Lines that are not rows go to quarantine: {broken:,} so far, the first in {first:.80}")
    if assignment.undated:
        lines.append(
            f"    # {row_count(assignment.undated)} have no day and go to quarantine; `microseg check` says why"
        )
    lines += [f"    # TODO {problem}" for problem in assignment.problems]
    if guess.stamp:
        lines.append(f"    stamp: {guess.stamp}")
    if guess.where:
        lines.append(f"    where: {_yaml(guess.where)} # {guess.where_note}")
    lines.append("    columns:")
    for column in INPUTS[table].columns:
        reading = guess.columns.get(column.name)
        if reading is not None:
            lines.append(f"      {column.name}: {_yaml(reading.expression)}{_evidence(column.name, reading, delivery)}")
        elif column.name in guess.lacks:
            seen = " ".join(", ".join(one.name for one in delivery.columns).split())
            lines.append(f"      # {column.name}: # TODO {column.meaning}; it must be one of: {seen}")
    lines += _attributes(table, assignment, draft)
    lines += _unmapped(table, assignment)
    return [*lines, ""]


def _attributes(table: str, assignment: Assignment, draft: Draft) -> list[str]:
    """The attributes of customers, and those that are left out since they leak the future."""
    guess, delivery, ids = assignment.guess, assignment.delivery, draft.ids()
    lines: list[str] = []
    names = attribute_names(guess)
    lines += [f"      {name}: {_yaml(source)}" for source, name in names.items() if name != source]
    if names:
        lines.append("    attributes: # each becomes a feature; delete what should not be one")
        by_name = {seen.name: seen for seen in delivery.columns}
        for source, type_ in guess.attributes.items():
            lines.append(f"      {names[source]}: {type_} # {_values(by_name[source])}")
    if table == "customers":
        for source, one in draft.foretelling.items():
            lines.append(f"    # Not taken: {' '.join(source.split())}: {advice(one, ids)}")
        if names:
            lines += [
                "    # as_of: 2024-12-31 # if they change: the day of the export, from which on they are known",
                "    # timeless: [] # those that never change",
            ]
    return lines


def _unmapped(table: str, assignment: Assignment) -> list[str]:
    """Columns of the table that nothing is mapped to, and columns of the source that are not used."""
    guess, delivery = assignment.guess, assignment.delivery
    lines: list[str] = []
    optional = [c for c in INPUTS[table].columns if c.name not in guess.columns and not c.required]
    if optional:
        lines.append(f"    # It could also have {', '.join(column.name for column in optional)}.")
    used = {name for reading in guess.columns.values() for name in reading.uses} | {*guess.attributes, guess.kind}
    rest = [seen for seen in delivery.columns if seen.name not in used]
    if rest:
        lines.append("    # Not used; to use one of these, add a line under columns:")
        lines += [f"    #   {' '.join(seen.name.split())}: {_values(seen)}" for seen in rest[:20]]
        lines += [f"    #   and {len(rest) - 20} more"] if len(rest) > 20 else []
    return lines


def _encoding(delivery: Delivery) -> list[str]:
    """The encoding of the text, if it is not UTF-8."""
    guessed = delivery.encoding
    if guessed.encoding == AUTO:
        return [f"    # TODO {guessed.doubt}; save them all as UTF-8"] if guessed.doubt else []
    words = f"; this way it reads {', '.join(guessed.words)}" if guessed.words else ""
    doubt = f". TODO {guessed.doubt}" if guessed.doubt else ""
    return [f"    encoding: {guessed.encoding} # the text is not UTF-8{words}{doubt}"]


def span(assignment: Assignment) -> str:
    """Customers and days of a table, as the end of a line."""
    if not assignment.days:
        return ""
    first, last, _ = calendar(assignment.days)
    who = f", {assignment.customers:,} customers" if assignment.customers else ""
    return f"{who}, {first} … {last}"


def row_count(count: int) -> str:
    """A number of rows in words."""
    return f"{count:,} row{'' if count == 1 else 's'}"


def _evidence(name: str, reading: Reading, delivery: Delivery) -> str:
    seen = [one for one in delivery.columns if one.name in reading.uses]
    notes = []
    if reading.note:
        notes.append(reading.note)
    if len(seen) == 1 and name.endswith("_id"):
        notes.append(_counts(seen[0]))
    elif len(seen) == 1 and not (seen[0].values and seen[0].values[0].strip() in reading.examples):
        notes.append(f"{_examples(seen[0], 2)}{_missing(seen[0]) if seen[0].values else ''}")
    evidence = f" # {'; '.join(notes)}" if notes else ""
    return f"{evidence}{'.' if evidence else ' #'} TODO {reading.doubt}" if reading.doubt else evidence


def _counts(seen: SourceColumn) -> str:
    unique = "a different value in every row" if seen.is_unique else f"{_different(seen)} values"
    where = f" in the first {seen.rows:,} rows" if seen.is_sample and seen.is_unique else ""
    return unique + (_missing(seen) or ", never missing") + where


def _different(seen: SourceColumn) -> str:
    """The number of distinct values, as far as they were counted."""
    if not seen.is_sample:
        return f"{seen.distinct:,} different"
    return f"at least {seen.distinct:,} (in a sample of {seen.rows:,} rows) different"


def _missing(seen: SourceColumn) -> str:
    return f", missing in {seen.missing / seen.rows:.1%}" if seen.missing else ""


def _values(seen: SourceColumn) -> str:
    if not seen.values:
        return "always missing"
    if seen.distinct <= 6 and not seen.is_sample:
        return f"{', '.join(sorted(_short(v) for v in seen.values))}{_missing(seen)}"
    return f"{_different(seen)}, {_examples(seen, 2)}{_missing(seen)}"


def _examples(seen: SourceColumn, count: int) -> str:
    return f"such as {', '.join(map(_short, seen.values[:count]))}" if seen.values else "no value in any row"


def _short(value: str) -> str:
    value = " ".join(value.split())
    return value if len(value) <= 30 else f"{value[:29]}…"


def _no_transactions() -> list[str]:
    return [
        "  transactions: # the only required table: one row per line of an order",
        "    path: transactions.csv # TODO a file, a folder or a pattern: CSV, JSON lines or Parquet",
        "    columns: # our name: your name, or a SQL expression over your columns",
        *(
            f"      {'' if column.required else '# '}{column.name}: {column.name} # {column.meaning}"
            for column in INPUTS["transactions"].columns
        ),
        "",
    ]  # fmt: skip


def _unused(delivery: Delivery) -> list[str]:
    likely = guesses(delivery.name, delivery.columns)
    lines, reason = delivery.broken
    if not delivery.columns:
        return [f"  # Not used: {delivery.label}: {' '.join(reason.split())}", ""]
    if lines:
        why = f"{lines:,} of its lines are not rows, the first: {' '.join(reason.split()).rstrip('.'):.80}"
    elif len(delivery.columns) == 1 and " " in delivery.columns[0].name:
        why = "its columns seem to be separated by spaces: projects/cdnow.yaml shows a query that splits them"
    elif not likely:
        why = "no column looks like a customer id"
    elif likely[0].lacks:
        why = f"it may be {likely[0].table}, but nothing in it looks like {' or '.join(likely[0].lacks)}"
    else:
        why = f"another file is used as {likely[0].table}"
    columns = " ".join(", ".join(seen.name for seen in delivery.columns[:12]).split()) + (
        " …" if len(delivery.columns) > 12 else ""
    )
    return [
        f"  # Not used: {delivery.label} ({row_count(delivery.rows)}): {why}.",
        f"  #   It can be joined to a table with `files` and `query`. Its columns: {columns}",
        "",
    ]


def _settings(tables: Mapping[str, Assignment]) -> list[str]:
    lines: list[str] = []
    bought = tables.get("transactions")
    category = bought.guess.columns.get("category") if bought else None
    if bought and category:
        shown = _categories(bought.delivery.categories.get(category.uses[0], ()))
        if shown:
            lines += [
                "features:",
                f"  categories: [{', '.join(map(_yaml, shown))}] # the most frequent; each share of spend is a feature",
                "",
            ]
    lines += _event_roles(tables.get("events"))
    lines += _for_short_history(bought)
    lines.append("lifecycle:")
    lines.append("  business: retail # or gaming")
    lines.append("  churn_after_days: auto # estimated from the gaps between purchases every week; or a number of days")
    if bought and bought.gaps:
        half, nine_in_ten = bought.gaps
        lines.append(f"  # half of the gaps in these data are at most {half} days, 9 of 10 are at most {nine_in_ten}")
    exposed = tables.get("exposures")
    if exposed and "action" in exposed.guess.columns:
        lines += _actions(exposed)
    return lines


def _event_roles(events: Assignment | None) -> list[str]:
    """What the types of events count as, where each row says its type: the guess, to be corrected."""
    reading = events.guess.columns.get("event_type") if events else None
    if events is None or reading is None or len(reading.uses) != 1:
        return []
    seen = next(one for one in events.delivery.columns if one.name == reading.uses[0])
    if reading.expression != seen.name or not 0 < len(seen.values) <= MAX_EVENT_TYPES:
        return []
    roles = {value: guess_roles(value) for value in seen.values}
    lines = ["event_roles: # what events count as; the roles of a type that is not listed are guessed from its words"]
    by_role = {role: [_yaml(value) for value in sorted(roles) if roles[value] == (role,)] for role in ROLES}
    lines += [f"  {role}: [{', '.join(types)}]" for role, types in by_role.items() if types]
    without = ", ".join(_yaml(value) for value in sorted(roles) if not roles[value])
    goals = f"[{without}] # keep those that you want customers to do; all have no role now" if without else "[]"
    lines.append(f"  # goals: {goals}")
    if len(lines) == 2:
        lines[0] = f"# {lines[0]}"
    return [*lines, ""]


def _categories(frequent: Sequence[str]) -> list[str]:
    """The values that can be the name of a feature."""
    shown: dict[str, str] = {}
    for value in frequent:
        if category_column(value) != "share_":
            shown.setdefault(category_column(value), value)
    return list(shown.values())


def _for_short_history(bought: Assignment | None) -> list[str]:
    """Horizons that fit a short history: with the default ones no outcome closes before 120 days."""
    if bought is None or not bought.days:
        return []
    first, last, _ = calendar(bought.days)
    history = (last - first).days + 1
    if history >= 150:
        return []
    horizon, warm_up = (56, 28) if history >= 112 else (28, 14)
    why = f"{history} days of data: with the default, 90, too few outcomes would have closed to learn from"
    layers = ["segments:", f"  warm_up_days: {warm_up} # history before the first layers are cut; 90 by default", ""]
    return ["value:", f"  horizon_days: {horizon} # {why}", f"  warm_up_days: {warm_up}", "", *layers]


def _actions(exposed: Assignment) -> list[str]:
    uses = exposed.guess.columns["action"].uses
    seen = next(one for one in exposed.delivery.columns if one.name in uses)
    lines = ["", "actions:", "  actions: # what the plan may assign"]
    names = [value for value in sorted(seen.values)[:20] if arm_of(value) not in (CONTROL, None)]
    each = [f"    - {{name: {_yaml(name)}, cost: 0.0}} # TODO what one exposure costs" for name in names]
    return [*lines, *each] if each else []


def _yaml(text: str) -> str:
    """A text as one YAML scalar, alone on a line or in a list."""
    try:
        alone = "\n" not in text and yaml.safe_load(f"k: {text} # x") == {"k": text}
        # An expression may contain the signs of a list, since it is never an item of one.
        if alone and ("(" in text or yaml.safe_load(f"k: [{text}] # x") == {"k": [text]}):
            return text
    except yaml.YAMLError:
        pass
    if "'" not in text and not _UNWRITABLE.search(text) and text.isprintable():
        return f"'{text}'"
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1_000_000).strip()
