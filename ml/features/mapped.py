"""Features of what a business maps of its events, without being asked for: each is a declaration like a project's own.

Belongs here: which columns become which declarations. Does not belong here: computing them (see
`ml.features.declared`), and features of facts (visits, goals and margin: see `facts`).
"""

from __future__ import annotations

from collections.abc import Collection

from ml.features.declared import DeclaredFeature, DeclaredSpec
from ml.features.declared.columns import parts

# The host of a URL (`https://www.google.com/search?q=…`) or of a bare host, lower case, without user, port and `www.`;
# another text, such as `newsletter`, up to the first slash, question mark, hash or colon.
REFERRER_DOMAIN = (
    "nullif(regexp_extract(lower(trim(referrer)), "
    "'^(?:(?:[a-z][a-z0-9+.-]*:)?//)?(?:[^/@?#]*@)?(?:www[.])?([^/?#:]+)', 1), '')"
)
_TEXTS = {  # name of the features, to the column that they need, the expression, and what it is in words
    "device": ("device", "device", "device"),
    "os": ("os", "os", "operating system"),
    "browser": ("browser", "browser", "browser"),
    "channel": ("channel", "channel", "channel"),
    "referrer_domain": ("referrer", REFERRER_DOMAIN, "domain that the customer came from"),
    "campaign": ("campaign", "campaign", "campaign"),
}


def columns_of_mapped_features() -> dict[str, str]:
    """The mapped column of events that each of these features needs."""
    needs = (*(column for column, *_ in _TEXTS.values()), "value")
    return {part.name: column for column in needs for one in mapped_features((column,)) for part in parts(one)}


def mapped_features(columns: Collection[str]) -> tuple[DeclaredFeature, ...]:
    """Declare the features of the columns of events that a business maps.

    Parameters
    ----------
    columns : collection of str
        The mapped columns of events.

    Returns
    -------
    tuple of DeclaredFeature
        The last and the most frequent value (of 90 days) of each text, and sum and mean of `value`.

    Examples
    --------
    >>> [feature.name for feature in mapped_features(["event_type", "os"])]
    ['last_os', 'top_os']
    """
    features: list[DeclaredFeature] = []
    for name, (column, of, words) in _TEXTS.items():
        if column in columns:
            last, top = f"{words} of the last event that has one", f"most frequent {words} of events"
            features += [
                DeclaredFeature(f"last_{name}", "events", measure="last", of=of, description=last),
                DeclaredFeature(f"top_{name}", "events", measure="mode", of=of, windows=90, description=top),
            ]
    if "value" in columns:
        total, mean = "sum of the events' values", "mean of the events' values"
        features += [
            DeclaredFeature("event_value", "events", measure="sum", of="value", windows=(28, 90), description=total),
            DeclaredFeature("mean_event_value", "events", measure="mean", of="value", windows=90, description=mean),
        ]
    return tuple(features)


def with_mapped_features(declared: DeclaredSpec, columns: Collection[str], taken: Collection[str] = ()) -> DeclaredSpec:
    """Append the features of mapped columns to a project's own declarations.

    Parameters
    ----------
    declared : DeclaredSpec
        The project's own declarations.
    columns : collection of str
        The mapped columns of events.
    taken : collection of str
        Other names that the project has given to columns.

    Returns
    -------
    DeclaredSpec
        The project's declarations, then those of `mapped_features` that have none of the project's names.

    Examples
    --------
    >>> spec = with_mapped_features(DeclaredSpec((DeclaredFeature("last_os", "events"),)), ["os"])
    >>> [feature.name for feature in spec.features]
    ['last_os', 'top_os']
    """
    own = {part.name.lower() for feature in declared.features for part in parts(feature)} | {n.lower() for n in taken}
    new = [one for one in mapped_features(columns) if own.isdisjoint(part.name for part in parts(one))]
    return DeclaredSpec((*declared.features, *new), declared.inputs)
