"""Claims about exposures that follow one another: a later one's effect is never attributed to an earlier one."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from ml.actions import Action, ActionPolicy
from ml.actions.estimation import _later
from tests.ml.action_worlds import Fitted, Log, facts_of, fitted, spending, waves_by_lot

SPEC = ActionPolicy(actions=(Action("gift", cost=1.0),))
EFFECT = 25.0


def waves(seed: int, days: tuple[int, ...] = (70, 80, 90, 100), **more: object) -> Fitted:
    facts, log = waves_by_lot(seed, days, customers=3_000, **more)  # type: ignore[arg-type]
    return fitted(facts, log, 149, SPEC)


@pytest.mark.parametrize("campaign", [None, "newsletter"])
def test_what_later_waves_do_to_the_treated_is_not_the_effect_of_the_first(campaign: str | None) -> None:
    """Waves every ten days by lot: were only controls to stay untouched afterwards, 25 would be found as 34."""
    fit = waves(11, campaign=campaign)
    evidence = fit.evidence()
    assert evidence.design == "observational" and not evidence.blocking
    assert abs(evidence.effect - EFFECT) < 3 * evidence.standard_error and evidence.standard_error < 2


def test_treated_customers_who_get_a_reminder_have_no_controls() -> None:
    """Nine of ten of those whom the first wave reached get a reminder; of the others, nearly nobody gets anything."""
    fit = waves(12, (70, 80), again=0.9, chance=0.05)
    assert fit.result.model is None or not fit.supported(SPEC)
    if fit.result.model is not None:
        assert fit.code(SPEC) == "later_exposures_differ"
        words = fit.evidence().blocking[0].words("gift")
        assert words.startswith("later exposures differ between the arms of gift: ")


def test_randomised_waves_drawn_independently_need_no_gap_between_them() -> None:
    fit = waves(13, randomised=True)
    assert fit.evidence().design == "randomised" and fit.evidence().findings == ()
    assert abs(fit.evidence().effect - EFFECT) < 3 * fit.evidence().standard_error


def test_a_randomised_group_that_gets_every_wave_does_not_identify_the_effect_of_one() -> None:
    """The same half gets a mail every ten days, the other half never: the difference is that of a whole programme."""
    random = np.random.default_rng(14)
    amounts, _ = spending(random, 2_000, 150)
    gets = random.random(2_000) < 0.5
    for when in (70, 80, 90):
        amounts[gets, when + 3] += EFFECT
    who = np.tile(np.arange(2_000), 3)
    action = np.where(gets[who], "gift", "control")
    more = {"randomised": np.full(6_000, True), "propensity": np.full(6_000, 0.5)}
    log = Log(who, np.repeat([70, 80, 90], 2_000), action, more).table()
    fit = fitted(facts_of(amounts, log), log, 149, SPEC)
    assert not fit.supported(SPEC)
    assert fit.code(SPEC) == "later_exposures_differ", fit.evidence().findings
    figures = fit.evidence().blocking[0].figures
    assert figures["treated"] == pytest.approx(1.0, abs=0.1) and figures["control"] == 0


def test_one_sending_over_several_days_keeps_its_controls() -> None:
    """A campaign goes out over four days, a quarter of its customers a day: those still to come are no controls."""
    random = np.random.default_rng(15)
    amounts, _ = spending(random, 3_000, 150)
    gets = np.flatnonzero(random.random(3_000) < 0.4)
    when = 70 + random.integers(0, 4, len(gets))
    amounts[gets, when + 3] += EFFECT
    log = Log(gets, when, np.full(len(gets), "gift"), {"campaign_id": np.full(len(gets), "spring")}).table()
    fit = fitted(facts_of(amounts, log), log, 149, SPEC)
    assert not fit.evidence().blocking and abs(fit.evidence().effect - EFFECT) < 3 * fit.evidence().standard_error


def test_where_nobody_lies_inside_the_overlap_later_exposures_are_unclear_and_have_no_figures() -> None:
    arm, later = np.repeat([True, False], 50), np.repeat([1, 0], 50)
    rows = pd.DataFrame({"exposures_after": later})
    chance = np.where(arm, 0.999, np.nan)  # missing where no other fold can predict it
    (finding,) = _later(rows, (arm, ~arm), chance, np.arange(100), True, SPEC)
    assert (finding.code, finding.figures) == ("later_exposures_unclear", {})
    assert json.loads(json.dumps(finding.stored(), allow_nan=False)) == finding.stored()
