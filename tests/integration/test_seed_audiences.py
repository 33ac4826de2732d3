"""Four audiences over features of any kind, through the whole chain: attributes, declared features, context.

Customers are every combination of a few traits, so whom an audience holds is known without any of the chain's code. The
project file is the one in the documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.shop import Shop

START = date(2024, 1, 1)  # a Monday: no training week has ended on the days that are made
BEFORE, STORM, AFTER = (START + timedelta(days=n) for n in (3, 4, 5))
PAGE = (Path(__file__).parents[2] / "docs" / "your-own-data.md").read_text(encoding="utf-8")
BASE = """\
name: shop
start: '2024-01-01'
end: '2024-01-31'
tables:
  transactions: {path: shop/transactions.csv}
"""
TRAITS = {
    "city": ("Munich", "Zurich"),
    "device": ("phone", "tablet"),
    "os": ("Android", "iOS"),
    "referrer": ("https://www.google.com/search?q=x", "https://news.example/a"),
    "buys": ("headphones", "sweater"),
    "views": ("sweaters", "shoes"),
    "orders": ("1", "2"),
    "amount": ("10", "90"),
}
REGION, COUNTRY = {"Munich": "Bavaria", "Zurich": "Zurich"}, {"Munich": "Germany", "Zurich": "Switzerland"}
Customer = dict[str, str]
CUSTOMERS: dict[str, Customer] = {
    f"C{n:03}": dict(zip(TRAITS, values, strict=True)) for n, values in enumerate(product(*TRAITS.values()))
}


def is_from_bavaria_on_android_by_search(who: Customer, day: date) -> bool:
    return who["city"] == "Munich" and who["os"] == "Android" and "google" in who["referrer"]


def is_in_zurich_on_an_iphone_with_headphones(who: Customer, day: date) -> bool:
    return (who["city"], who["device"], who["os"], who["buys"]) == ("Zurich", "phone", "iOS", "headphones")


def looks_at_sweaters_in_germany_on_ios(who: Customer, day: date) -> bool:
    return (who["city"], who["os"], who["views"]) == ("Munich", "iOS", "sweaters")


def is_worth_much_on_a_tablet_in_the_storm(who: Customer, day: date) -> bool:
    """A quarter of the customers came again and pay much: nobody else is worth a tenth more than the median."""
    return day == STORM and (who["city"], who["device"], who["orders"], who["amount"]) == (
        "Munich",
        "tablet",
        "2",
        "90",
    )


AUDIENCES: dict[str, Callable[[Customer, date], bool]] = {
    "bavarian_android_searchers": is_from_bavaria_on_android_by_search,
    "zurich_iphone_headphones": is_in_zurich_on_an_iphone_with_headphones,
    "german_ios_sweater_viewers": looks_at_sweaters_in_germany_on_ios,
    "valuable_tablets_in_a_storm": is_worth_much_on_a_tablet_in_the_storm,
}


def project() -> dict[str, Any]:
    """The piece of a project file in the documentation, on the base that every piece there has."""
    (piece,) = (
        yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "in_a_storm" in text
    )
    base: dict[str, Any] = yaml.safe_load(BASE)
    return {**base, **piece, "tables": {**base["tables"], **piece["tables"]}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("seeds") / "state")
    shop.data.mkdir(parents=True)
    settings = project()
    for name in ("customers", "events"):
        settings["tables"][name]["path"] = f"shop/{name}.csv"
    settings["tables"]["context"]["weather"]["path"] = "shop/weather.csv"
    shop.file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    deliver(shop)
    shop.run(BEFORE, AFTER)
    return shop


def deliver(shop: Shop) -> None:
    customers, transactions, events = [], [], []
    for number, (id_, who) in enumerate(CUSTOMERS.items()):
        own = {"customer_id": id_}
        attributes = {"city": who["city"], "region": REGION[who["city"]], "country": COUNTRY[who["city"]]}
        customers.append(own | attributes | {"registered_at": f"{START}"})
        for order in range(int(who["orders"])):
            line = {"occurred_at": f"{START + timedelta(days=order)} 10:00:00", "category": who["buys"]}
            transactions.append(own | line | {"amount": who["amount"], "order_id": f"{id_}-{order}"})
        seen = {"event_type": "product_viewed", "category": who["views"], "referrer": who["referrer"]}
        used = {"device": who["device"], "os": who["os"]}
        other = {"device": "desktop", "os": "Windows"}  # two visits earlier
        for day, what in ((0, other), (0, other), (2, used)):
            events.append(own | seen | what | {"occurred_at": f"{START + timedelta(days=day)} 1{number % 10}:00:00"})
        later = {
            "event_type": "product_viewed",
            "category": "hats",
            "referrer": "",
            "device": "desktop",
            "os": "Windows",
        }
        events.append(own | later | {"occurred_at": f"{AFTER + timedelta(days=1)} 09:00:00"})
    shop.deliver("customers", customers)
    shop.deliver("transactions", transactions)
    shop.deliver("events", events)
    days = [START + timedelta(days=n) for n in range(8)]
    weather = [
        {"date": f"{day}", "region": region, "sky": "storm" if (day, region) == (STORM, "Bavaria") else "sun"}
        for day in days for region in REGION.values()
    ]  # fmt: skip
    shop.deliver("weather", weather)


@pytest.mark.parametrize("day", [BEFORE, STORM, AFTER], ids=["before", "storm", "after"])
@pytest.mark.parametrize("audience", AUDIENCES)
def test_an_audience_holds_exactly_whom_its_words_say(made: Shop, audience: str, day: date) -> None:
    members = {row["customer_id"] for row in made.rows("audiences", day) if row["audience"] == audience}
    expected = {id_ for id_, who in CUSTOMERS.items() if AUDIENCES[audience](who, day)}
    assert members == expected
    assert len(expected) >= 8 or (audience == "valuable_tablets_in_a_storm" and day != STORM)
