"""What a table that nobody has prepared seems to hold.

Belongs here: pure functions of its columns and its file's name. A guess is made only where name and content agree; what
is merely possible is left to the user. Does not belong here: reading files (see `profile`).
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
    Seen,
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

MISTAKES = 0.001  # share of a transaction's ids that another purchase may bear as well
SENT_AGAIN = 0.2  # of the ids at most that are sent again later: what comes back more often is no single purchase
UNNAMED = 30  # different amounts, at least, of a column that is taken for money although its name does not say so
SAME, AMONG = 0.5, 20  # share of the drawn values that two columns of the same ids have in common, of so many at least
_OF_EVENTS = (
    "customer_id", "occurred_at", "event_type", "category", "device", "os", "browser", "channel", "referrer",
    "campaign",
)  # fmt: skip


@dataclass(frozen=True)
class Guess:
    """What a file would be as a table.

    Parameters
    ----------
    columns : contract column to reading; `lacks` are required ones that nothing seems to hold
    stamp : what the numbers in the stamp's column count; empty for stamps and dates
    where, where_note : which rows belong to the table, and why not all
    attributes : for customers: source column to type
    kind : the column that tells purchases from other events in a mixed log
    score : how likely it is
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


def guesses(file: str, columns: Sequence[Seen], who: Seen | None = None) -> list[Guess]:
    """What a file could be, the likeliest first; those that lack nothing before those that do.

    Parameters
    ----------
    file : its name without folder and suffix
    who : the column of customers, where that is known from elsewhere; else it is the one that is called so
    """
    found = [guess for guess in (_guess(table, file, columns, who) for table in INPUTS) if guess is not None]
    return sorted(found, key=lambda guess: (len(guess.lacks), -guess.score))


def same_ids(columns: Sequence[Seen], ids: Seen) -> Seen | None:
    """The column whose values are those of another file's ids, whatever it is called; None if none is.

    Values are drawn by their digest, so those that are drawn from both sides say how many the two have in common.
    """
    shares = [(share, -i) for i, seen in enumerate(columns) if (share := _in_common(seen, ids)) >= SAME]
    return columns[-max(shares)[1]] if shares else None


def _in_common(a: Seen, b: Seen) -> float:
    if min(len(a.values), len(b.values)) < AMONG:
        return 0.0
    drawn = [{_digest(value): value for value in seen.values} for seen in (a, b)]
    reach = min(max(of) if seen.distinct > len(seen.values) else "g" for of, seen in zip(drawn, (a, b), strict=True))
    mine, theirs = ({digest for digest in of if digest <= reach} for of in drawn)
    return len(mine & theirs) / max(min(len(mine), len(theirs)), 1)


def _digest(value: str) -> str:
    return hashlib.md5(value.encode(), usedforsecurity=False).hexdigest()


def others_of_log(bought: Guess, file: str, columns: Sequence[Seen]) -> list[Guess]:
    """What else a mixed log holds beside purchases: events, and among them actions that reached customers."""
    kind = next(seen for seen in columns if seen.name == bought.kind)
    who = next(seen for seen in columns if seen.name in bought.columns["customer_id"].uses)
    sent = sorted(v for v in kind.values if re.search(SENT, plain(v)) and not re.search(ANSWERED, plain(v)))
    purchases = sorted(v for v in kind.values if re.fullmatch(BOUGHT, plain(v)))
    found = []
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
            read = {name: one for name, one in read.items() if name in _OF_EVENTS}
        elif "action" not in read or read["action"].uses == (kind.name,):
            read["action"] = Reading(kind.name, (kind.name,), "", "which action it was; and who was left alone?")
        lacks = tuple(c.name for c in INPUTS[table].columns if c.required and c.name not in read)
        if not lacks:
            note = "the same log as transactions"
            found.append(replace(guess, columns=read, lacks=(), where=rows, where_note=note, kind=kind.name))
    return found


