"""Everything that is fitted on one set of snapshots: BG/NBD, LightGBM, trees over both, and how they are blended.

Three members predict what a customer will spend. `bgnbd` reads its rhythm and needs no label. `lightgbm` reads the
whole snapshot and knows what became of customers like it. `corrected` begins at the mean of BG/NBD and the persistence
baseline, and learns the factor from there. They err in different ways, so their mean is better than each of them; their
weights are learnt from a holdout (see `weights`), and equal where there was none.

What trees learn of customers *among each other* holds from month to month; what they learn of the business's *level*
is a season that has passed. So the members are brought to one level before they are averaged: the geometric mean of
two estimates, that of `corrected`, which knows how earlier expectations turned out, and that of BG/NBD and the
persistence baseline, which know only today (of the latter alone, where the season is known; then LightGBM alone is
brought to it too). The factors are computed once, on the snapshot the fit is made for.

All of this happens in ordinary days (see `season`): the season is taken out of snapshots and outcomes first, and put
back into what is expected.

Belongs here: the members, the factors, the weights. Does not belong here: recipes (`boosted`), days and decisions
(`training`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.boosting import Binned, run_in_parallel
from ml.columns import numbers
from ml.value.boosted import OBJECTIVES, Head, recipe, varies
from ml.value.closed_form import INPUTS, ClosedForm, recent_spend
from ml.value.encoding import Encoder
from ml.value.season import Season, days_of

Method = Literal["blend", "lightgbm", "bgnbd"]
MEMBERS = ("bgnbd", "lightgbm", "corrected")
EQUAL_WEIGHTS = dict.fromkeys(MEMBERS, 1 / len(MEMBERS))
FORMER_NAMES = {"lifted": "corrected"}  # members as earlier versions stored them
# Sums since the first purchase: on a later day they are larger than any that the trees were trained on.
LIFETIME = ("known_days", "tenure_days", "orders", "lines", "spend", "margin", "refunds", "purchase_days")
DERIVED = (
    "expected by BG/NBD",
    "chance not to have left",
    "spend rate",
    "silence in gaps",
    "recent against usual spend",
)
MIN_EXPECTED_SHARE = 0.01  # of the mean expectation: a factor on nothing would be nothing
MAX_FACTOR = 3.0  # beyond this something else is wrong
Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Fit:
    """What was learnt as of a day.

    Parameters
    ----------
    closed : BG/NBD and Gamma-Gamma as of that day
    encoder, heads : LightGBM's `alive`, `orders` and `spend`, and `corrected`; None and empty if no outcome had matured
    factors : what brings each member to the common level
    weights : of each member in the blend
    floor : the least expectation that is corrected, currency
    first_day : of the business
    season : as it was known on that day
    """

    horizon_days: int
    closed: ClosedForm
    encoder: Encoder | None = None
    heads: Mapping[str, Head] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(MEMBERS, 1.0))
    weights: Mapping[str, float] = field(default_factory=lambda: dict(EQUAL_WEIGHTS))
    floor: float = 1e-9
    first_day: date | None = None
    season: Season = field(default_factory=Season)

    @classmethod
    def learn(
        cls,
        snapshot: pa.Table,
        outcomes: pa.Table,
        now: pa.Table,
        *,
        horizon_days: int,
        seed: int,
        first_day: date | None = None,
        season: Season | None = None,
    ) -> Self:
        """Fit on features and outcomes of the same rows, both ordered by day and customer.

        Net revenue below 0 (more refunds than sales) is learnt as 0: a customer is never expected to cost money.

        Parameters
        ----------
        snapshot, outcomes : of matured days; without rows only the closed forms are fitted
        now : the snapshot of the day that the fit is made for, on or after all of these
        season : as it was known on that day; None if none is known
        """
        season = season or Season()
        snapshot, now = season.ordinary(snapshot), season.ordinary(now)
        outcomes = season.ordinary_outcomes(outcomes, horizon_days)
        spend = np.maximum(numbers(outcomes["spend"]), 0.0)
        orders = numbers(outcomes["orders"])
        closed = ClosedForm.learn(now, _never_bought(snapshot, spend, orders))
        if not snapshot.num_rows:
            return cls(horizon_days, closed, first_day=first_day, season=season)
        encoder = Encoder.learn(snapshot)
        matrix = encoder.matrix(snapshot, first_day)
        targets = {"alive": (orders > 0).astype(float), "orders": orders, "spend": spend}
        varying = [name for name in OBJECTIVES if varies(targets[name])]
        heads = {name: Head.of(None, float(target.mean())) for name, target in targets.items() if name not in varying}
        jobs: list[Callable[[], Head]] = []
        if varying:
            categorical = range(len(encoder.numeric), len(encoder.columns))
            data = Binned(matrix, categorical=categorical, params=recipe(len(matrix)))
            jobs += [partial(Head.fit, data, targets[name], objective=OBJECTIVES[name], seed=seed) for name in varying]
        start = cls(horizon_days, closed, encoder, heads, first_day=first_day, season=season)
        earlier = start._earlier(snapshot)
        if varies(spend):
            expected = start._mixed(snapshot, earlier)
            correction_matrix = start._correction_matrix(snapshot, matrix, earlier)
            expected = np.maximum(expected, _floor(expected))
            jobs.append(partial(Head.fit_correction, correction_matrix, spend, expected, seed=seed))
        else:
            heads["corrected"] = Head.of(None, 1.0 if spend.any() else 0.0)
        names = [*varying, *(["corrected"] if varies(spend) else [])]
        heads |= dict(zip(names, run_in_parallel(jobs, len(matrix)), strict=True))
        expected = start._mixed(now, closed.outputs(now, horizon_days))
        fit = replace(start, heads=heads, floor=_floor(expected))
        return replace(fit, factors=fit._factors(now))

    # ── predicting ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def inputs(self) -> list[str]:
        """The snapshot's columns that a prediction needs."""
        columns = self.encoder.columns if self.encoder else []
        return [*columns, *(name for name in INPUTS if name not in columns)]

    def methods(self) -> tuple[Method, ...]:
        """The methods that it can predict with, the fullest first."""
        return ("blend", "lightgbm", "bgnbd") if self.encoder else ("bgnbd",)

    def predict(self, table: pa.Table, method: Method = "blend") -> Outputs:
        """p_alive, expected_orders and expected_spend of each row; none of them below 0."""
        return self.candidates(table, (method,))[method]

    def candidates(self, table: pa.Table, methods: tuple[Method, ...] | None = None) -> dict[Method, Outputs]:
        """The predictions of several methods at once (all, if None)."""
        methods = self.methods() if methods is None else methods
        days, table = days_of(table) if "day" in table.column_names else None, self.season.ordinary(table)
        closed = self.closed.outputs(table, self.horizon_days)
        by_closed = {name: values for name, values in closed.items() if name != "p_stays"}
        if self.encoder is None:
            return {"bgnbd": self._in_season(by_closed, days)}
        outputs: dict[Method, Outputs] = {"bgnbd": by_closed}
        if set(methods) - {"bgnbd"}:
            matrix = self.encoder.matrix(table, self.first_day)
            heads = {name: np.maximum(self.heads[name].predict(matrix), 0.0) for name in OBJECTIVES}
            outputs["lightgbm"] = {
                "p_alive": np.minimum(heads["alive"], 1.0),
                "expected_orders": heads["orders"],
                "expected_spend": heads["spend"] * (self.factors["lightgbm"] if self.season.state == "learnt" else 1.0),
            }
        if "blend" in methods:
            members = {
                "bgnbd": closed["expected_spend"],
                "lightgbm": heads["spend"],
                "corrected": self._corrected(table, matrix, closed),
            }
            share = self.weights["bgnbd"]
            outputs["blend"] = {
                name: share * by_closed[name] + (1 - share) * outputs["lightgbm"][name] for name in by_closed
            } | {"expected_spend": self._blended(members)}
        return {method: self._in_season(outputs[method], days) for method in methods}

    def _in_season(self, outputs: Outputs, days: np.ndarray | None) -> Outputs:
        """Turn what is expected of ordinary days into what is expected of the days ahead."""
        if self.season.is_flat or days is None:
            return outputs
        factor = self.season.mean_ahead(days, self.horizon_days, "orders")
        return {
            "p_alive": 1 - (1 - outputs["p_alive"]) ** factor,
            "expected_orders": outputs["expected_orders"] * factor,
            "expected_spend": outputs["expected_spend"] * self.season.mean_ahead(days, self.horizon_days, "spend"),
        }

    def members(self, table: pa.Table) -> dict[str, np.ndarray]:
        """Expected spend of each row over ordinary days by each member, before they are brought to one level."""
        return self._members(self.season.ordinary(table))

    def _members(self, table: pa.Table) -> dict[str, np.ndarray]:
        assert self.encoder is not None
        closed = self.closed.outputs(table, self.horizon_days)
        matrix = self.encoder.matrix(table, self.first_day)
        return {
            "bgnbd": closed["expected_spend"],
            "lightgbm": np.maximum(self.heads["spend"].predict(matrix), 0.0),
            "corrected": self._corrected(table, matrix, closed),
        }

    def _blended(self, members: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(sum(self.weights[name] * self.factors[name] * members[name] for name in MEMBERS))

    def _corrected(self, table: pa.Table, matrix: np.ndarray, closed: Mapping[str, np.ndarray]) -> np.ndarray:
        expected = np.maximum(self._mixed(table, closed), self.floor)
        result: np.ndarray = expected * self.heads["corrected"].predict(self._correction_matrix(table, matrix, closed))
        return result

    def _mixed(self, table: pa.Table, closed: Mapping[str, np.ndarray]) -> np.ndarray:
        """The mean of BG/NBD and the persistence baseline; of those who never bought, what such customers spent."""
        recent = recent_spend(table, self.horizon_days, self.first_day)
        never = np.nan_to_num(numbers(table["purchase_days"])) <= 0
        return np.where(never, closed["expected_spend"], (closed["expected_spend"] + recent) / 2)

    def _today(self, table: pa.Table, closed: Mapping[str, np.ndarray]) -> np.ndarray:
        """The level by today's data alone. Once the season is out of it, the persistence baseline is as good as any;
        before, it is averaged with BG/NBD, which reads a customer's whole life."""
        if self.season.state != "learnt":
            return self._mixed(table, closed)
        never = np.nan_to_num(numbers(table["purchase_days"])) <= 0
        return np.where(never, closed["expected_spend"], recent_spend(table, self.horizon_days, self.first_day))

    def _correction_matrix(self, table: pa.Table, matrix: np.ndarray, closed: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the correcting trees read: the snapshot without lifetime sums, and what BG/NBD makes of those."""
        assert self.encoder is not None
        positions = [position for position, name in enumerate(self.encoder.columns) if name not in LIFETIME]
        tenure, silence = numbers(table["tenure_days"]), numbers(table["recency_days"])
        days = numbers(table["purchase_days"])
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = numbers(table["spend"]) / np.maximum(tenure, 1.0) * self.horizon_days
            gap = np.where(days > 1, (tenure - silence) / (days - 1), np.nan)
            recent = recent_spend(table, self.horizon_days, self.first_day)
            derived = (
                closed["expected_spend"],
                np.where(days > 0, closed["p_stays"], np.nan),
                rate,
                silence / np.maximum(gap, 1.0),
                recent / np.maximum(rate, 1e-9),
            )
        return np.column_stack([matrix[:, positions], *derived])

    @property
    def correction_columns(self) -> list[str]:
        """Names of what the correcting trees read."""
        columns = self.encoder.columns if self.encoder else []
        return [*(name for name in columns if name not in LIFETIME), *DERIVED]

    def _earlier(self, snapshot: pa.Table) -> Outputs:
        """What closed forms predict for each training row, fitted as of its day: no label has been seen."""
        parts = []
        for day in sorted(pc.unique(snapshot["day"]).to_pylist()):
            rows = snapshot.filter(pc.equal(snapshot["day"], pa.scalar(day, pa.date32())))
            parts.append(ClosedForm.learn(rows, self.closed.never_bought).outputs(rows, self.horizon_days))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _factors(self, now: pa.Table) -> dict[str, float]:
        """The factor that brings each member's sum on `now` to the common level; 1 where a sum is 0."""
        sums = {name: float(expected.sum()) for name, expected in self._members(now).items()}
        closed = self.closed.outputs(now, self.horizon_days)
        level = float(np.sqrt(self._today(now, closed).sum() * sums["corrected"]))
        return {
            name: float(np.clip(level / total, 1 / MAX_FACTOR, MAX_FACTOR)) if total > 0 and level > 0 else 1.0
            for name, total in sums.items()
        }

    # ── storing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, folder: Path, prefix: str) -> dict[str, Any]:
        """Write the trees as files that begin with `prefix`, and return the rest as JSON has it."""
        for name, head in self.heads.items():
            if head.text is not None:
                (folder / f"{prefix}_{name}.txt").write_text(head.text, encoding="utf-8")
        return {
            "closed": self.closed.stored(),
            "numeric": list(self.encoder.numeric) if self.encoder else None,
            "vocabulary": {name: list(words) for name, words in self.encoder.vocabulary.items()}
            if self.encoder
            else {},
            "heads": {
                name: {"constant": head.constant, "has_trees": head.text is not None}
                for name, head in self.heads.items()
            },
            "factors": dict(self.factors),
            "weights": dict(self.weights),
            "floor": self.floor,
            "first_day": self.first_day.isoformat() if self.first_day else None,
            "season": self.season.stored(),
        }

    @classmethod
    def load(cls, folder: Path, prefix: str, stored: Mapping[str, Any], horizon_days: int) -> Self:
        """Read what `save` wrote, also under the names of earlier versions."""
        heads = {}
        for name, head in stored["heads"].items():
            text = (folder / f"{prefix}_{name}.txt").read_text(encoding="utf-8") if head["has_trees"] else None
            heads[FORMER_NAMES.get(name, name)] = Head.of(text, head["constant"])
        words = {name: tuple(listed) for name, listed in stored["vocabulary"].items()}
        return cls(
            horizon_days,
            ClosedForm.of(stored["closed"]),
            Encoder(tuple(stored["numeric"]), words) if stored["numeric"] is not None else None,
            heads,
            _with_current_names(stored["factors"]),
            _with_current_names(stored["weights"]),
            stored["floor"],
            date.fromisoformat(stored["first_day"]) if stored["first_day"] else None,
            Season.of(stored.get("season")),
        )


def _with_current_names(by_member: Mapping[str, float]) -> dict[str, float]:
    return {FORMER_NAMES.get(name, name): value for name, value in by_member.items()}


def _floor(expected: np.ndarray) -> float:
    return max(MIN_EXPECTED_SHARE * float(expected.mean()), 1e-9) if expected.size else 1e-9


def _never_bought(snapshot: pa.Table, spend: np.ndarray, orders: np.ndarray) -> tuple[float, float, float]:
    """Mean spend, orders and share with an order of matured rows whose customer had never bought; zeros without any."""
    never = np.nan_to_num(numbers(snapshot["purchase_days"])) <= 0
    if not never.any():
        return 0.0, 0.0, 0.0
    return float(spend[never].mean()), float(orders[never].mean()), float((orders[never] > 0).mean())
