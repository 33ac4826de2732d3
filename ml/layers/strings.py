"""The string of a customer's stage and clusters: its id, and its prefixes.

Belongs here: what a string means. Does not belong here: whose string it is (see `assignment`).
"""

from __future__ import annotations

import hashlib


def micro_segment_id(text: str) -> str:
    """Id of a micro-segment: the first 10 hex digits of the string's SHA-256, which SQL's ``sha256`` computes as well.

    Parameters
    ----------
    text : str
        Stage and clusters.

    Returns
    -------
    str
        Ten hex digits.

    Examples
    --------
    >>> micro_segment_id("active/value.B")
    '6653da3dd5'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def prefixes(text: str) -> list[str]:
    """Split a string into its prefixes, from the stage to the whole string.

    Parameters
    ----------
    text : str
        Stage and clusters.

    Returns
    -------
    list of str
        One per depth.

    Examples
    --------
    >>> prefixes("active/value.B/engagement.A")
    ['active', 'active/value.B', 'active/value.B/engagement.A']
    """
    parts = text.split("/")
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
