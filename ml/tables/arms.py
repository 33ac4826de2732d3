"""Which arm of an experiment an exposure belongs to: `control`, however it is spelt, or the action itself.

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
_TREATMENTS = ("action", "communication", "coupon", "intervention", "offer", "promo", "promotion", "treatment")
_CONTROL_SPELLINGS = frozenset(
    (
        "baseline", "control", "control arm", "control group", "controlgroup", "controls", "ctl", "ctrl", "held out",
        "hold out", "hold out group", "holdout", "holdout group", "holdouts", "kontrolle", "kontrollgruppe", "none",
        "not contacted", "not exposed", "not treated", "nothing", "placebo", "unexposed", "untreated",
        *(f"no {word}" for word in (*_CHANNELS, *_TREATMENTS)),
    )
)  # fmt: skip
_AMBIGUOUS = frozenset(("", "0", "false", "n a", "na", "nan", "null", "unknown"))
_AMBIGUOUS_START = ("no ", "non ", "not ", "ohne ", "kein ", "keine ", "without ")
_AMBIGUOUS_WORD = re.compile(r"\b(control|ctrl|hold ?out|kontroll\w*|placebo|untreated)\b")


def _normalised(value: str) -> str:
    """Lower case and single spaces: ``no e mail`` for `` No E-Mail``."""
    text = unicodedata.normalize("NFKC", value).casefold()
    return re.sub(r"[\W_]+", " ", text).strip()


def is_control(value: str) -> bool:
    """Whether a value of `exposures.action` means that the customer was left alone on purpose.

    Parameters
    ----------
    value : str
        A value of `exposures.action`, as delivered.

    Returns
    -------
    bool
        True for every known spelling of control, in any case and with any punctuation.

    Examples
    --------
    >>> [is_control(value) for value in ("Control", "control ", "No E-Mail", "coupon")]
    [True, True, True, False]
    """
    return _normalised(value) in _CONTROL_SPELLINGS


def may_be_control(value: str) -> bool:
    """Whether a value is ambiguous: it could mean control or name an action, such as ``no minimum order``."""
    text = _normalised(value)
    has_sign = any(unicodedata.category(sign)[0] in "LNS" for sign in value)  # an emoji is a name
    if text in _AMBIGUOUS:
        return not (text == "" and has_sign)
    return not is_control(value) and (text.startswith(_AMBIGUOUS_START) or bool(_AMBIGUOUS_WORD.search(text)))


def arm_of(value: str, declared: Collection[str] = ()) -> str | None:
    """Return the arm that a value of `exposures.action` stands for.

    Parameters
    ----------
    value : str
        A value of `exposures.action`, as delivered.
    declared : collection of str, default ()
        Names of the actions that the project declares; these are always actions.

    Returns
    -------
    str or None
        `control`, the action itself, or None if the value is ambiguous and not declared.

    Examples
    --------
    >>> arm_of("Hold-out"), arm_of("coupon"), arm_of("no minimum order")
    ('control', 'coupon', None)
    >>> arm_of("no minimum order", declared=["no minimum order"])
    'no minimum order'
    """
    if value in declared:
        return value
    if is_control(value):
        return CONTROL
    return None if may_be_control(value) else value


def arms_table(values: Iterable[str], declared: Collection[str] = ()) -> pa.Table:
    """Map each distinct value of `exposures.action` to its arm.

    Parameters
    ----------
    values : iterable of str
        Values of `exposures.action`, as delivered; missing ones are left out.
    declared : collection of str, default ()
        Names of the actions that the project declares.

    Returns
    -------
    pa.Table
        Columns action and arm, one row per value in alphabetical order; arm is missing where the value is ambiguous.

    Examples
    --------
    >>> arms_table(["coupon", "Control", "coupon", "0"]).to_pylist()
    [{'action': '0', 'arm': None}, {'action': 'Control', 'arm': 'control'}, {'action': 'coupon', 'arm': 'coupon'}]
    """
    actions = sorted({value for value in values if value is not None})
    arms = [arm_of(value, declared) for value in actions]
    return pa.table({"action": pa.array(actions, pa.string()), "arm": pa.array(arms, pa.string())})
