"""How often the three largest customers change a family's decision, in bootstrap weeks with and without them.

A week is a resample of the customers. The decision is made on it, and again without its three largest customers.

Belongs here: the decision of each family as a function of the customers in the sample, with models fitted once. Does
not belong here: the businesses (see `wholesale`), and the share that is required (see the tests).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import layers, value
from ml.actions.cells import cells_of
from ml.actions.learners import Scores, folds_of
from ml.actions.response import ActionEvidence, ActionResponseModel
from ml.actions.spec import ActionPolicy
from ml.actions.training import _Contest as ActionContest
from ml.choice import decide
from ml.columns import numbers
from ml.engine import DuckDB
from ml.features import CustomerHistory
from ml.journeys.training import _contest as transition_contest
from ml.journeys.transitions import TransitionModel, TransitionSpec, fit, transition_counts
from ml.layers import training as layer_training
from ml.layers.inputs import sort_inputs
from ml.layers.layer_models import LayerModels
from ml.lifecycle import LifecycleModel, LifecycleSpec
from ml.lifecycle import train as train_lifecycle
from ml.restate import Models, Specs, restate
from ml.value import ValueModel, ValueSpec
from ml.value import training as value_training
from ml.value.contest import Contest

Decision = Callable[[np.ndarray], str]
LARGEST = 3


@dataclass(frozen=True)
class Steadiness:
    """How many of the weeks were decided alike with and without the largest, and what was decided in them."""

    same: int
    weeks: int
    decisions: Counter[str]

    @property
    def share(self) -> float:
        return self.same / self.weeks


def steadiness(decision: Decision, spend: np.ndarray, *, weeks: int, seed: int = 0) -> Steadiness:
    """Take the decision in every week, with and without the largest by `spend`, shape (customers,)."""
    rng = np.random.default_rng(seed)
    same, decisions = 0, Counter[str]()
    for _ in range(weeks):
        who = rng.integers(0, len(spend), len(spend))
        with_all = decision(who)
        same += with_all == decision(np.delete(who, np.argsort(-spend[who], kind="stable")[:LARGEST]))
        decisions[with_all] += 1
    return Steadiness(same, weeks, decisions)


# ── value ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ValueWeek:
    """A contest of the value family: what this week's backtest fit and an earlier model predict for the holdout."""

    contest: Contest
    model: ValueModel
    incumbent: ValueModel
    theirs: np.ndarray
    spec: ValueSpec

    @classmethod
    def of(cls, facts: CustomerHistory, as_of: date, spec: ValueSpec, weeks_ago: int = 4) -> ValueWeek:
        """Fit twice, `weeks_ago` apart."""
        before = as_of - timedelta(days=7 * weeks_ago)
        incumbent = value.train(facts.until(before), before, spec, None).model
        kept: list[Contest] = []
        by_backtest = Contest.by_backtest

        def noted(*args: Any) -> Contest:
            kept.append(by_backtest(*args))
            return kept[-1]

        with patch.object(Contest, "by_backtest", noted):
            model = value.train(facts.until(as_of), as_of, spec, None).model
        assert isinstance(model, ValueModel)
        assert isinstance(incumbent, ValueModel)
        theirs = value_training._incumbent_spend(incumbent, spec, kept[-1])
        assert theirs is not None
        return cls(kept[-1], model, incumbent, theirs, spec)

    @property
    def spend(self) -> np.ndarray:
        return numbers(self.contest.realised["spend"])

    def restricted_to(self, who: np.ndarray) -> Contest:
        """The contest among some customers."""
        rows = pa.array(who)
        predicted = {
            method: {name: values[who] for name, values in outputs.items()}
            for method, outputs in self.contest.predicted.items()
        }
        snapshot, realised = self.contest.snapshot.take(rows), self.contest.realised.take(rows)
        return replace(self.contest, snapshot=snapshot, realised=realised, predicted=predicted)

    def decision(self, *, has_incumbent: bool) -> Decision:
        """What is decided among some customers, choosing the method again."""

        def decided(who: np.ndarray) -> str:
            contest = self.restricted_to(who)
            model = replace(self.model, method=contest.best())
            theirs, incumbent = (self.theirs[who], self.incumbent) if has_incumbent else (None, None)
            return value_training._decide(contest, model, incumbent, theirs, self.spec)[0].decision

        return decided

    def by_squared_error(self, *, has_incumbent: bool) -> Decision:
        """What RMSE would decide: its lowest method, dropped if 2 % (in force: 10 %) worse than the baseline."""

        def rmse(actual: np.ndarray, expected: np.ndarray) -> float:
            return float(np.sqrt(np.mean((actual - expected) ** 2)))

        def decided(who: np.ndarray) -> str:
            contest, came = self.restricted_to(who), self.spend[who]
            mine = min(rmse(came, out["expected_spend"]) for out in contest.predicted.values())
            plain, theirs = rmse(came, contest.baseline["expected_spend"]), rmse(came, self.theirs[who])
            if not has_incumbent:
                return "none" if mine > 1.02 * plain else "challenger"
            if min(mine, theirs) > 1.1 * plain:
                return "none"
            return "challenger" if (theirs - mine) / theirs >= self.spec.margin else "incumbent"

        return decided