def _guess(table: str, file: str, columns: Sequence[Seen], who: Seen | None = None) -> Guess | None:
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
        note = f"{who.missing / who.rows:.1%} of the rows name no customer; with them, days would be refused"
    if kind is not None and (bought := [v for v in kind.values if re.fullmatch(BOUGHT, plain(v))]):
        only = f"{kind.sql} = {_sql_text(bought[0])}"
        where = f"{only} AND {where}" if where else only
        note = f"the other rows tell of {', '.join(sorted(set(kind.values) - {bought[0]})[:4])}" + (
            f"; {note}" if note else ""
        )
    attributes = _attributes(others, read) if table == "customers" else {}
    # The stamp and the customer say little: what sets the tables apart are their other columns, and the file's name.
    telling = [name for name in read if name not in ("customer_id", contract.stamp)]
    score = len(telling) + 4 * bool(re.search(FILES[table], plain(file))) + 0.5 * len(attributes)
    if "amount" in read:  # where no name says so, any other table that lacks nothing is as likely
        score += 3 * ("occurred_at" in read) if read["amount"].is_named else -0.5
    counts = read[contract.stamp].stamp if contract.stamp in read else ""
    return Guess(table, read, lacks, counts, where, note, attributes, kind.name if kind else "", score)


def _kind(table: str, columns: Sequence[Seen]) -> Seen | None:
    """The column that tells purchases from the other rows of a mixed log."""
    if table != "transactions":
        return None
    seen = best(columns, NAMES["events"]["event_type"], _is_kind)
    is_mixed = seen is not None and seen.distinct > 1 and any(re.fullmatch(BOUGHT, plain(v)) for v in seen.values)
    return seen if is_mixed else None


def _sql_text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _is_id(seen: Seen) -> bool:
    as_number = number(seen)
    is_nested = any(value.startswith(("{", "[")) for value in seen.values)
    return not is_nested and (as_number is None or as_number.is_whole) and seen.distinct > 1


def _transactions(table: str, file: str, columns: Sequence[Seen]) -> dict[str, Reading]:
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
            note = "rows that repeat one say the same again, and are left out" if is_sent_again else ""
            read[name] = Reading(seen.name, (seen.name,), note)
    left = [seen for seen in free if not any(seen.name in r.uses for n, r in read.items() if n != "amount")]
    if (seen := best(left, names["category"], _is_category) or best(left, GROUPS, _is_group)) is not None:
        read["category"] = Reading(seen.name, (seen.name,))
    for name, seen in (("quantity", quantity), ("margin", best(left, names["margin"], _is_sum))):
        if seen is not None and (found := number(seen)) is not None:
            read[name] = _numbered(seen, found, found.doubt)
    return read | _discount(left)


def _bare(seen: Seen, found: Number) -> str:
    """A column that is taken as it is stands under its name; only in an expression it needs quotes."""
    return seen.name if found.expression == seen.sql else found.expression


def _numbered(seen: Seen, found: Number, doubt: str) -> Reading:
    """A column of numbers as it is taken."""
    return Reading(_bare(seen, found), (seen.name,), found.note, doubt, examples=found.examples)


def _is_id_of_line(seen: Seen) -> bool:
    """A repeated transaction_id is refused as a duplicate: only what no other purchase bears may be one.

    What is sent twice does bear it twice: a page that was reloaded, the same line in two exports.
    """
    if not _is_id(seen) or seen.missing > SENT_AGAIN * seen.rows:
        return False
    again = seen.again
    return seen.is_unique or (
        again is not None and again.other <= MISTAKES * seen.distinct and again.same <= SENT_AGAIN * seen.distinct
    )


def _is_sum(seen: Seen) -> bool:
    return number(seen) is not None and not RATE.search(plain(seen.name))


def _is_category(seen: Seen) -> bool:
    return 2 <= seen.distinct <= 500 and not TYPED_STAMP.fullmatch(seen.type)


