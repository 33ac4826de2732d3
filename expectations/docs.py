"""Data Docs: the page that shows what was expected of a day's rows, what was delivered, and how the day compares.

Belongs here: rendering a day's result as one page that needs nothing from the network (the pages of Great Expectations
load their style and scripts from five servers). Does not belong here: deciding anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from html import escape
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

import expectations.suites as suites
from expectations.past import Past
from expectations.rules import ValidationSpec
from expectations.validation import judge_rows, validate
from ml.tables import Table

if TYPE_CHECKING:
    from expectations.verdicts import Verdict
    from ml.engine import Engine

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; background: #fff; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem } p { margin: .3rem 0 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #dde3ea;
  overflow-wrap: anywhere }
th { font-weight: 600; color: #51606f; white-space: nowrap }
.passed { color: #1a7f4b } .warning { color: #9a6700 } .error { color: #c0362c; font-weight: 600 }
.passed, .warning, .error { white-space: nowrap }
.quiet { color: #6b7a89 }
@media (prefers-color-scheme: dark) { body { background: #14191f; color: #dde5ec } th, td { border-color: #303a45 }
  th, .quiet { color: #97a6b5 } .passed { color: #5bd08f } .warning { color: #e3b341 } .error { color: #ff7b72 } }
"""


def data_docs(
    engine: Engine,
    table: Table,
    rows: pa.Table,
    day: date,
    spec: ValidationSpec,
    past: Past | None = None,
    undated: int = 0,
) -> str:
    """The page of one table and day, as HTML.

    Parameters
    ----------
    rows : as a source returns them; those of other days are left out
    past : what is known from before the day; without it, only rows are judged
    undated : rows without a readable day that may belong to this one
    """
    of_day = rows.filter(pc.equal(rows["day"], pa.scalar(day, pa.date32())))
    verdict = validate(engine, table, of_day, [day], spec, past, {day: undated}).verdicts[day]
    result = suites.run(suites.suite(table, spec), judge_rows(engine, table, of_day, spec), examples=True)
    title = f"{table.name}, {day.isoformat()}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{escape(table.meaning)}</p>',
        f"<p>{_summary(verdict)}</p>",
        *_section("Refused rows", ("rule", "rows"), [(rule, f"{n:,}") for rule, n in _most_first(verdict)]),
        *_section(
            "The day against those before it", ("measure", "value", "limit", "", "what explains it"),
            [
                (one.measure, "not judged" if one.value is None else f"{one.value:,.4g}", one.limits,
                 _mark(one.passed, one.severity), one.note)
                for one in verdict.measures
            ],
        ),
        *_section("What was expected of the rows", ("column", "expectation", "", "rows that break it", "examples"),
                  [_expectation(one) for one in result.results]),
    ]  # fmt: skip
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def _summary(verdict: Verdict) -> str:
    word = _mark(True, "report", "accepted") if verdict.passed else _mark(False, "error", "refused and not written")
    lost = f" {verdict.undated:,} rows that no day can be read of may be its own." if verdict.undated else ""
    uncounted = verdict.refused - verdict.counted
    but = f", {uncounted:,} of them without counting against the day" if uncounted else ""
    share = f"{verdict.refused_share:.1%}{but}"
    return f"The day was {word}: {verdict.refused:,} of {verdict.rows:,} rows were refused ({share}).{lost}"


def _most_first(verdict: Verdict) -> list[tuple[str, int]]:
    return sorted(verdict.rules.items(), key=lambda item: (-item[1], item[0]))


def _expectation(one: Any) -> tuple[str, str, str, str, str]:
    kwargs = one.expectation_config.kwargs
    bounds = {name: kwargs[name] for name in ("min_value", "max_value", "mostly") if kwargs.get(name) is not None}
    details = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in bounds.items())
    counts = one.result.get("partial_unexpected_counts") or []
    examples = ", ".join(f"{str(each['value'])[:60]} ×{each['count']:,}" for each in counts[:5])
    words = suites.kind(one).removeprefix("expect_").replace("_", " ")
    unexpected = one.result.get("unexpected_count")
    count = "" if unexpected is None else f"{unexpected:,} ({one.result.get('unexpected_percent') or 0:.2f} %)"
    severity = "error" if suites.is_critical(one) else "warning"
    return (
        suites.subject(one),
        words + (f" ({details})" if details else ""),
        _mark(bool(one.success), severity),
        count,
        examples,
    )


class _Html(str):
    """Text that is HTML already."""


def _mark(passed: bool, severity: str, word: str | None = None) -> _Html:
    style = "passed" if passed else severity
    return _Html(f'<span class="{style}">{escape(word or style)}</span>')


def _section(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table under a title; nothing if there are no rows."""
    lines = [f"<tr>{''.join(f'<td>{c if isinstance(c, _Html) else escape(c)}</td>' for c in row)}</tr>" for row in rows]
    if not lines:
        return []
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return [f"<h2>{escape(title)}</h2>", "<table>", f"<thead><tr>{head}</tr></thead>", *lines, "</table>"]
