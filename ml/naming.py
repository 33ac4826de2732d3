"""Names of metrics and parameters that contain the user's own names: of an action, a layer, a stage, a feature.

Belongs here: writing any text with the characters that a name in MLflow may have, so that no two texts are written the
same way and each can be read back. Does not belong here: how long such a name may be (see `microseg_assets.tracking`).
"""

from __future__ import annotations

import re

_EMPTY = "_x_"
# Characters written as code points: those that a name may not have, blanks at either end, which would be invisible, and
# an underscore that would look like the beginning of a code.
_CODED = re.compile(r"[^\w .-]|^ | $|_(?=x[0-9A-F])")
_CODE = re.compile(r"_x([0-9A-F]{4,6})_")


def metric_name(*parts: str) -> str:
    """Join parts to a name with ``/``, with special characters written as code points.

    Letters, digits, ``_ . -`` and blanks stay. This is how XML tools write names (ISO/IEC 9075-14), and people can read
    it.

    Parameters
    ----------
    *parts : str
        Any texts.

    Returns
    -------
    str
        A name that `parts_of` reads back.

    Examples
    --------
    >>> metric_name("effect", "10% off"), metric_name("effect", "SMS/Push"), metric_name("effect", "mail")
    ('effect/10_x0025_ off', 'effect/SMS_x002F_Push', 'effect/mail')
    """
    return "/".join(map(_written, parts))


def parts_of(name: str) -> tuple[str, ...]:
    """Split a name that `metric_name` wrote into its parts.

    Parameters
    ----------
    name : str
        The name of a metric or parameter.

    Returns
    -------
    tuple of str
        The original texts.

    Examples
    --------
    >>> parts_of(metric_name("effect", "10€ off", ""))
    ('effect', '10€ off', '')
    """
    return tuple(_read(part) for part in name.split("/"))


def _written(part: str) -> str:
    if not part:
        return _EMPTY
    if part == _EMPTY:
        return _code("_") + part[1:]
    if not part.strip("."):  # a path would lead elsewhere
        return "".join(map(_code, part))
    return _CODED.sub(lambda sign: _code(sign[0]), part)


def _code(sign: str) -> str:
    return f"_x{ord(sign):04X}_"


def _read(part: str) -> str:
    return "" if part == _EMPTY else _CODE.sub(lambda code: chr(int(code[1], 16)), part)