# ── lifecycle ─────────────────────────────────────────────────────────────────────────────────────────────────────


def lifecycle_decision(facts: CustomerHistory, as_of: date, spec: LifecycleSpec, incumbent: LifecycleModel) -> Decision:
    """The whole fit, on the facts of some customers (numbers into `customers_of`)."""
    days = DuckDB(threads=1).query("SELECT * FROM d ORDER BY customer_id, day", d=facts.until(as_of).customer_days)
    _, starts, counts = np.unique(
        np.array(days["customer_id"].to_pylist(), dtype=str), return_index=True, return_counts=True
    )

    def decided(who: np.ndarray) -> str:
        lengths = counts[who]
        offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = days.take(pa.array(np.repeat(starts[who], lengths) + offsets))
        names = pa.array([f"c{number:06d}" for number in range(len(who))]).take(
            pa.array(np.repeat(np.arange(len(who)), lengths))
        )
        position = rows.column_names.index("customer_id")
        drawn = replace(facts, customer_days=rows.set_column(position, "customer_id", names))
        training = train_lifecycle(drawn, as_of, spec, incumbent, value_model=None, value_spec=ValueSpec())
        return training.decision

    return decided


def spend_of(facts: CustomerHistory, as_of: date) -> np.ndarray:
    """What each customer has spent by a day, by customer."""
    sums = DuckDB(threads=1).query(
        "SELECT customer_id, SUM(amount) AS spend FROM d WHERE day <= $as_of GROUP BY customer_id ORDER BY customer_id",
        {"as_of": as_of},
        d=facts.customer_days,
    )
    return numbers(sums["spend"])


