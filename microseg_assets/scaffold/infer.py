"""Guessing what a file holds, which nobody has prepared.

Belongs here: pure functions of its columns and its name. A guess is made only where name and content agree; anything
less certain is left to the user. Does not belong here: reading files (see `profile`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from microseg_assets.scaffold.columns import (
    CLOCK,
    TYPED_STAMP,
    Number,
    Reading,
    SourceColumn,
    agree,
    agreed,
    number,
    stamp,
    with_clock,
)
from microseg_assets.scaffold.names import (
    ANSWERED,
    BOUGHT,
    FILES,
    GROUPS,
    NAMES,
    NOT_REVENUE,
    PRICE,
    RATE,
    SENT,
    TIME_OF_DAY,
    UNIT_PRICE,
    plain,
    rank,
)
from microseg_assets.sources.stamps import is_written
from ml.tables import CONTROL, INPUTS, arm_of

MAX_SHARED_IDS = 0.001  # share of the transaction ids that another purchase has as well
MAX_REPEATED_IDS = 0.2  # share of the transaction ids that are sent again: with more, an id is no single purchase
MIN_DISTINCT_AMOUNTS = 30  # distinct values of a column that holds money without a name that says so
MIN_COMMON_SHARE, MIN_COMPARED = (
    0.5,
    20,
)  # share of the sampled values that two columns of ids have in common, and of how many
_OF_EVENTS = (
    "customer_id", "occurred_at", "event_type", "category", "device", "os", "browser", "channel", "referrer",
    "campaign",
)  # fmt: skip


@dataclass(frozen=True)
class Guess:
    """A file, read as a table.

    Parameters
    ----------
    columns : contract column to reading
    lacks : required columns that nothing seems to hold
    stamp : unit of the numbers in the timestamp's column; empty for timestamps and dates
    where, where_note : which rows belong to the table, and why not all
    attributes : for customers: source column to type
    kind : the column that distinguishes purchases from other events in a mixed log
    score : likelihood of the guess; comparable within a file
    """

    table: str
    columns: Mapping[str, Reading]
    lacks: tuple[str, ...] = ()
    stamp: str = ""
    where: str = ""
    where_note: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    score: float = 0.0


def guesses(file: str, columns: Sequence[SourceColumn], who: SourceColumn | None = None) -> list[Guess]:
    """The tables that a file could be, the likeliest first; those that lack nothing before those that do.

    Parameters
    ----------
    file : name of the file, without folder and suffix
    who : the column of customers, if it is known; otherwise it is recognised by its name
    """
    possible = [guess for guess in (_guess(table, file, columns, who) for table in INPUTS) if guess is not None]
    return sorted(possible, key=lambda guess: (len(guess.lacks), -guess.score))


def same_ids(columns: Sequence[SourceColumn], ids: SourceColumn) -> SourceColumn | None:
    """The column with the ids of another file, whatever its name; None if there is none.

    Values are sampled by their digest, so the samples of both sides show how many values they have in common.
    """
    shares = [(share, -i) for i, seen in enumerate(columns) if (share := _in_common(seen, ids)) >= MIN_COMMON_SHARE]
    return columns[-max(shares)[1]] if shares else None


def _in_common(a: SourceColumn, b: SourceColumn) -> float:
    if min(len(a.values), len(b.values)) < MIN_COMPARED:
        return 0.0
    samples = [{_digest(value): value for value in seen.values} for seen in (a, b)]
    limit = min(max(s) if seen.distinct > len(seen.values) else "g" for s, seen in zip(samples, (a, b), strict=True))
    one, two = ({digest for digest in sample if digest <= limit} for sample in samples)
    return len(one & two) / max(min(len(one), len(two)), 1)


def _digest(value: str) -> str:
    return hashlib.md5(value.encode(), usedforsecurity=False).hexdigest()


def others_of_log(bought: Guess, file: str, columns: Sequence[SourceColumn]) -> list[Guess]:
    """The other tables in a mixed log: events, and among them actions that reached customers."""
    kind = next(seen for seen in columns if seen.name == bought.kind)
    who = next(seen for seen in columns if seen.name in bought.columns["customer_id"].uses)
    sent = sorted(v for v in kind.values if re.search(SENT, plain(v)) and not re.search(ANSWERED, plain(v)))
    purchases = sorted(v for v in kind.values if re.fullmatch(BOUGHT, plain(v)))
    others = []
    for table, rows in (
        ("events", f"{kind.sql} NOT IN ({', '.join(map(_sql_text, purchases))})"),
        ("exposures", f"{kind.sql} IN ({', '.join(map(_sql_text, sent))})"),
    ):
        guess = _guess(table, file, columns, who)
        if guess is None or (table == "exposures" and not sent):
            continue
        read = dict(guess.columns)
        if table == "events":
            read.setdefault("event_type", Reading(kind.name, (kind.name,)))
            read = {name: reading for name, reading in read.items() if name in _OF_EVENTS}
        elif "action" not in read or read["action"].uses == (kind.name,):
            read["action"] = Reading(kind.name, (kind.name,), "", "which action it was; and who was held out?")
        lacks = tuple(c.name for c in INPUTS[table].columns if c.required and c.name not in read)
        if not lacks:
            note = "the same log as transactions"
            others.append(replace(guess, columns=read, lacks=(), where=rows, where_note=note, kind=kind.name))
    return others


def _guess(table: str, file: str, columns: Sequence[SourceColumn], who: SourceColumn | None = None) -> Guess | None:
    who = who or best(
        columns, NAMES["any"]["customer_id"], lambda seen: _is_id(seen) and seen.missing < 0.9 * seen.rows
    )
    if who is None:
        return None
    if table == "customers" and not who.is_unique:
        return None
    others = [seen for seen in columns if seen is not who]
    read = {"customer_id": Reading(who.name, (who.name,))}
    read |= {"transactions": _transactions, "customers": _customers}.get(table, _other)(table, file, others)
    contract = INPUTS[table]
    lacks = tuple(c.name for c in contract.columns if c.required and c.name not in read)
    where, note, kind = "", "", _kind(table, columns)
    if who.missing > 0.01 * who.rows:
        where = f"trim(coalesce(CAST({who.sql} AS VARCHAR), '')) <> ''"
        note = f"{who.missing / who.rows:.1%} of the rows have no customer; with them, days would be refused"
    if kind is not None and (bought := [v for v in kind.values if re.fullmatch(BOUGHT, plain(v))]):
        only = f"{kind.sql} = {_sql_text(bought[0])}"
        where = f"{only} AND {where}" if where else only
        note = f"the other rows are {', '.join(sorted(set(kind.values) - {bought[0]})[:4])}" + (
            f"; {note}" if note else ""
        )
    attributes = _attributes(others, read) if table == "customers" else {}
    # Every table has a timestamp and a customer: its other columns, and the name of the file, distinguish it.
    distinctive = [name for name in read if name not in ("customer_id", contract.stamp)]
    score = len(distinctive) + 4 * bool(re.search(FILES[table], plain(file))) + 0.5 * len(attributes)
    if "amount" in read:  # without a name that says so, any other table that lacks nothing is as likely
        score += 3 * ("occurred_at" in read) if read["amount"].is_named else -0.5
    counts = read[contract.stamp].stamp if contract.stamp in read else ""
    return Guess(table, read, lacks, counts, where, note, attributes, kind.name if kind else "", score)


def _kind(table: str, columns: Sequence[SourceColumn]) -> SourceColumn | None:
    """The column that distinguishes purchases from the other rows of a mixed log."""
    if table != "transactions":
        return None
    seen = best(columns, NAMES["events"]["event_type"], _is_kind)
    is_mixed = seen is not None and seen.distinct > 1 and any(re.fullmatch(BOUGHT, plain(v)) for v in seen.values)
    return seen if is_mixed else None


def _sql_text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _is_id(seen: SourceColumn) -> bool:
    as_number = number(seen)
    is_nested = any(value.startswith(("{", "[")) for value in seen.values)
    return not is_nested and (as_number is None or as_number.is_whole) and seen.distinct > 1


def _transactions(table: str, file: str, columns: Sequence[SourceColumn]) -> dict[str, Reading]:
    names = NAMES["transactions"]
    read = dict(_stamped("occurred_at", names["occurred_at"], columns))
    free = [seen for seen in columns if not any(seen.name in reading.uses for reading in read.values())]
    quantity = best(free, names["quantity"], number)
    read |= _amount(free, quantity) or _unnamed_amount(free, quantity)
    for name in ("transaction_id", "order_id", "product_id"):
        fits = _is_id_of_line if name == "transaction_id" else _is_id
        left = [seen for seen in free if not any(seen.name in reading.uses for reading in read.values())]
        if (seen := best(left, names[name], fits)) is not None:
            is_sent_again = name == "transaction_id" and not seen.is_unique
            note = "rows that repeat an id repeat its purchase, and are left out" if is_sent_again else ""
            read[name] = Reading(seen.name, (seen.name,), note)
    left = [seen for seen in free if not any(seen.name in r.uses for n, r in read.items() if n != "amount")]
    if (seen := best(left, names["category"], _is_category) or best(left, GROUPS, _is_group)) is not None:
        read["category"] = Reading(seen.name, (seen.name,))
    for name, seen in (("quantity", quantity), ("margin", best(left, names["margin"], _is_sum))):
        if seen is not None and (numbers := number(seen)) is not None:
            read[name] = _numbered(seen, numbers, numbers.doubt)
    return read | _discount(left)


def _bare(seen: SourceColumn, numbers: Number) -> str:
    """The name of a column that is read as it is; only in an expression it needs quotes."""
    return seen.name if numbers.expression == seen.sql else numbers.expression


def _numbered(seen: SourceColumn, numbers: Number, doubt: str) -> Reading:
    return Reading(_bare(seen, numbers), (seen.name,), numbers.note, doubt, examples=numbers.examples)


def _is_id_of_line(seen: SourceColumn) -> bool:
    """Whether a column may be the transaction_id: rows that repeat one are refused as duplicates.

    Ids may repeat where a purchase was sent twice: a page that was reloaded, the same line in two exports.
    """
    if not _is_id(seen) or seen.missing > MAX_REPEATED_IDS * seen.rows:
        return False
    repeats = seen.repeats
    return seen.is_unique or (
        repeats is not None
        and repeats.other <= MAX_SHARED_IDS * seen.distinct
        and repeats.same <= MAX_REPEATED_IDS * seen.distinct
    )


def _is_sum(seen: SourceColumn) -> bool:
    return number(seen) is not None and not RATE.search(plain(seen.name))


def _is_category(seen: SourceColumn) -> bool:
    return 2 <= seen.distinct <= 500 and not TYPED_STAMP.fullmatch(seen.type)


def _is_group(seen: SourceColumn) -> bool:
    """Few distinct words, several per customer: a column with one value per customer groups customers."""
    return _is_category(seen) and number(seen) is None and not seen.is_of_customer and not _has_control(seen)


def _has_control(seen: SourceColumn) -> bool:
    return any(arm_of(value) == CONTROL for value in seen.values)


def _amount(columns: Sequence[SourceColumn], quantity: SourceColumn | None) -> dict[str, Reading]:
    sums = [seen for seen in columns if seen is not quantity and not NOT_REVENUE.search(plain(seen.name))]
    single = best(columns, UNIT_PRICE, number)
    whole = best([seen for seen in sums if seen is not single], NAMES["transactions"]["amount"], number)
    is_price = whole is not None and rank(whole.name, PRICE) is not None
    if quantity is not None and (whole is None or is_price):
        price, of = single or whole, number(quantity)
        if price is not None and of is not None and (paid := number(price)) is not None:
            doubt = "" if price is single else f"{price.name} is read as the unit price, not as the price of the line"
            uses = (price.name, quantity.name)
            note = ", ".join(filter(None, ("unit price times quantity", paid.note)))
            return {"amount": Reading(f"{paid.expression} * {of.expression}", uses, note, doubt)}
    seen = whole or single
    numbers = number(seen) if seen is not None else None
    if seen is None or numbers is None:
        return {}
    gross = re.search(r"gross|brutto|ttc", plain(seen.name))
    doubt = numbers.doubt or ("this is gross: net revenue is needed" if gross else "")
    return {"amount": _numbered(seen, numbers, doubt)}


def _unnamed_amount(columns: Sequence[SourceColumn], quantity: SourceColumn | None) -> dict[str, Reading]:
    """The only column that holds money, if no name says so: many distinct amounts with cents."""
    money = [
        (seen, numbers)
        for seen in columns
        if seen is not quantity
        and not NOT_REVENUE.search(plain(seen.name))
        and not RATE.search(plain(seen.name))
        and seen.distinct >= min(MIN_DISTINCT_AMOUNTS, seen.rows)
        and (numbers := number(seen)) is not None
        and not numbers.is_whole
        and not any(re.search(r"[.,]\d{3,}\D*$", value) for value in seen.values)
        and numbers.maximum > 1
    ]
    if len(money) != 1:
        return {}
    ((seen, numbers),) = money
    doubt = f"{seen.name} is read as the amount since no other column holds money: its name does not say so"
    return {"amount": replace(_numbered(seen, numbers, doubt), is_named=False)}


def _discount(columns: Sequence[SourceColumn]) -> dict[str, Reading]:
    """The sum of all columns of discounts, in currency and never negative."""
    terms, uses, notes = [], [], []
    for seen in columns:
        numbers = number(seen) if rank(seen.name, NAMES["transactions"]["discount"]) is not None else None
        if numbers is None or not _is_sum(seen):
            continue
        if numbers.maximum <= 1 and not numbers.is_whole and numbers.minimum >= 0:
            continue  # a share of the price, not money
        is_negative = numbers.minimum < 0 and numbers.maximum <= 0
        if numbers.minimum < 0 and not is_negative:
            continue
        if is_negative:
            notes.append("delivered as negative amounts")
        term = f"-{numbers.expression}" if is_negative else numbers.expression
        terms.append(term if not seen.missing else f"coalesce({term}, 0)")
        uses.append(seen.name)
    if not terms:
        return {}
    is_bare = len(terms) == 1 and terms[0] == next(s.sql for s in columns if s.name == uses[0])
    return {
        "discount": Reading(uses[0] if is_bare else " + ".join(terms), tuple(uses), ", ".join(dict.fromkeys(notes)))
    }


def _stamped(name: str, patterns: Sequence[str], columns: Sequence[SourceColumn]) -> Iterator[tuple[str, Reading]]:
    """The timestamp, completed by the time of day of another column if it has none."""
    seen = best(columns, patterns, lambda one: stamp(one) is not None)
    if seen is None:
        readable = [one for one in columns if not one.is_text or agreed(is_written, one.values)]
        stamps = [one for one in readable if one.values and (r := stamp(one)) is not None and not r.stamp]
        seen = stamps[0] if len(stamps) == 1 else None
    reading = stamp(seen) if seen is not None else None
    if seen is None or reading is None:
        return
    if reading.holds == "days":
        clock = best(columns, TIME_OF_DAY, lambda one: one.is_text and one.values and agree(CLOCK, one.values))
        if clock is not None and clock is not seen:
            reading = with_clock(reading, clock)
    yield name, reading


def _customers(table: str, file: str, columns: Sequence[SourceColumn]) -> dict[str, Reading]:
    seen = best(columns, NAMES["customers"]["registered_at"], lambda one: stamp(one) is not None)
    reading = stamp(seen) if seen is not None else None
    return {"registered_at": reading} if reading is not None else {}


def _other(table: str, file: str, columns: Sequence[SourceColumn]) -> dict[str, Reading]:
    read: dict[str, Reading] = {}
    for column in INPUTS[table].columns[1:]:
        free = [seen for seen in columns if not any(seen.name in reading.uses for reading in read.values())]
        patterns = NAMES[table][column.name]
        if column.type == "timestamp":
            read |= dict(_stamped(column.name, patterns, free))
        elif column.type == "double":
            seen = best(free, patterns, number)
            if seen is not None and (numbers := number(seen)) is not None:
                read[column.name] = _numbered(seen, numbers, numbers.doubt)
        elif column.type == "boolean":
            if (seen := best(free, patterns, _is_boolean)) is not None:
                read[column.name] = Reading(seen.name, (seen.name,))
        elif (seen := best(free, patterns, _is_kind if column.required else _is_label)) is not None:
            read[column.name] = Reading(seen.name, (seen.name,))
    if "action" in read and not _is_of_actions(file, columns, read):
        del read["action"]
    if table == "events" and "event_type" not in read and re.search(FILES["events"], plain(file)):
        word = re.sub(r"s$", "", plain(file))
        read["event_type"] = Reading(f"'{word}'", (), "the same for every row, from the file's name")
    return read


def _is_of_actions(file: str, columns: Sequence[SourceColumn], read: Mapping[str, Reading]) -> bool:
    """Whether a column with an ambiguous name, such as `group`, holds the action that reached a customer."""
    names = NAMES["exposures"]
    seen = next(one for one in columns if one.name in read["action"].uses)
    says_sent = "exposed_at" in read and rank(read["exposed_at"].uses[0], names["exposed_at"]) == 0
    others = {"campaign_id", "propensity", "propensities", "is_holdout", "randomised"} & {
        name for name, reading in read.items() if reading.uses != read["action"].uses
    }
    return (
        rank(seen.name, names["action"]) == 0
        or says_sent
        or bool(others)
        or _has_control(seen)
        or re.search(FILES["exposures"], plain(file)) is not None
    )


def _is_boolean(seen: SourceColumn) -> bool:
    return seen.type == "BOOLEAN" or {v.strip().lower() for v in seen.values} <= {"true", "false", "t", "f", "0", "1"}


def _is_label(seen: SourceColumn) -> bool:
    return bool(seen.values)


def _is_kind(seen: SourceColumn) -> bool:
    """Whether a column has few distinct values, such as kinds of events or actions."""
    as_number = number(seen)
    return bool(seen.values) and seen.distinct <= 200 and (as_number is None or as_number.is_whole)


def _attributes(columns: Sequence[SourceColumn], read: Mapping[str, Reading]) -> dict[str, str]:
    """Source columns that describe a customer, with their type; names and free texts do not."""
    types = {}
    for seen in columns:
        if any(seen.name in reading.uses for reading in read.values()) or stamp(seen) is not None:
            continue
        if seen.type == "BOOLEAN" or (seen.distinct == 2 and _is_boolean(seen)):
            types[seen.name] = "boolean"
        elif 2 <= seen.distinct <= 40 and len(max(seen.values, key=len)) <= 60:
            types[seen.name] = "string"
        elif (as_number := number(seen)) is not None and as_number.expression == seen.sql and not seen.is_unique:
            types[seen.name] = "double"
    return types


def best(
    columns: Sequence[SourceColumn], patterns: Sequence[str], fits: Callable[[SourceColumn], object] = lambda _: True
) -> SourceColumn | None:
    """The column with the best-ranked name among those whose content fits; the first of equals."""
    ranked = [(position, i) for i, seen in enumerate(columns) if (position := rank(seen.name, patterns)) is not None]
    return next((columns[i] for _, i in sorted(ranked) if fits(columns[i])), None)
