"""Simulated businesses of any size: the same bytes however they are made, and a truth that the rows bear out."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from ml import tables
from ml.simulate import BusinessSpec, Simulated, block, write_blocks
from ml.simulate import block as draw
from ml.simulate.business import expected_activity, law_of, law_table
from ml.simulate.business.activity import stages_of
from ml.simulate.business.law import ACTIVE, CHURN, ENTRY, NEW, REENGAGED, STAR, revenue_share_by
from ml.simulate.business.people import people_of
from ml.simulate.business.truth import share_kept
from ml.simulate.rows import ids

SMALL = BusinessSpec(preset="gaming", customers=300, days=120, seed=3)
CUSTOMERS = 20_000
KINDS: tuple[Literal["retail", "gaming"], ...] = ("retail", "gaming")


@pytest.fixture(scope="module", params=KINDS)
def left_alone(request: pytest.FixtureRequest) -> tuple[BusinessSpec, Simulated]:
    """Nobody is given anything, so that rows show what customers do by themselves."""
    spec = BusinessSpec(preset=request.param, customers=CUSTOMERS, days=364, campaign_share=0.0, seed=1)
    return spec, draw(spec, 0)


@pytest.fixture(scope="module", params=KINDS)
def treated(request: pytest.FixtureRequest) -> tuple[BusinessSpec, Simulated]:
    spec = BusinessSpec(preset=request.param, customers=CUSTOMERS, days=364, campaign_share=0.9, seed=2)
    return spec, draw(spec, 0)


def frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas()


def spend_between(simulated: Simulated, days: pd.DataFrame, first: int, last: int) -> Any:
    """Net revenue of days `day + first` to `day + last` of each row's customer; rows hold customer_id and day."""
    lines = frame(simulated.tables["transactions"].select(["customer_id", "occurred_at", "amount"]))
    lines["customer_id"] = lines["customer_id"].astype(str)
    rows = pd.DataFrame({"customer_id": days["customer_id"].astype(str), "day": pd.to_datetime(days["day"])})
    rows["row"] = np.arange(len(rows))
    joined = rows.merge(lines, on="customer_id")
    age = (joined["occurred_at"].dt.normalize() - joined["day"]).dt.days
    inside = joined[age.between(first, last)]
    return inside.groupby("row")["amount"].sum().reindex(rows["row"], fill_value=0.0).to_numpy()


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("preset", KINDS)
def test_the_same_bytes_however_many_blocks_are_drawn_at_a_time(
    preset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.simulate.spec.BLOCK", 100)
    spec = replace(SMALL, preset=preset)
    heard: list[tuple[int, int]] = []
    files = write_blocks(spec, tmp_path / "one", workers=1, report=lambda *done: heard.append(done))
    write_blocks(spec, tmp_path / "three", workers=3)
    write_blocks(replace(spec, seed=4), tmp_path / "other", workers=3)
    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "three")
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert set(files) == {tmp_path / "one" / name for name in one}
    assert len(one) == 1 + 3 * (8 + (preset == "gaming"))
    other = contents(tmp_path / "other")
    assert one.keys() == other.keys() and all(one[n] != other[n] for n in one if "law" not in n)


def test_a_block_is_the_same_in_a_larger_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml.simulate.spec.BLOCK", 100)
    small, large = block(SMALL, 1), block(replace(SMALL, customers=1000), 1)
    assert all(small.tables[name].equals(large.tables[name]) for name in small.tables)


def test_writing_again_leaves_nothing_of_the_business_before(tmp_path: Path) -> None:
    write_blocks(SMALL, tmp_path)
    write_blocks(replace(SMALL, preset="retail"), tmp_path, format="csv")
    assert not (tmp_path / "balances").exists()
    assert [path.name for path in (tmp_path / "transactions").iterdir()] == ["block-0000.csv"]