# ── layers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class LayerWeek:
    """A contest of the layers: the strings of two past days under this week's clusters and an earlier week's."""

    texts: tuple[np.ndarray, np.ndarray]  # incumbent, challenger: of first and later day, one row a customer
    texts_later: tuple[np.ndarray, np.ndarray]
    outcomes: np.ndarray  # log spend after the first and the later day, shape (customers, 2)
    has_drifted: bool
    margin: float

    @classmethod
    def of(cls, facts: CustomerHistory, as_of: date, models: Models, weeks_ago: int = 8) -> LayerWeek:
        """Fit twice; the customers are those who were known on both past days."""
        spec = models.specs.segments
        before = as_of - timedelta(days=7 * weeks_ago)
        incumbent = layers.train(facts.until(before), before, spec, None, models=models).model
        assert isinstance(incumbent, LayerModels)
        refit = layers.train(facts.until(as_of), as_of, spec, incumbent, models=models).model
        assert isinstance(refit, LayerModels)
        first, later = layer_training.evaluation_days(as_of, spec.outcome_window_days)
        pairs = facts.known([first, later])
        inputs = sort_inputs(models.inputs_of(facts.engine, facts.snapshot(pairs)))
        spend = facts.outcomes(inputs.select(["customer_id", "day"]), spec.outcome_window_days, until=as_of)["spend"]
        contest = layer_training._Contest(spec.layers, None)
        texts = [np.array(contest.strings(inputs, one).to_pylist(), dtype=str) for one in (incumbent, refit)]
        day = np.array(inputs["day"].to_pylist())
        names = np.array(inputs["customer_id"].to_pylist(), dtype=str)
        both = np.intersect1d(names[day == first], names[day == later])
        parts = []
        for one in (first, later):
            rows = np.flatnonzero(day == one)
            parts.append(rows[np.searchsorted(names[rows], both)])
        log_spend = np.log1p(np.maximum(numbers(spend), 0))
        return cls(
            (texts[0][parts[0]], texts[1][parts[0]]),
            (texts[0][parts[1]], texts[1][parts[1]]),
            np.column_stack([log_spend[part] for part in parts]),
            any(model.drift for model in refit.models),
            spec.margin,
        )

    @property
    def spend(self) -> np.ndarray:
        return np.asarray(np.expm1(self.outcomes).sum(axis=1))

    def decision(self, who: np.ndarray) -> str:
        """What is decided among some customers, estimating group means again."""
        taught = self.outcomes[who, 0]
        actual, taught = (
            layer_training.winsorised(self.outcomes[who, 1], taught),
            layer_training.winsorised(taught, taught),
        )
        predictions = [
            layers.apply_means(layers.shrunken_means(first[who], taught), later[who])
            for first, later in zip(self.texts, self.texts_later, strict=True)
        ]
        gain = layer_training.explained_gain(actual, *predictions)
        scores = layers.r2(actual, predictions[1]), layers.r2(actual, predictions[0])
        return "challenger" if self.has_drifted else decide("r2", *scores, gain, margin=self.margin).decision


# ── transitions ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class TransitionWeek:
    """A contest of the transitions: each customer's newest step, under the backtest fit and an earlier model."""

    steps: np.ndarray  # number of the cell of each customer
    cells: pa.Table
    backtest: TransitionModel
    incumbent: TransitionModel
    spend: np.ndarray

    @classmethod
    def of(
        cls, facts: CustomerHistory, as_of: date, models: Models, spec: TransitionSpec, weeks_ago: int = 4
    ) -> TransitionWeek:
        """Count, fit twice, and hold the newest step out."""
        days = [as_of - timedelta(days=spec.step_days * back) for back in range(spec.weeks, -1, -1)]
        states = restate(facts.engine, facts.snapshot(facts.known(days)), models)
        stages = models.specs.lifecycle.stage_names()
        cells = transition_counts(facts.engine, states, spec.step_days)
        newest = as_of - timedelta(days=spec.step_days)
        backtest = fit(cells.filter(pc.less(cells["day"], newest)), stages, spec)
        old = newest - timedelta(days=7 * weeks_ago)
        incumbent = fit(cells.filter(pc.less(cells["day"], old)), stages, spec)
        holdout = cells.filter(pc.equal(cells["day"], newest))
        pairs = facts.engine.query(
            """
            SELECT a.customer_id AS customer_id, a.micro_segment AS micro_segment, b.stage AS to_stage, a.spend AS spend
            FROM states AS a JOIN states AS b ON a.customer_id = b.customer_id
            WHERE a.day = $newest AND b.day = $as_of ORDER BY a.customer_id
            """,
            {"newest": newest, "as_of": as_of},
            states=states,
        )
        position = {key: number for number, key in enumerate(_moves(holdout))}
        steps = [position[key] for key in _moves(pairs)]
        return cls(np.array(steps), holdout, backtest, incumbent, np.nan_to_num(numbers(pairs["spend"])))

    def decision(self, who: np.ndarray) -> str:
        """What is decided among some customers."""
        counts = np.bincount(self.steps[who], minlength=self.cells.num_rows)
        position = self.cells.column_names.index("customers")
        cells = self.cells.set_column(position, "customers", pa.array(counts))
        return transition_contest(self.backtest, self.incumbent, cells, "log_loss_7d", TransitionSpec())[0].decision


