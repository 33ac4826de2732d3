"""Claims about what `control` may be called: one definition, wherever exposures are read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ml.actions import Action, ActionPolicy, exposure_outcomes, maturity
from ml.tables import CONTROL, arm_of, is_control
from ml.tables.arms import may_be_control
from tests.ml.action_worlds import ENGINE, START, Log, day, facts_of, spending

SPEC = ActionPolicy(actions=(Action("gift", cost=1.0),))
SPELT = ("control", "Control", "CONTROL", "control ", "holdout", "Holdout", "hold-out", "none", "no e-mail",
         "No E-Mail", "placebo", "control_group", "Kontrollgruppe", "no contact", "untreated")  # fmt: skip


@pytest.mark.parametrize("value", SPELT)
def test_control_is_control_however_it_is_spelt(value: str) -> None:
    assert is_control(value) and arm_of(value) == CONTROL
    with pytest.raises(ValueError, match="cannot be called"):
        Action(value)


@pytest.mark.parametrize("value", ["", " ", "0", "no minimum order", "global control", "control B", "ohne Rabatt"])
def test_an_ambiguous_value_is_no_arm_until_it_is_declared(value: str) -> None:
    assert may_be_control(value) and arm_of(value) is None
    assert arm_of(value, (value,)) == value, "declared as an action, it is one"


@pytest.mark.parametrize("value", ["coupon", "Nonstop", "nocturne", "1", "mail", "🎁", "10% off", "controller"])
def test_other_words_are_actions(value: str) -> None:
    assert arm_of(value) == value


def log_of(value: str, size: int = 40) -> Log:
    """Every second customer gets a gift; of the others it is said, in some spelling, that they were left alone."""
    action = np.where(np.arange(size) % 2 == 0, "gift", value)
    return Log(np.arange(size), np.full(size, 60), action, {"randomised": np.full(size, True)})


@pytest.mark.parametrize("value", SPELT)
def test_every_spelling_gives_the_same_rows(value: str) -> None:
    amounts, _ = spending(np.random.default_rng(5), 40, 100)
    expected, spelt = (log_of(name).table() for name in ("control", value))
    facts = facts_of(amounts, spelt)
    rows = exposure_outcomes(facts, spelt, day(99), SPEC, start=START)
    assert rows.equals(exposure_outcomes(facts, expected, day(99), SPEC, start=START))
    assert sorted(set(rows["action"].to_pylist())) == ["control", "gift"]
    exposed = facts.snapshot_of(day(70)).to_pandas().set_index("customer_id")["exposures_28d"]
    assert exposed.sum() == 20, "who was left alone has no exposure among the features"


def test_an_ambiguous_value_is_left_out_and_one_sentence_names_it() -> None:
    amounts, _ = spending(np.random.default_rng(5), 40, 100)
    log = log_of("no minimum").table()
    facts = facts_of(amounts, log)
    assert set(exposure_outcomes(facts, log, day(99), SPEC, start=START)["action"].to_pylist()) == {"gift"}
    state = maturity(ENGINE, log, facts.customer_days, day(99), 28, START, ["gift"])
    assert "the action 'no minimum' may mean control or an action, so its rows take no part: map it" in state.words()
    declared = replace(SPEC, actions=(*SPEC.actions, Action("no minimum")))
    both = exposure_outcomes(facts, log, day(99), declared, start=START)
    assert set(both["action"].to_pylist()) == {"gift", "no minimum"}


def test_days_that_count_and_days_that_wait_are_listed() -> None:
    """A month with waves on days 0, 7, 14, 17, 21 and 24 and a week's window, judged on the last Sunday."""
    amounts, _ = spending(np.random.default_rng(21), 60, 30)
    days = np.repeat([0, 7, 14, 17, 21, 24], 10)
    log = Log(np.arange(60), days, np.where(np.arange(60) % 2, "gift", "control"), {"randomised": np.full(60, True)})
    spec = replace(SPEC, outcome_window_days=7)
    facts = facts_of(amounts, log.table())
    state = maturity(ENGINE, log.table(), facts.customer_days, day(26), 7, START, ["gift"])
    assert [str(one) for one in state.used] == ["2024-01-08", "2024-01-15", "2024-01-18"]
    used = exposure_outcomes(facts, log.table(), day(26), spec, start=START)["exposed_on"]
    assert sorted(set(used.to_pylist())) == list(state.used)
    assert state.words() == (
        "exposures of 3 of 6 days count; 2024-01-01 never, since nobody was known the day before; 2024-01-22, "
        "2024-01-25 once 7 days are over, the last on 2024-01-31"
    )
