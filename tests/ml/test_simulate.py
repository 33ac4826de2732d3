"""The simulated shop: a seed gives the same bytes, rows keep the contract, and the truth can be found in them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

from ml import tables
from ml.engine import DuckDB
from ml.simulate import BusinessSpec, ShopSpec, Simulated, SimulatedAction, block, simulate, write

SPEC = ShopSpec()
SMALL = ShopSpec(customers=150, days=90, seed=3)


@pytest.fixture(scope="module")
def shop() -> Simulated:
    return simulate(SPEC)


def window_spend(simulated: Simulated, spec: ShopSpec) -> pd.DataFrame:
    """Spend of days e … e+27 of every exposure whose window is complete."""
    last = date.fromisoformat(spec.start) + timedelta(days=spec.days - 28)
    exposures = simulated.tables["exposures"].to_pandas()[["customer_id", "exposed_at", "action", "campaign_id"]]
    exposures["day"] = exposures["exposed_at"].dt.normalize()
    exposures = exposures[exposures["day"] <= pd.Timestamp(last)]
    lines = simulated.tables["transactions"].to_pandas()[["customer_id", "occurred_at", "amount"]]
    joined = exposures.merge(lines, on="customer_id", how="left")
    age = (joined["occurred_at"].dt.normalize() - joined["day"]).dt.days
    joined["amount"] = joined["amount"].where(age.between(0, 27), 0.0)
    return joined.groupby(["customer_id", "campaign_id", "action"], as_index=False)["amount"].sum()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = write(simulate(SMALL), tmp_path / "one"), write(simulate(SMALL), tmp_path / "other")
    assert [path.name for path in one] == [path.name for path in other]
    assert {"transactions.csv", "customers.csv", "events.csv", "exposures.csv"} <= {path.name for path in one}
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, other, strict=True))
    assert not simulate(replace(SMALL, seed=4)).tables["transactions"].equals(simulate(SMALL).tables["transactions"])


def test_rows_keep_the_contract(shop: Simulated) -> None:
    start = pd.Timestamp(SPEC.start)
    for name, table in shop.tables.items():
        declared = tables.INPUTS[name]
        assert table.schema.names[: len(declared.names)] == declared.names
        assert tables.Table.conform(declared, table).num_rows == table.num_rows > 0
        assert all(table[column.name].null_count == 0 for column in declared.columns if column.required)
        stamps = table[declared.stamp].to_pandas()
        assert stamps.is_monotonic_increasing and stamps.min() >= start
        assert stamps.max() < start + pd.Timedelta(days=SPEC.days)
    lines = shop.tables["transactions"]
    assert pc.count_distinct(lines["transaction_id"]).as_py() == lines.num_rows
    assert pc.min(lines["discount"]).as_py() >= 0 > pc.min(lines["amount"]).as_py()
    assert shop.tables["customers"].num_rows == SPEC.customers


def test_nobody_does_anything_before_registering(shop: Simulated) -> None:
    registered = shop.tables["customers"].to_pandas().set_index("customer_id")["registered_at"]
    for name in ("transactions", "events", "exposures"):
        table = shop.tables[name].to_pandas()
        assert (table[tables.INPUTS[name].stamp or ""] >= table["customer_id"].map(registered)).all()


def test_customers_are_lost_and_come_back_and_new_ones_arrive(shop: Simulated) -> None:
    spells = shop.truth["spells"].to_pandas()
    back = spells[spells["is_buying"]].groupby("customer_id").size() > 1
    assert 0.1 < back.mean() < 0.6
    assert (~spells.groupby("customer_id")["is_buying"].last()).mean() > 0.15
    registered = shop.tables["customers"].to_pandas()["registered_at"]
    assert (registered > registered.min() + pd.Timedelta(days=30)).mean() > 0.25
    for _, rows in list(spells.groupby("customer_id"))[:50]:
        assert (rows["since"].iloc[1:].to_numpy() - rows["until"].iloc[:-1].to_numpy() == timedelta(days=1)).all()


def test_rows_agree_with_the_latent_rate_and_order_value(shop: Simulated) -> None:
    truth = shop.truth["customers"].to_pandas().set_index("customer_id")
    lines = shop.tables["transactions"].to_pandas()
    bought = lines[lines["amount"] > 0]
    per_order = bought.groupby("customer_id")["amount"].sum() / bought.groupby("customer_id")["order_id"].nunique()
    ratio = (per_order / truth["order_value"]).dropna()
    orders = bought.groupby("customer_id")["order_id"].nunique()
    assert np.average(ratio, weights=orders[ratio.index]) == pytest.approx(1, abs=0.02)
    assert set(bought["customer_id"]).isdisjoint(truth.index[truth["orders_per_day"] == 0])
    share = lines.groupby("customer_id")[["discount", "amount"]].sum()
    by_lover = (share["discount"] / (share["discount"] + share["amount"])).groupby(truth["loves_discounts"]).median()
    assert by_lover[True] > 3 * by_lover[False]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_mean_effect_of_each_action_is_found_in_the_rows(seed: int) -> None:
    spec = replace(SPEC, seed=seed)
    simulated = simulate(spec)
    spend = window_spend(simulated, spec)
    arms = spend.groupby("action")["amount"].agg(["mean", "var", "count"])
    matured = spend[["customer_id", "campaign_id"]]
    effects = simulated.truth["effects"].to_pandas().merge(matured)
    truth = {action: effects[f"effect_{action}"].mean() for action in ("email", "coupon", "call")}
    assert truth["coupon"] > truth["email"] > truth["call"] == 0
    for action in ("email", "coupon", "call"):
        difference = arms["mean"][action] - arms["mean"]["control"]
        error = np.sqrt(arms["var"][action] / arms["count"][action] + arms["var"]["control"] / arms["count"]["control"])
        assert abs(difference - truth[action]) < 3.5 * error, action
        if action == "coupon":
            assert difference > 3 * error  # large enough to be found with 2,000 customers


def test_the_coupon_works_on_those_who_love_discounts_only(shop: Simulated) -> None:
    spend = window_spend(shop, SPEC).merge(shop.truth["customers"].to_pandas()[["customer_id", "loves_discounts"]])
    mean = spend.groupby(["loves_discounts", "action"])["amount"].mean().unstack()
    effect = mean["coupon"] - mean["control"]
    true = shop.truth["actions"].to_pandas().set_index("action").loc["coupon"]
    assert effect[True] == pytest.approx(true["mean_effect_on_lovers"], rel=0.35)
    assert abs(effect[False]) < 0.2 * effect[True] and true["mean_effect_on_others"] == 0


def test_propensities_are_the_shares_that_came_about(shop: Simulated) -> None:
    exposures = shop.tables["exposures"].to_pandas()
    shares = exposures["action"].value_counts(normalize=True)
    assert len(shares) == 4 and np.allclose(shares, 0.25, atol=0.02) and (exposures["propensity"] == 0.25).all()
    assert exposures["randomised"].all() and (exposures["is_holdout"] == (exposures["action"] == "control")).all()


def test_without_randomisation_the_better_customers_are_treated_and_nobody_knows_how_likely() -> None:
    spec = replace(SPEC, randomised=False)
    simulated = simulate(spec)
    exposures = simulated.tables["exposures"]
    assert exposures["propensity"].null_count == exposures.num_rows and not pc.any(exposures["randomised"]).as_py()
    mean = window_spend(simulated, spec).groupby("action")["amount"].mean()
    assert mean["call"] > 1.3 * mean["control"]  # a call does nothing: this is selection


@pytest.mark.parametrize(
    "spec",
    [
        ShopSpec(customers=1, days=1),
        ShopSpec(customers=1, days=60),
        ShopSpec(customers=30, days=40, actions=()),
        ShopSpec(customers=30, days=40, campaign_share=0),
    ],
)
def test_a_tiny_business_is_a_business(spec: ShopSpec, tmp_path: Path) -> None:
    simulated = simulate(spec)
    assert simulated.tables["customers"].num_rows == spec.customers
    assert len(write(simulated, tmp_path)) == 8


def test_a_world_whose_truth_would_be_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        ShopSpec(campaign_every_days=14)
    with pytest.raises(ValueError, match="names must differ"):
        ShopSpec(actions=(SimulatedAction("control"),))
    with pytest.raises(ValueError, match="at least one customer"):
        ShopSpec(customers=0)


def test_shops_and_whole_businesses_answer_the_same_class_with_the_same_accessors() -> None:
    engine = DuckDB()
    for spec in (SMALL, BusinessSpec(customers=150, days=90), BusinessSpec(preset="gaming", customers=150, days=90)):
        simulated = simulate(spec)
        assert {"customers", "events", "exposures", "transactions"} <= simulated.tables.keys()
        effects = simulated.truth["effects"]
        assert effects.column_names[:5] == ["customer_id", "exposed_on", "campaign_id", "given", "propensity"]
        actions = spec.actions if isinstance(spec, ShopSpec) else spec.kind.actions
        assert effects.column_names[5:] == [f"effect_{action.name}" for action in actions]
        assert simulated.truth["customers"].num_rows == 150
        last = date.fromisoformat(spec.start) + timedelta(days=spec.days - 1)
        known = simulated.history(engine).snapshot_of(last)
        assert known.num_rows == 150
        spent = pc.sum(simulated.tables["transactions"]["amount"]).as_py()
        assert pc.sum(known["spend"]).as_py() == pytest.approx(spent)


def test_a_business_of_several_blocks_is_drawn_block_after_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml.simulate.spec.BLOCK", 60)
    spec = BusinessSpec(customers=150, days=60)
    whole = simulate(spec).tables["transactions"].column("transaction_id").to_pylist()
    parts = [block(spec, number).tables["transactions"] for number in range(3)]
    assert whole == [one for part in parts for one in part["transaction_id"].to_pylist()]