def _is_group(seen: Seen) -> bool:
    """Words, few of them, and a customer buys of several: what each customer has one of groups customers."""
    return _is_category(seen) and number(seen) is None and not seen.is_of_customer and not _has_control(seen)


def _has_control(seen: Seen) -> bool:
    return any(arm_of(value) == CONTROL for value in seen.values)


def _amount(columns: Sequence[Seen], quantity: Seen | None) -> dict[str, Reading]:
    sums = [seen for seen in columns if seen is not quantity and not NOT_REVENUE.search(plain(seen.name))]
    single = best(columns, UNIT_PRICE, number)
    whole = best([seen for seen in sums if seen is not single], NAMES["transactions"]["amount"], number)
    is_price = whole is not None and rank(whole.name, PRICE) is not None
    if quantity is not None and (whole is None or is_price):
        price, of = single or whole, number(quantity)
        if price is not None and of is not None and (paid := number(price)) is not None:
            doubt = "" if price is single else f"{price.name} is taken for the price of one piece, not of the line"
            uses = (price.name, quantity.name)
            note = ", ".join(filter(None, ("the price of a piece, times pieces", paid.note)))
            return {"amount": Reading(f"{paid.expression} * {of.expression}", uses, note, doubt)}
    seen = whole or single
    found = number(seen) if seen is not None else None
    if seen is None or found is None:
        return {}
    gross = re.search(r"gross|brutto|ttc", plain(seen.name))
    doubt = found.doubt or ("this is gross: net revenue is wanted" if gross else "")
    return {"amount": _numbered(seen, found, doubt)}


def _unnamed_amount(columns: Sequence[Seen], quantity: Seen | None) -> dict[str, Reading]:
    """The one column that holds money, where no name says which does: amounts in cents, many different ones."""
    money = [
        (seen, found)
        for seen in columns
        if seen is not quantity
        and not NOT_REVENUE.search(plain(seen.name))
        and not RATE.search(plain(seen.name))
        and seen.distinct >= min(UNNAMED, seen.rows)
        and (found := number(seen)) is not None
        and not found.is_whole
        and not any(re.search(r"[.,]\d{3,}\D*$", value) for value in seen.values)
        and found.most > 1
    ]
    if len(money) != 1:
        return {}
    ((seen, found),) = money
    doubt = f"{seen.name} is taken for the amount since no other column holds money: its name does not say so"
    return {"amount": replace(_numbered(seen, found, doubt), is_named=False)}


def _discount(columns: Sequence[Seen]) -> dict[str, Reading]:
    """The sum of all columns that hold what the customer was spared, in currency and not below 0."""
    terms, uses, notes = [], [], []
    for seen in columns:
        found = number(seen) if rank(seen.name, NAMES["transactions"]["discount"]) is not None else None
        if found is None or not _is_sum(seen):
            continue
        if found.most <= 1 and not found.is_whole and found.least >= 0:
            continue  # a share of the price, not money
        negative = found.least < 0 and found.most <= 0
        if found.least < 0 and not negative:
            continue
        if negative:
            notes.append("delivered as negative amounts")
        term = f"-{found.expression}" if negative else found.expression
        terms.append(term if not seen.missing else f"coalesce({term}, 0)")
        uses.append(seen.name)
    if not terms:
        return {}
    alone = len(terms) == 1 and terms[0] == next(s.sql for s in columns if s.name == uses[0])
    return {"discount": Reading(uses[0] if alone else " + ".join(terms), tuple(uses), ", ".join(dict.fromkeys(notes)))}