def _moves(table: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(table["micro_segment"].to_pylist(), table["to_stage"].to_pylist(), strict=True)


# ── action response ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ActionWeek:
    """A contest of the action response: exposures of heavy-tailed customers, whom the incumbent knew under the
    micro-segments of its week. (Exposures that it has not seen put the challenger in force without a contest.)"""

    scores: Scores
    micro_segments: np.ndarray
    incumbent: ActionResponseModel
    spec: ActionPolicy

    @classmethod
    def of(cls, customers: int = 5_000, *, seed: int = 0, effect: float = 20.0, moved: float = 0.1) -> ActionWeek:
        """A randomised experiment at one half; spend is lognormal, and one of four micro-segments responds.

        Parameters
        ----------
        effect : of the action in that micro-segment, currency
        moved : share of the customers who were in any other micro-segment when the incumbent was fitted
        """
        spec, rng = ActionPolicy(), np.random.default_rng(seed)
        scores, texts = _experiment(customers, effect, rng, spec)
        old = np.where(rng.random(customers) < moved, rng.permutation(texts), texts)
        evidence = ActionEvidence("randomised", "not needed", *scores.overall(), None, None, 1.0, None, 1.0, 0.0, 0.0)
        cells = {"mail": cells_of(scores, old, spec)}
        model = ActionResponseModel({"mail": evidence}, cells, {}, (), date(2024, 1, 1), customers)
        return cls(scores, texts, model, spec)

    @property
    def spend(self) -> np.ndarray:
        return self.scores.outcome

    def decision(self, who: np.ndarray) -> str:
        """What is decided among some customers, estimating cells again."""
        per_row = ("score", "propensity", "treated", "in_overlap", "outcome", "fold")
        drawn = replace(
            self.scores, customer=np.arange(len(who)), **{name: getattr(self.scores, name)[who] for name in per_row}
        )
        contest = ActionContest.of({"mail": drawn}, {"mail": self.micro_segments[who]}, self.incumbent, self.spec)
        assert contest.gain is not None
        assert contest.incumbent is not None
        return decide(
            "cell_loss", contest.challenger, contest.incumbent, contest.gain, margin=self.spec.margin
        ).decision


def _experiment(
    customers: int, effect: float, rng: np.random.Generator, spec: ActionPolicy
) -> tuple[Scores, np.ndarray]:
    import pandas as pd

    texts = np.array([f"active/value.{letter}" for letter in "ABCD"])[rng.integers(0, 4, customers)]
    expected = np.exp(rng.normal(2, 1, customers))
    treated = rng.random(customers) < 0.5
    came = expected * np.exp(rng.normal(-2, 2, customers)) * (rng.random(customers) < 0.5)
    came = came + treated * (texts == "active/value.A") * rng.exponential(max(effect, 1e-9), customers)
    score = np.where(treated, 2.0, -2.0) * (came - expected / 2)
    fold = folds_of(pd.Series([f"c{number}" for number in range(customers)]), spec)
    everybody = np.ones(customers, dtype=bool)
    scores = Scores(score, np.full(customers, 0.5), treated, everybody, came, np.arange(customers), fold, np.nan)
    return scores, texts


def without_models(spec: layers.SegmentSpec | None = None) -> Models:
    """Baselines and presets of every family, with the default layers."""
    return Models(None, None, None, Specs(ValueSpec(), LifecycleSpec(), spec or layers.SegmentSpec()))
