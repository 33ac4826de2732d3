"""Claims about identity: letters are carried on and never reused, and every cluster's fate is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml import tables
from ml.layers import LayerModels, LayerSpec, SegmentSpec, assign, fit_layers
from ml.layers.identity import lineage, matched_letters
from ml.layers.names import Names
from ml.layers.reasons import Code
from ml.layers.training import with_parts, with_settings
from ml.reasons import Reason

DAY = date(2024, 3, 1)
FEATURES = ("pace", "depth", "width", "tone")
TURN = np.array([[0.5, 0.5, 0.5, 0.5], [0.6, -0.6, 0.35, -0.35]])  # two directions that no feature lies along
LAYER = LayerSpec("rhythm", FEATURES)
SPEC = SegmentSpec((LAYER,), min_cluster_customers=20)
CENTRES = {"a": (6.0, 0.0), "b": (0.0, 0.0), "c": (0.0, 6.0)}


def groups(centres: dict[str, tuple[float, float]], each: int = 300, seed: int = 0, newcomers: int = 0) -> pa.Table:
    """Customers around centres; the same ones, in almost the same place, whatever the seed."""
    traits, noise = np.random.default_rng(1), np.random.default_rng(100 + seed)
    centre = np.repeat(np.array(list(centres.values())), each, axis=0) @ TURN
    position = centre + traits.normal(0, 1, centre.shape) + 0.1 * noise.normal(0, 1, centre.shape)
    ids = [f"{name}{i:04d}" for name in centres for i in range(each)]
    if newcomers:
        position = np.concatenate(
            [
                position,
                centre[:: len(centre) // newcomers] + noise.normal(0, 1, centre[:: len(centre) // newcomers].shape),
            ]
        )
        ids += [f"z{seed}-{i}" for i in range(len(position) - len(ids))]
    order = noise.permutation(len(ids))
    return pa.table(
        {
            "customer_id": np.array(ids)[order],
            "day": pa.array([DAY] * len(ids), pa.date32()),
            **{name: position[order, column] for column, name in enumerate(FEATURES)},
            "stage": ["active"] * len(ids),
        }
    )


def letters(table: pa.Table, model: LayerModels) -> dict[str, str]:
    rows = assign(table, model).filter(assign(table, model)["is_primary"])
    return dict(zip(rows["customer_id"].to_pylist(), rows["cluster"].to_pylist(), strict=True))


def fates(model: LayerModels) -> dict[str, tuple[str, str]]:
    return {event.letter: (event.event, event.other) for event in model.models[0].events}


@pytest.fixture(scope="module")
def first() -> LayerModels:
    return fit_layers(groups(CENTRES), SPEC)


def test_first_fit_finds_the_groups_and_letters_fall_with_the_first_feature(first: LayerModels) -> None:
    letter_of = letters(groups(CENTRES), first)
    assert first.models[0].kind == "natural" and first.models[0].letters == ("A", "B", "C")
    pace = dict(zip(*(groups(CENTRES)[x].to_pylist() for x in ("customer_id", "pace")), strict=True))
    means = [np.mean([pace[customer] for customer, letter in letter_of.items() if letter == one]) for one in "ABC"]
    assert means == sorted(means, reverse=True)
    letters_in_group = {
        name: {letter for customer, letter in letter_of.items() if customer[0] == name} for name in CENTRES
    }
    assert (
        sum(len(letter) for letter in letters_in_group.values()) <= 6
    )  # a customer or two lie nearer to another group
    assert set(fates(first).values()) == {("first", "")}


def test_a_week_later_with_newcomers_other_order_and_seed_nobody_changes_cluster(first: LayerModels) -> None:
    later = groups(CENTRES, seed=5, newcomers=45)
    refit = fit_layers(later, replace(SPEC, seed=99), first)
    before, after = letters(later, first), letters(later, refit)
    assert np.mean([before[who] == after[who] for who in before]) >= 0.99
    assert {fate for fate, _ in fates(refit).values()} == {"continued"} and not refit.models[0].drift


def test_a_split_is_reported_and_the_others_keep_their_letters(first: LayerModels) -> None:
    halves = groups({"a": (6.0, 0.0), "b": (0.0, 0.0), "c": (-2.5, 6.0), "d": (2.5, 6.0)})
    refit = fit_layers(halves, SPEC, first)
    old = letters(groups(CENTRES), first)["c0000"]
    new = {letter: fate for letter, fate in fates(refit).items() if fate[0] != "continued"}
    assert new == {"D": ("split", old)} and refit.models[0].drift
    assert {fates(refit)[letter][0] for letter in "ABC"} == {"continued"}


def test_a_merge_is_reported_and_its_letter_is_never_used_again(first: LayerModels) -> None:
    together = groups({"a": (6.0, 0.0), "b": (0.0, 3.0), "c": (0.0, 3.0)})
    two = fit_layers(together, SPEC, first)
    gone = [letter for letter, (fate, _) in fates(two).items() if fate == "merged"]
    assert len(two.models[0].letters) == 2 and len(gone) == 1
    again = fit_layers(groups(CENTRES), SPEC, two)
    assert gone[0] not in again.models[0].letters and "D" in again.models[0].letters


def test_a_cluster_of_newcomers_is_born_and_one_without_customers_is_retired(first: LayerModels) -> None:
    born = fit_layers(groups({**CENTRES, "n": (9.0, 9.0)}), SPEC, first)
    assert fates(born)["D"] == ("born", "")
    left = fit_layers(groups({name: CENTRES[name] for name in "ab"}), SPEC, first)
    gone = [letter for letter, (fate, _) in fates(left).items() if fate == "retired"]
    assert gone == [letters(groups(CENTRES), first)["c0000"]]


def test_letters_stay_used_through_weeks_without_the_layer(first: LayerModels) -> None:
    other = SegmentSpec((LayerSpec("else", ("depth",), k=2),), min_cluster_customers=20)
    table = groups(CENTRES)
    for _ in range(3):
        first = fit_layers(table, other, first)
    back = fit_layers(table, SPEC, first)
    assert not set(back.models[0].letters) & {"A", "B", "C"}


def test_parts_that_did_not_drift_stay_to_the_last_digit(first: LayerModels) -> None:
    two = SegmentSpec((LAYER, LayerSpec("size", ("depth",), k=2)), min_cluster_customers=20)
    before = fit_layers(groups(CENTRES), two)
    refit = fit_layers(groups(CENTRES, seed=3, newcomers=30), two, before)
    mended = with_parts(before, refit, [refit.models[0]])
    assert mended.models[0] == refit.models[0] and mended.models[1].centres == before.models[1].centres


def test_the_lineage_has_every_cluster_once_and_a_model_that_stays_continues_all_of_them(first: LayerModels) -> None:
    rows = first.lineage().to_pylist()
    assert [row["cluster"] for row in rows] == ["A", "B", "C"] and 300 - 9 < rows[0]["customers"] < 300 + 9
    kept = first.lineage(is_new=False)
    assert kept.schema.equals(tables.CLUSTER_LINEAGE.schema())
    assert {row["event"] for row in kept.to_pylist()} == {"continued"}


# ── on arrays of labels ───────────────────────────────────────────────────────────────────────────────────────────

labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(labels)
def test_every_cluster_has_exactly_one_fate(pairs: list[tuple[int, int]]) -> None:
    old, new = (np.array(side) for side in zip(*pairs, strict=True))
    carried = matched_letters(old, "ABCD", new, 4)
    all_letters = [text or "WXYZ"[number] for number, text in enumerate(carried)]
    events = lineage(old, "ABCD", new, all_letters)
    assert sorted(event.letter for event in events) == sorted({*"ABCD", *all_letters})
    assert all(0 <= event.retained_share <= 1 and 0 <= event.inherited_share <= 1 for event in events)


@given(labels, st.permutations(range(4)))
def test_fates_do_not_depend_on_how_a_fit_numbers_its_clusters(pairs: list[tuple[int, int]], turned: list[int]) -> None:
    old = np.array([before for before, _ in pairs])
    one = matched_letters(old, "ABCD", old, 4)
    other = matched_letters(old, "ABCD", np.array(turned)[old], 4)
    assert [other[turned[number]] for number in np.unique(old)] == [one[number] for number in np.unique(old)]


def test_a_third_of_the_customers_is_not_the_same_cluster() -> None:
    old = np.array([0] * 10 + [1] * 10)
    scattered = np.array([0, 1, 2, 3, 4] * 4)
    assert matched_letters(old, "AB", scattered, 5) == [""] * 5
    assert {event.event for event in lineage(old, "AB", scattered, "CDEFG")} >= {"retired"}


# ── what a fit reports ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_letter_keeps_the_day_it_was_given_and_new_ones_have_their_own(first: LayerModels) -> None:
    later = groups({"a": (6.0, 0.0), "b": (0.0, 0.0), "c": (-2.5, 6.0), "d": (2.5, 6.0)})
    days = later.column_names.index("day")
    later = later.set_column(days, "day", pa.array([DAY + timedelta(7)] * len(later), pa.date32()))
    rows = {row["cluster"]: row for row in fit_layers(later, SPEC, first).lineage().to_pylist()}
    assert {rows[letter]["since"] for letter in "ABC"} == {DAY} and rows["D"]["since"] == DAY + timedelta(7)
    assert all(row["stability"] >= 0.75 and "against" in row["differences"] for row in rows.values())


def test_a_stage_that_is_empty_this_week_keeps_its_clusters_as_they_are(first: LayerModels) -> None:
    other = groups(CENTRES)
    column = other.column_names.index("stage")
    refit = fit_layers(other.set_column(column, "stage", pa.array(["star"] * len(other))), SPEC, first)
    kept = refit.find("active", "rhythm")
    assert kept is not None and kept.centres == first.models[0].centres
    assert {event.event for event in kept.events} == {"continued"}


def test_one_cluster_does_not_take_the_letter_of_one_that_is_gone(first: LayerModels) -> None:
    without_a = replace(first.models[0], letters=("D", "B", "C"), letters_used=("A", "B", "C", "D"))
    one = SegmentSpec((replace(LAYER, k=1),), min_cluster_customers=20)
    refit = fit_layers(groups(CENTRES), one, replace(first, models=(without_a,)))
    assert refit.models[0].letters[0] not in ("A",)
    assert refit.models[0].reason == Reason(Code.ASKED_FOR, {"asked": 1})


@pytest.mark.parametrize("value", [1.0, None])
def test_one_cluster_of_customers_who_are_all_alike_takes_no_used_letter_either(
    first: LayerModels, value: float | None
) -> None:
    without_a = replace(first.models[0], letters=("D", "B", "C"), letters_used=("A", "B", "C", "D"))
    table = groups(CENTRES)
    for name in FEATURES:
        column = pa.array([value] * len(table), pa.float64())
        table = table.set_column(table.column_names.index(name), name, column)
    refit = fit_layers(table, SPEC, replace(first, models=(without_a,)))
    assert refit.models[0].kind == "one" and refit.models[0].letters[0] != "A"


def test_a_model_of_before_letters_had_days_is_still_read_and_its_letters_have_none(
    first: LayerModels, tmp_path: Path
) -> None:
    first.save(tmp_path)
    stored = json.loads((tmp_path / "layers.json").read_text())
    for model in stored["models"]:
        del model["since"]
    (tmp_path / "layers.json").write_text(json.dumps(stored))
    old = LayerModels.load(tmp_path)
    refit = fit_layers(groups({**CENTRES, "n": (9.0, 9.0)}), SPEC, old)
    assert old.models[0].since == () and refit.models[0].since == ("", "", "", str(DAY))


def test_settings_of_membership_come_into_force_without_a_new_cut(first: LayerModels) -> None:
    loose = SegmentSpec(
        (replace(LAYER, weekly_switch_probability=0.3, membership_threshold=0.4),), min_cluster_customers=20
    )
    adapted = with_settings(first, loose)
    assert adapted.models[0].layer.weekly_switch_probability == 0.3 and adapted.layers == loose.layers
    assert adapted.models[0].centres == first.models[0].centres


def test_a_name_that_an_earlier_version_stored_belongs_to_the_family_of_its_feature() -> None:
    names = Names({
        ("active", "value.A"): "high lifetime value, surer to stay",
        ("active", "predicted.B"): "less likely to stay, frequent",
    })  # fmt: skip
    assert names["active/value.A/predicted.B"] == "Active: high lifetime value, surer to stay · frequent"
