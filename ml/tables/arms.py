"""Which arm of an experiment an exposure's action means: `control`, however it is spelt, or the action itself.

Belongs here: the spellings of control, once. Does not belong here: which actions a project declares (see
`ml.actions.spec`) and what is done with either arm.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

import pyarrow as pa

CONTROL = "control"  # left alone on purpose

_CHANNELS = ("ad", "ads", "call", "campaign", "contact", "e mail", "email", "letter", "mail", "mailing", "message",
             "push", "sms")  # fmt: skip
_GIFTS = ("action", "communication", "coupon", "intervention", "offer", "promo", "promotion", "treatment")
_CONTROLS = frozenset(
    (
        "baseline", "control", "control arm", "control group", "controlgroup", "controls", "ctl", "ctrl", "held out",
        "hold out", "hold out group", "holdout", "holdout group", "holdouts", "kontrolle", "kontrollgruppe", "none",
        "not contacted", "not exposed", "not treated", "nothing", "placebo", "unexposed", "untreated",
        *(f"no {word}" for word in (*_CHANNELS, *_GIFTS)),
    )
)  # fmt: skip
_DOUBTFUL = frozenset(("", "0", "false", "n a", "na", "nan", "null", "unknown"))
_DOUBTFUL_START = ("no ", "non ", "not ", "ohne ", "kein ", "keine ", "without ")
_DOUBTFUL_WORD = re.compile(r"\b(control|ctrl|hold ?out|kontroll\w*|placebo|untreated)\b")


def _plain(value: str) -> str:
    """Small letters and single blanks: ``no e mail`` for `` No E-Mail``."""
    text = unicodedata.normalize("NFKC", value).casefold()
    return re.sub(r"[\W_]+", " ", text).strip()


def is_control(value: str) -> bool:
    """Whether a value of `exposures.action` says that the customer was left alone on purpose.

    Examples
    --------
    >>> [is_control(value) for value in ("Control", "control ", "No E-Mail", "coupon")]
    [True, True, True, False]
    """
    return _plain(value) in _CONTROLS


def may_be_control(value: str) -> bool:
    """Whether nobody can tell from the value if it is an action: empty, `0`, ``no minimum order``, ``control B``."""
    text = _plain(value)
    has_sign = any(unicodedata.category(sign)[0] in "LNS" for sign in value)  # an emoji is a name
    if text in _DOUBTFUL:
        return not (text == "" and has_sign)
    return not is_control(value) and (text.startswith(_DOUBTFUL_START) or bool(_DOUBTFUL_WORD.search(text)))


def arm_of(value: str, declared: Collection[str] = ()) -> str | None:
    """The arm that a value of `exposures.action` means; None if it may be control and is not declared as an action.

    Parameters
    ----------
    value : as delivered
    declared : names of the actions that the project declares
    """
    if value in declared:
        return value
    if is_control(value):
        return CONTROL
    return None if may_be_control(value) else value


def arms_table(values: Iterable[str], declared: Collection[str] = ()) -> pa.Table:
    """Each different value of `exposures.action` beside its arm, which is missing where nobody can tell.

    Returns
    -------
    action, arm: both strings, one row per value.
    """
    different = sorted({value for value in values if value is not None})
    arms = [arm_of(value, declared) for value in different]
    return pa.table({"action": pa.array(different, pa.string()), "arm": pa.array(arms, pa.string())})