def test_somebodys_own_tables_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "mine.csv").write_text("a")
    with pytest.raises(FileExistsError, match="choose an empty folder"):
        write_blocks(SMALL, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["events", "mine.csv"]


def test_csv_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    write_blocks(SMALL, tmp_path / "csv", format="csv")
    write_blocks(SMALL, tmp_path / "parquet")
    for name in ("transactions", "balances", "exposures", "customers", "events"):
        parquet = pq.read_table(tmp_path / "parquet" / name)
        text = csv.read_csv(tmp_path / "csv" / name / "block-0000.csv")
        assert text.column_names == parquet.column_names
        assert text.num_rows == parquet.num_rows
    amounts = [pq.read_table(tmp_path / "parquet" / "transactions")["amount"].to_numpy()]
    amounts.append(csv.read_csv(tmp_path / "csv" / "transactions" / "block-0000.csv")["amount"].to_numpy())
    assert np.array_equal(*amounts)


def test_files_hold_plain_strings(tmp_path: Path) -> None:
    write_blocks(SMALL, tmp_path)
    schema = pq.read_schema(tmp_path / "transactions" / "block-0000.parquet")
    assert schema.field("customer_id").type == schema.field("category").type == pa.string()


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("preset", KINDS)
def test_rows_keep_the_contract(preset: Any) -> None:
    spec = BusinessSpec(preset=preset, customers=1_500, days=200, seed=5)
    start, end = pd.Timestamp(spec.start), pd.Timestamp(spec.start) + pd.Timedelta(days=spec.days)
    rows = draw(spec, 0).tables
    assert set(rows) == set(tables.INPUTS) - ({"balances"} if preset == "retail" else set())
    for name, table in rows.items():
        declared = tables.INPUTS[name]
        assert table.schema.names[: len(declared.names)] == declared.names
        plain = table.select(declared.names).cast(declared.schema())
        assert all(plain[column.name].null_count == 0 for column in declared.columns if column.required)
        stamps = plain[declared.stamp].to_pandas()
        assert len(stamps) and stamps.is_monotonic_increasing and start <= stamps.min() and stamps.max() < end
    lines = rows["transactions"]
    assert pc.count_distinct(lines["transaction_id"]).as_py() == lines.num_rows
    registered = frame(rows["customers"]).set_index("customer_id")["registered_at"]
    assert len(registered) == spec.customers
    for name in ("transactions", "events", "exposures"):
        table = frame(rows[name])
        assert (table[tables.INPUTS[name].stamp or ""] >= table["customer_id"].astype(str).map(registered)).all()


def test_refunds_follow_what_they_give_back_within_its_week_and_never_exceed_it(
    left_alone: tuple[BusinessSpec, Simulated],
) -> None:
    spec, simulated = left_alone
    lines = frame(simulated.tables["transactions"])
    back = lines["amount"] < 0
    assert back.sum() / (~back).sum() == pytest.approx(spec.kind.refunded[0], rel=0.05)
    assert -lines.loc[back, "amount"].sum() / lines.loc[~back, "amount"].sum() == pytest.approx(
        1 - share_kept(spec), rel=0.06
    )
    orders = lines["order_id"].astype(str)
    key = orders.str.removesuffix("R").str[1:]
    bought = lines[~back].groupby(key[~back]).agg(amount=("amount", "sum"), at=("occurred_at", "min"))
    refunds = lines[back].groupby(key[back]).agg(amount=("amount", "sum"), at=("occurred_at", "min"))
    both = refunds.join(bought.add_suffix("_bought"))
    assert both["amount_bought"].notna().all()
    assert (-both["amount"] <= both["amount_bought"] + 0.005).all()
    start = pd.Timestamp(spec.start)
    assert (both["at"] >= both["at_bought"]).all()
    assert ((both["at"] - start).dt.days // 7 == (both["at_bought"] - start).dt.days // 7).all()
    assert set(orders[back]).isdisjoint(orders[~back])


def test_a_gaming_balance_is_what_was_before_plus_deposits_less_withdrawals_less_play() -> None:
    spec = BusinessSpec(preset="gaming", customers=2_000, days=210, seed=6)
    drawn = draw(spec, 0).tables
    start = pd.Timestamp(spec.start)
    lines, events, balances = frame(drawn["transactions"]), frame(drawn["events"]), frame(drawn["balances"])
    for table, stamp in ((lines, "occurred_at"), (events, "occurred_at"), (balances, "as_of")):
        table["week"] = (table[stamp] - start).dt.days // 7
        table["customer_id"] = table["customer_id"].astype(str)
    weeks = pd.MultiIndex.from_product([sorted(set(lines["customer_id"])), range(30)], names=["customer_id", "week"])
    keys = ["customer_id", "week"]
    cash = lines.groupby(keys)["amount"].sum().reindex(weeks, fill_value=0.0)
    read = balances.set_index(keys)["balance"].reindex(weeks).groupby("customer_id").ffill().fillna(0.0)
    before = read.groupby("customer_id").shift(fill_value=0.0)
    wagered = events[events["event_type"] == "wager"].groupby(keys)["value"].sum().reindex(weeks, fill_value=0.0)
    cost = before + cash - read
    assert read.min() >= 0 and not balances.duplicated(keys).any()
    assert (cost[wagered == 0].abs() < 0.006).all()
    assert (cost[wagered > 0] <= wagered[wagered > 0] + 0.1).all()  # nobody loses more than they stake
    assert 0.05 < cost.sum() / wagered.sum() < 0.16
    churned = read.groupby("customer_id").last()
    assert 0.3 < (churned > 0).mean() < 0.98


def test_gaming_customers_play_for_free_before_they_pay() -> None:
    drawn = draw(BusinessSpec(preset="gaming", customers=2_000, days=210, seed=6), 0).tables
    events = frame(drawn["events"])
    paid = frame(drawn["transactions"]).astype({"customer_id": str}).groupby("customer_id")["occurred_at"].min()
    events["paid"] = events["customer_id"].astype(str).map(paid)
    start = pd.Timestamp("2024-01-01")
    week, week_paid = ((events[name] - start).dt.days // 7 for name in ("occurred_at", "paid"))
    early = events[events["paid"].isna() | (week < week_paid)]
    assert len(early) > 1_000 and set(early["event_type"]) == {"free_play", "offer_opened"}
    assert {"free_play", "wager", "offer_opened"} == set(events["event_type"])


def test_ids_are_written_digit_by_digit() -> None:
    assert ids("C", np.array([0, 7, 1234567]), 7).to_pylist() == ["C0000000", "C0000007", "C1234567"]
    assert ids("", np.array([42]), 3, end="R").to_pylist() == ["042R"]
    assert ids("C", np.array([], dtype=int), 7).to_pylist() == []
    with pytest.raises(ValueError, match="more than 2 digits"):
        ids("C", np.array([100]), 2)


# ── truth ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_law_is_a_law_with_both_memories() -> None:
    for preset in KINDS:
        chances = law_of(BusinessSpec(preset=preset)).chances
        assert np.allclose(chances.sum(axis=-1), 1) and chances.min() >= 0
        for stage in (ACTIVE, STAR, CHURN):
            odds = 1 / chances[NEW, stage, :, stage] - 1
            assert odds[7] / odds[0] == pytest.approx(0.5)
        odds = 1 / chances[:, ACTIVE, 0, ACTIVE] - 1
        assert odds[REENGAGED] / odds[NEW] == pytest.approx(2) and odds[STAR] / odds[NEW] == pytest.approx(0.5)
        assert (chances[:, ENTRY, 3, ENTRY] == 0).all()
        assert law_table(BusinessSpec(preset=preset)).num_rows == chances.size


def test_spells_follow_the_stated_law(left_alone: tuple[BusinessSpec, Simulated]) -> None:
    spec, simulated = left_alone
    spells = frame(simulated.truth["stages"])
    names = {name: number for number, name in enumerate(spec.kind.stages)}
    now = spells["stage"].astype(str).map(names).to_numpy()
    before = spells["previous_stage"].astype(object).map(names).fillna(0).astype(int).to_numpy()
    after = np.append(now[1:], 0)
    weeks, is_last = spells["weeks"].to_numpy(), spells["is_last"].to_numpy()
    counts = np.zeros(law_of(spec).chances.shape)
    spell = np.repeat(np.arange(len(spells)), weeks)
    week = np.arange(len(spell)) - np.repeat(weeks.cumsum() - weeks, weeks)
    leaves = week == weeks[spell] - 1
    seen = ~(leaves & is_last[spell])
    to = np.where(leaves, after[spell], now[spell])
    # The law's clock is a stay's own: a rejoined stage begins with week 1, the eighth week stands for all later ones.
    np.add.at(counts, (before[spell][seen], now[spell][seen], np.minimum(week, 7)[seen], to[seen]), 1)
    n, law = counts.sum(axis=-1, keepdims=True), law_of(spec).chances
    assert (counts[law == 0] == 0).all()
    usual = (n * law > 10) & (n * (1 - law) > 10)
    z = ((counts - n * law) / np.sqrt(np.maximum(n * law * (1 - law), 1e-9)))[usual]
    assert len(z) > 60
    assert abs(z.mean()) < 0.3 and 0.8 < z.std() < 1.2 and np.abs(z).max() < 4.5


def test_true_value_is_what_customers_then_spend(left_alone: tuple[BusinessSpec, Simulated]) -> None:
    spec, simulated = left_alone
    values = frame(simulated.truth["values"])
    matured = values[values["day"] == values["day"].min()].reset_index(drop=True)
    assert pd.Timestamp(matured["day"][0]) + pd.Timedelta(days=90) < pd.Timestamp(spec.start) + pd.Timedelta(days=364)
    spent = spend_between(simulated, matured, 1, spec.horizon_days)
    expected = matured["expected_spend"].to_numpy()
    assert (matured["ltv"] < matured["expected_spend"]).all() and (matured["ltv"] > 0.97 * expected).all()
    groups = {"all": np.full(len(matured), True)}
    groups |= {stage: (matured["stage"] == stage).to_numpy() for stage in spec.kind.stages}
    deciles = pd.qcut(matured["expected_spend"], 10, labels=False)
    groups |= {f"decile {decile}": (deciles == decile).to_numpy() for decile in range(10)}
    for name, rows in groups.items():
        error = (spent[rows] - expected[rows]).std() / np.sqrt(rows.sum())
        assert abs(spent[rows].mean() - expected[rows].mean()) < 3.7 * error, name
    overall = (spent - expected).std() / np.sqrt(len(spent)) / expected.mean()
    assert overall < 0.025  # the test can see an error of a tenth


def test_value_over_a_horizon_is_the_sum_over_its_parts() -> None:
    """A horizon of two weeks is one week's rewards through the law, and the next one's, day by day."""
    spec = BusinessSpec(preset="retail", horizon_days=7)
    chances, activity = law_of(spec).chances, np.asarray(spec.kind.activity)
    by_rate, by_entry = expected_activity(spec, is_discounted=False)
    assert by_rate[NEW, ACTIVE, 2] == pytest.approx(chances[NEW, ACTIVE, 2] @ activity * share_kept(spec))
    assert by_entry[ACTIVE, CHURN, 0] == pytest.approx(chances[ACTIVE, CHURN, 0, REENGAGED] * share_kept(spec))
    assert by_entry[CHURN, REENGAGED, 1] == 0  # who stays reengaged does not enter it again
    days = [revenue_share_by(spec, day) for day in range(8)]
    assert days[0] == pytest.approx(0) and days[7] == pytest.approx(share_kept(spec)) and (np.diff(days) > 0).all()
    half = expected_activity(replace(spec, horizon_days=3), is_discounted=False)[0]
    assert np.allclose(half * days[7], by_rate * days[3])


def test_true_effects_are_what_randomised_arms_show(treated: tuple[BusinessSpec, Simulated]) -> None:
    spec, simulated = treated
    effects = frame(simulated.truth["effects"]).rename(columns={"exposed_on": "day"})
    inside = (pd.Timestamp(spec.start) + pd.Timedelta(days=spec.days) - pd.to_datetime(effects["day"])).dt.days >= 28
    effects = effects[inside].reset_index(drop=True)
    spent = spend_between(simulated, effects, 0, 27)
    arms = pd.Series(spent).groupby(effects["given"].astype(str)).agg(["mean", "var", "count"])
    for action in spec.kind.actions:
        difference = arms["mean"][action.name] - arms["mean"]["control"]
        error = np.sqrt(sum(arms["var"][arm] / arms["count"][arm] for arm in (action.name, "control")))
        assert abs(difference - effects[f"effect_{action.name}"].mean()) < 3.5 * error, action.name
    best = spec.kind.actions[1 if spec.preset == "retail" else 0].name
    true = effects[f"effect_{best}"]
    assert (true == 0).mean() > 0.1 and true.max() > 10 * true.mean()
    # Those for whom more is expected show more, group by group.
    for low, high in itertools.pairwise([0, *true[true > 0].quantile([0.2, 0.4, 0.6, 0.8, 1])]):
        rows = true.between(low, high, inclusive="right")
        arms = pd.Series(spent[rows]).groupby(effects["given"].astype(str)[rows].to_numpy()).agg(["mean", "sem"])
        difference, error = (
            arms["mean"][best] - arms["mean"]["control"],
            np.hypot(arms["sem"][best], arms["sem"]["control"]),
        )
        assert abs(difference - true[rows].mean()) < 3.5 * error
    assert difference > 5 * error
    assert effects["given"].value_counts(normalize=True).between(0.23, 0.27).all()


def test_where_the_better_are_treated_propensities_are_true_and_not_in_the_rows() -> None:
    spec = BusinessSpec(preset="retail", customers=8_000, days=200, randomised=False, seed=3)
    simulated = draw(spec, 0)
    exposures, effects = frame(simulated.tables["exposures"]), frame(simulated.truth["effects"])
    assert exposures["propensity"].isna().all() and not exposures["randomised"].any()
    chance = np.where(effects["given"] == "control", 1 - effects["propensity"], 3 * effects["propensity"])
    treated = effects["given"] != "control"
    assert chance.min() >= 0.05 - 1e-9 and chance.max() <= 0.95 + 1e-9
    for low in np.arange(0.05, 0.95, 0.15):
        rows = (chance >= low) & (chance < low + 0.15)
        if rows.sum() > 100:
            assert treated[rows].mean() == pytest.approx(chance[rows].mean(), abs=4 * np.sqrt(0.25 / rows.sum()))


def test_layers_are_in_the_rows(left_alone: tuple[BusinessSpec, Simulated]) -> None:
    _, simulated = left_alone
    truth = frame(simulated.truth["customers"]).set_index("customer_id")
    lines = frame(simulated.tables["transactions"])
    bought = lines[lines["amount"] > 0]
    who = bought["customer_id"].astype(str)
    per_order = bought.groupby(who)["amount"].sum() / bought.groupby(who)["order_id"].nunique()
    by_layer = per_order.groupby(truth["layer_value"].astype(str)).mean()
    assert by_layer["low"] * 2 < by_layer["middle"] and by_layer["middle"] * 2 < by_layer["high"]
    orders = bought.groupby(who)["order_id"].nunique().groupby(truth["layer_engagement"].astype(str)).mean()
    assert orders["often"] > 2 * orders["seldom"]


def test_stages_have_their_rows(left_alone: tuple[BusinessSpec, Simulated]) -> None:
    """Prospects and churned customers buy nothing; new and reengaged customers begin with an order."""
    spec, simulated = left_alone
    spells = frame(simulated.truth["stages"]).astype({"customer_id": str, "stage": str})
    lines = frame(simulated.tables["transactions"])
    lines = lines[lines["amount"] > 0]
    week = (lines["occurred_at"] - pd.Timestamp(spec.start)).dt.days // 7
    bought = set(zip(lines["customer_id"].astype(str), week, strict=True))
    silent = spells[spells["stage"].isin([spec.kind.stages[0], "churn"])].head(3_000)
    rows = silent[["customer_id", "first_week", "weeks"]].itertuples(index=False, name=None)
    assert not any((who, first + later) in bought for who, first, weeks in rows for later in range(weeks))
    begins = spells[spells["stage"].isin(["new", "reengaged"])]
    assert bought.issuperset(zip(begins["customer_id"], begins["first_week"], strict=True))


def test_every_stage_is_lived_in() -> None:
    for preset in KINDS:
        spec = BusinessSpec(preset=preset, customers=5_000)
        random = np.random.default_rng(0)
        stage = stages_of(people_of(spec, 0, random), spec, random).stage[:, 40]
        assert (np.bincount(stage[stage >= 0], minlength=6) > 50).all()


@pytest.mark.parametrize("preset", KINDS)
@pytest.mark.parametrize(("customers", "days"), [(1, 1), (1, 60), (30, 8), (3, 400)])
def test_a_tiny_business_is_a_business(preset: Any, customers: int, days: int, tmp_path: Path) -> None:
    spec = BusinessSpec(preset=preset, customers=customers, days=days)
    assert write_blocks(spec, tmp_path)
    assert pq.read_table(tmp_path / "customers").num_rows == customers


def test_a_business_whose_truth_would_be_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        BusinessSpec(campaign_every_weeks=3)
    with pytest.raises(ValueError, match="retail, gaming"):
        BusinessSpec(preset="banking")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one customer"):
        BusinessSpec(customers=0)
    with pytest.raises(ValueError, match="share"):
        BusinessSpec(campaign_share=1.5)
    with pytest.raises(ValueError, match="seed"):
        BusinessSpec(seed=-1)
    with pytest.raises(ValueError, match="parquet or csv"):
        write_blocks(SMALL, Path("nowhere"), format="xml")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no block 1"):
        block(SMALL, 1)