def _stamped(name: str, patterns: Sequence[str], columns: Sequence[Seen]) -> Iterator[tuple[str, Reading]]:
    """The stamp, completed by a time of day from another column where it has none."""
    seen = best(columns, patterns, lambda one: stamp(one) is not None)
    if seen is None:
        readable = [one for one in columns if not one.is_text or agreed(is_written, one.values)]
        found = [one for one in readable if one.values and (r := stamp(one)) is not None and not r.stamp]
        seen = found[0] if len(found) == 1 else None
    reading = stamp(seen) if seen is not None else None
    if seen is None or reading is None:
        return
    if reading.holds == "days":
        clock = best(columns, TIME_OF_DAY, lambda one: one.is_text and one.values and agree(CLOCK, one.values))
        if clock is not None and clock is not seen:
            reading = with_clock(reading, clock)
    yield name, reading


def _customers(table: str, file: str, columns: Sequence[Seen]) -> dict[str, Reading]:
    seen = best(columns, NAMES["customers"]["registered_at"], lambda one: stamp(one) is not None)
    reading = stamp(seen) if seen is not None else None
    return {"registered_at": reading} if reading is not None else {}


def _other(table: str, file: str, columns: Sequence[Seen]) -> dict[str, Reading]:
    read: dict[str, Reading] = {}
    for column in INPUTS[table].columns[1:]:
        free = [seen for seen in columns if not any(seen.name in reading.uses for reading in read.values())]
        patterns = NAMES[table][column.name]
        if column.type == "timestamp":
            read |= dict(_stamped(column.name, patterns, free))
        elif column.type == "double":
            seen = best(free, patterns, number)
            if seen is not None and (found := number(seen)) is not None:
                read[column.name] = _numbered(seen, found, found.doubt)
        elif column.type == "boolean":
            if (seen := best(free, patterns, _is_boolean)) is not None:
                read[column.name] = Reading(seen.name, (seen.name,))
        elif (seen := best(free, patterns, _is_kind if column.required else _is_label)) is not None:
            read[column.name] = Reading(seen.name, (seen.name,))
    if "action" in read and not _is_of_actions(file, columns, read):
        del read["action"]
    if table == "events" and "event_type" not in read and re.search(FILES["events"], plain(file)):
        word = re.sub(r"s$", "", plain(file))
        read["event_type"] = Reading(f"'{word}'", (), "the same for every row, after the file's name")
    return read


def _is_of_actions(file: str, columns: Sequence[Seen], read: Mapping[str, Reading]) -> bool:
    """Whether a column of a doubtful name, such as `group`, says which action reached a customer."""
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


def _is_boolean(seen: Seen) -> bool:
    return seen.type == "BOOLEAN" or {v.strip().lower() for v in seen.values} <= {"true", "false", "t", "f", "0", "1"}


def _is_label(seen: Seen) -> bool:
    return bool(seen.values)


def _is_kind(seen: Seen) -> bool:
    """Few different values: what happened, or which action."""
    as_number = number(seen)
    return bool(seen.values) and seen.distinct <= 200 and (as_number is None or as_number.is_whole)


def _attributes(columns: Sequence[Seen], read: Mapping[str, Reading]) -> dict[str, str]:
    """Source columns that describe a customer, with the type to give them: names and free texts are none."""
    found = {}
    for seen in columns:
        if any(seen.name in reading.uses for reading in read.values()) or stamp(seen) is not None:
            continue
        if seen.type == "BOOLEAN" or (seen.distinct == 2 and _is_boolean(seen)):
            found[seen.name] = "boolean"
        elif 2 <= seen.distinct <= 40 and len(max(seen.values, key=len)) <= 60:
            found[seen.name] = "string"
        elif (as_number := number(seen)) is not None and as_number.expression == seen.sql and not seen.is_unique:
            found[seen.name] = "double"
    return found


def best(
    columns: Sequence[Seen], patterns: Sequence[str], fits: Callable[[Seen], object] = lambda _: True
) -> Seen | None:
    """The column whose name is surest among those whose content fits; the first of equals."""
    ranked = [(place, i) for i, seen in enumerate(columns) if (place := rank(seen.name, patterns)) is not None]
    return next((columns[i] for _, i in sorted(ranked) if fits(columns[i])), None)
