"""What types of events count as: page views, carts, redemptions, goals.

Belongs here: the roles, the words from which a role is guessed, and what a project declares instead. Does not belong
here: the features made of the roles (see `snapshot.sql`) and events themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import pyarrow as pa

from ml.rules import nearest

PAGE_VIEWS, CARTS, REDEMPTIONS, GOALS, NO_ROLE = "page_views", "carts", "redemptions", "goals", "no_role"
ROLES = (PAGE_VIEWS, CARTS, REDEMPTIONS, GOALS)  # in the order in which they are shown
# Every business has its own words for the same few things: the words that give a role, and those that rule it out.
# No word gives the role of a goal, for what a business wants its customers to do only the business knows.
_VOCABULARY: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    PAGE_VIEWS: (("view", "visit", "page"), ()),
    CARTS: (("cart", "checkout", "basket"), ("view", "remove")),
    REDEMPTIONS: (("coupon", "voucher", "redeem", "redemption"), ()),
}


@dataclass(frozen=True)
class EventRoles:
    """Types of events, by what they count as. The roles of a type that is not listed are guessed from its words.

    Parameters
    ----------
    page_views : tuple of str
        Types that are views of a page or a product, or visits.
    carts : tuple of str
        Types by which something is put in a cart, or a checkout begun.
    redemptions : tuple of str
        Types by which a coupon or voucher is redeemed.
    goals : tuple of str
        Types that the business wants to happen, such as a registration. None is ever guessed.
    no_role : tuple of str
        Types that are none of these, whatever their words.

    Raises
    ------
    ValueError
        If a type is listed twice.

    Examples
    --------
    >>> roles = EventRoles(goals=("newsletter_signup",), no_role=("page_error",))
    >>> roles.of("newsletter_signup"), roles.of("page_error"), roles.of("page_view")
    (('goals',), (), ('page_views',))
    """

    page_views: tuple[str, ...] = ()
    carts: tuple[str, ...] = ()
    redemptions: tuple[str, ...] = ()
    goals: tuple[str, ...] = ()
    no_role: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        role_of: dict[str, str] = {}
        for role in (field.name for field in fields(self)):
            for event_type in getattr(self, role):
                other = role_of.setdefault(event_type, role)
                if other != role:
                    raise ValueError(
                        f"{event_type!r} is listed in both {other} and {role}, but an event type has one role: "
                        "remove it from one place"
                    )
            if repeated := {name for name in getattr(self, role) if getattr(self, role).count(name) > 1}:
                raise ValueError(f"{min(repeated)!r} is listed twice in {role}: remove one")

    @property
    def declared(self) -> dict[str, str]:
        """Each listed type, with the role under which it is listed."""
        return {event_type: role.name for role in fields(self) for event_type in getattr(self, role.name)}

    def of(self, event_type: str) -> tuple[str, ...]:
        """What events of a type count as.

        Parameters
        ----------
        event_type : str
            A value of `events.event_type`, as delivered.

        Returns
        -------
        tuple of str
            Its roles: none or one where it is listed; where that is guessed, there may be several.
        """
        role = self.declared.get(event_type)
        if role is not None:
            return () if role == NO_ROLE else (role,)
        return guess_roles(event_type)

    def absent(self, event_types: Iterable[str]) -> dict[str, str]:
        """List the declared types that do not occur.

        Parameters
        ----------
        event_types : iterable of str
            The types that do.

        Returns
        -------
        dict of str to str
            Each declared type that is not among them, with the nearest that is, or with a few of them, as the second
            half of a sentence.
        """
        occurring = set(event_types)
        return {name: nearest(name, occurring) for name in self.declared if name not in occurring}


def guess_roles(event_type: str) -> tuple[str, ...]:
    """Guess from its words what events of a type count as.

    Parameters
    ----------
    event_type : str
        A value of `events.event_type`, as delivered.

    Returns
    -------
    tuple of str
        The roles, of `page_views`, `carts` and `redemptions`.

    Examples
    --------
    >>> guess_roles("Product Viewed"), guess_roles("AddToCart"), guess_roles("logout")
    (('page_views',), ('carts',), ())
    """
    word = event_type.lower()
    return tuple(
        role
        for role, (signs, exclusions) in _VOCABULARY.items()
        if any(sign in word for sign in signs) and not any(sign in word for sign in exclusions)
    )


def event_roles_table(event_types: Iterable[str | None], roles: EventRoles) -> pa.Table:
    """Say of each distinct type what its events count as.

    Parameters
    ----------
    event_types : iterable of str or None
        Values of `events.event_type`, as delivered; missing ones are left out.
    roles : EventRoles
        What the project declares.

    Returns
    -------
    pa.Table
        One row per type, in alphabetical order: event_type, and 1 or 0 in `is_page_view`, `is_cart`, `is_redemption`
        and `is_goal`.

    Examples
    --------
    >>> event_roles_table(["add_to_cart"], EventRoles()).drop(["is_goal"]).to_pylist()
    [{'event_type': 'add_to_cart', 'is_page_view': 0, 'is_cart': 1, 'is_redemption': 0}]
    """
    names = sorted({name for name in event_types if name is not None})
    columns = {
        f"is_{role.removesuffix('s')}": pa.array([int(role in roles.of(name)) for name in names], pa.int64())
        for role in ROLES
    }
    return pa.table({"event_type": pa.array(names, pa.string()), **columns})


GUESSED = EventRoles()  # nothing is declared
