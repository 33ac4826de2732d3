"""The transition model: the chance that a customer of a micro-segment is in a stage a week, or four, from now.

Belongs here: counting transitions between weekly snapshots, shrinking them up the string's prefixes, and judging the
result on the newest week. Does not belong here: recomputing past weeks under today's models (`ml.restate`) and writing
forecasts for customers (`ml.journeys.forecasts`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.engine import Engine, Input, sql_of
from ml.segments import prefixes
from ml.training import Decision, Training, decide

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ml.features import Facts
    from ml.restate import Models

Detail = Literal["micro_segment", "stage"]


@dataclass(frozen=True)
class TransitionSpec:
    """How transitions are learnt.

    Parameters
    ----------
    weeks : steps of history that are counted
    step_days : the clock of the chain
    horizons : days ahead that are forecast; multiples of `step_days`
    prior_strength : how many transitions a prefix counts for when the next longer string is estimated
    stage_prior_strength : the same for everybody's transitions when a stage's are estimated
    margin : share by which a new fit must beat last week's on the newest week's log-loss
    min_customers : transitions below which there is no model
    max_rows : rows of history read at most; above it a fixed sample of the customers is taken
    rule_stages : stages that end by the calendar; what micro-segments add is also reported without them
    bootstraps, seed : for the interval of what micro-segments add to stages, and the sample
    """

    weeks: int = 12
    step_days: int = 7
    horizons: tuple[int, ...] = (7, 28)
    prior_strength: float = 100.0
    stage_prior_strength: float = 10.0
    margin: float = 0.005
    min_customers: int = 200
    max_rows: int = 1_000_000
    rule_stages: tuple[str, ...] = ("new", "reengaged")
    bootstraps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weeks < 1 or self.step_days < 1:
            raise ValueError("weeks and step_days must be at least 1")
        if self.prior_strength <= 0 or self.stage_prior_strength <= 0:
            raise ValueError("prior strengths must be above 0")
        for horizon in self.horizons:
            _steps(horizon, self.step_days)


def _steps(horizon: int, step_days: int) -> int:
    if horizon < step_days or horizon % step_days:
        raise ValueError(f"a horizon of {horizon} days is not a multiple of the {step_days}-day step")
    return horizon // step_days


@dataclass(frozen=True)
class TransitionModel:
    """A Markov chain of order 1 over stages whose first step knows the micro-segment.

    A micro-segment's row is its own counts plus `prior_strength` times the row of its prefix, and so on up to the
    stage's row, which is drawn to everybody's: stay with the overall chance of staying, else go where others are. So a
    micro-segment nobody has seen takes the row of its longest known prefix. Later steps follow the stages' rows.

    Parameters
    ----------
    stages : in the order of every row
    counts : micro-segment to the customers that went to each stage
    detail : `stage` if micro-segments did not tell more than their stage when this was fitted
    """

    stages: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    step_days: int = 7
    horizons: tuple[int, ...] = (7, 28)
    prior_strength: float = 100.0
    stage_prior_strength: float = 10.0
    detail: Detail = "micro_segment"

    @cached_property
    def _sums(self) -> dict[str, NDArray[Any]]:
        """Counts of every string and every prefix of one."""
        sums: dict[str, NDArray[Any]] = {}
        for text in sorted(self.counts):
            for prefix in prefixes(text):
                sums[prefix] = sums.get(prefix, np.zeros(len(self.stages))) + np.asarray(self.counts[text], dtype=float)
        return sums

    @cached_property
    def _totals(self) -> NDArray[Any]:
        """Stage-to-stage counts, (stages, stages)."""
        nothing = np.zeros(len(self.stages))
        return np.array([self._sums.get(stage, nothing) for stage in self.stages]).reshape(-1, len(self.stages))

    @cached_property
    def marginal(self) -> NDArray[Any]:
        """Where a customer is next, whoever it is, (stages,): order 0."""
        arrivals = self._totals.sum(axis=0) + 0.5
        return arrivals / arrivals.sum()

    @cached_property
    def staying(self) -> NDArray[Any]:
        """The same chance of staying for every stage, else where others are, (stages, stages)."""
        size = len(self.stages)
        if size == 1:
            return np.ones((1, 1))
        stay = (np.trace(self._totals) + 1) / (self._totals.sum() + 2)
        elsewhere = np.tile(self.marginal, (size, 1)) * (1 - np.eye(size))
        return stay * np.eye(size) + (1 - stay) * elsewhere / elsewhere.sum(axis=1, keepdims=True)

    @cached_property
    def stage_matrix(self) -> NDArray[Any]:
        """P, (stages, stages): the chance to be in the column's stage one step after the row's."""
        strength = self.stage_prior_strength
        return (self._totals + strength * self.staying) / (self._totals.sum(axis=1, keepdims=True) + strength)

    def row(self, micro_segment: str) -> NDArray[Any]:
        """The chance of each stage one step from now, (stages,); adds up to 1."""
        stage, *longer = prefixes(micro_segment)
        if stage not in self.stages:
            return self.marginal
        row = self.stage_matrix[self.stages.index(stage)]
        for prefix in longer if self.detail == "micro_segment" else ():
            counts = self._sums.get(prefix)
            if counts is None:
                break
            row = (counts + self.prior_strength * row) / (counts.sum() + self.prior_strength)
        return row

    def probabilities(self, micro_segments: Sequence[str], horizon_days: int) -> NDArray[Any]:
        """The chance of each stage `horizon_days` from now, (micro-segments, stages); rows add up to 1.

        Raises
        ------
        ValueError
            If the horizon is not a multiple of the model's step.
        """
        later = np.linalg.matrix_power(self.stage_matrix, _steps(horizon_days, self.step_days) - 1)
        rows = {text: self.row(text) @ later for text in dict.fromkeys(micro_segments)}
        return np.array([rows[text] for text in micro_segments]).reshape(-1, len(self.stages))

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """A column ``{stage}_{horizon}d`` for each stage and horizon, from `micro_segment` or, without it, `stage`.

        Raises
        ------
        ValueError
            If the frame has neither column.
        """
        import pandas as pd

        source = next((name for name in ("micro_segment", "stage") if name in features.columns), None)
        if source is None:
            raise ValueError(
                "a transition model needs the column micro_segment (as in active/value.B) or stage; the frame has "
                + (", ".join(map(str, features.columns[:8])) or "no columns")
            )
        texts = features[source].fillna("").astype(str).tolist()
        columns = {
            f"{stage}_{horizon}d": chances
            for horizon in self.horizons
            for stage, chances in zip(self.stages, self.probabilities(texts, horizon).T, strict=True)
        }
        return pd.DataFrame(columns, index=features.index)

    def save(self, folder: Path) -> None:
        content = asdict(self) | {"counts": {text: self.counts[text] for text in sorted(self.counts)}}
        (folder / "transitions.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        content = json.loads((folder / "transitions.json").read_text(encoding="utf-8"))
        content["counts"] = {text: tuple(counts) for text, counts in content["counts"].items()}
        return cls(**content | {"stages": tuple(content["stages"]), "horizons": tuple(content["horizons"])})


def fit(
    cells: pa.Table, stages: Sequence[str], spec: TransitionSpec, detail: Detail = "micro_segment"
) -> TransitionModel:
    """Sum counted transitions up to a model.

    Parameters
    ----------
    cells : micro_segment, to_stage, customers; a cell may stand several times
    stages : the known stages, in order; stages met only in `cells` follow them
    """
    known = list(dict.fromkeys([*stages, *sorted(_met(cells))]))
    place = {stage: number for number, stage in enumerate(known)}
    counts: dict[str, list[int]] = {}
    for cell in cells.to_pylist():
        row = counts.setdefault(cell["micro_segment"], [0] * len(known))
        row[place[cell["to_stage"]]] += cell["customers"]
    return TransitionModel(
        tuple(known),
        {text: tuple(counts[text]) for text in sorted(counts)},
        spec.step_days,
        spec.horizons,
        spec.prior_strength,
        spec.stage_prior_strength,
        detail,
    )


def _met(cells: pa.Table) -> set[str]:
    return set(cells["to_stage"].to_pylist()) | {text.split("/")[0] for text in cells["micro_segment"].to_pylist()}


def transition_counts(engine: Engine, states: Input, step_days: int) -> pa.Table:
    """Customers per day of departure, micro-segment and the stage `step_days` later.

    Parameters
    ----------
    states : customer_id, day, stage, micro_segment: a row per customer and day

    Returns
    -------
    day, micro_segment, to_stage, customers
    """
    return engine.query(sql_of("ml.journeys", "transition_counts"), {"step": step_days}, states=states)


def log_loss(cells: pa.Table, stages: Sequence[str], rows: NDArray[Any]) -> float:
    """Mean negative log chance of what happened, in nats per customer.

    Parameters
    ----------
    cells : micro_segment, to_stage, customers
    rows : (cells, stages): the chances foretold for each cell's micro-segment
    """
    weights = cells["customers"].to_numpy()
    return float(weights @ _surprise(cells, stages, rows) / weights.sum())


def _surprise(cells: pa.Table, stages: Sequence[str], rows: NDArray[Any]) -> NDArray[Any]:
    place = {stage: number for number, stage in enumerate(stages)}
    happened = np.array([place.get(stage, -1) for stage in cells["to_stage"].to_pylist()], dtype=int)
    chances = np.where(happened >= 0, rows[np.arange(len(happened)), happened], 0.0)
    return -np.log(np.clip(chances, 1e-6, 1.0))


def train(
    facts: Facts, as_of: date, spec: TransitionSpec, incumbent: TransitionModel | None, *, models: Models
) -> Training:
    """Count the transitions of the last weeks as today's models see them, and compare with the model in force.

    Every week is restated under `models`, so a refit of theirs never looks like a customer's move. The newest step,
    `as_of` − 7 → `as_of`, is held out: a twin fitted on the steps before it stands for the challenger, which itself is
    fitted on all of them. The incumbent was fitted at least a week ago and has not seen that step either.

    Micro-segments are used if the twin tells the holdout better with them than without, beyond chance (90 % interval of
    a bootstrap over customers); otherwise the stage's row is all that is used.

    Parameters
    ----------
    facts : cut at the end of `as_of`
    as_of : last day of the training week
    models : value, lifecycle and layer models in force, with their specs
    """
    from ml.restate import restate

    days = [as_of - timedelta(days=spec.step_days * back) for back in range(spec.weeks, -1, -1)]
    first = facts.engine.query("SELECT MIN(day) AS day FROM days", days=facts.customer_days)["day"][0].as_py()
    pairs = facts.known([day for day in days if first is not None and day >= first])
    if pairs.num_rows > spec.max_rows:
        share = spec.max_rows / pairs.num_rows
        people = pc.count_distinct(pairs["customer_id"]).as_py()
        pairs = facts.engine.query(
            sql_of("ml.journeys", "sampled_customers"),
            {"seed": str(spec.seed), "customers": max(1, int(people * share))},
            known=pairs,
        )
    states = restate(facts.engine, facts.snapshot(pairs), models)
    return train_on_states(facts.engine, states, as_of, spec, incumbent, models.specs.lifecycle.stage_names())


def train_on_states(
    engine: Engine,
    states: Input,
    as_of: date,
    spec: TransitionSpec,
    incumbent: TransitionModel | None,
    stages: Iterable[str],
) -> Training:
    """`train` from states that are restated already: customer_id, day, stage, micro_segment, a step apart."""
    stages = tuple(stages)
    metric = f"log_loss_{spec.step_days}d"
    cells = transition_counts(engine, states, spec.step_days)
    newest = as_of - timedelta(days=spec.step_days)
    past, holdout = cells.filter(pc.less(cells["day"], newest)), cells.filter(pc.equal(cells["day"], newest))
    seen, held = (pc.sum(part["customers"]).as_py() or 0 for part in (past, holdout))
    if not held or seen < spec.min_customers:
        decision: Decision = "none" if incumbent is None else "incumbent"
        return Training(
            model=None,
            decision=decision,
            reason=f"{seen} transitions before the newest {spec.step_days} days and {held} in them: "
            f"{spec.min_customers} and 1 are needed",
            metric=metric,
            metrics={"transitions": float(seen + held)},
            params=asdict(spec),
        )

    twin = fit(past, stages, spec)
    losses, gain, gain_elsewhere = _compare(twin, holdout, spec)
    detail: Detail = "micro_segment" if gain[1] > 0 else "stage"
    challenger = losses[f"order 1, {detail}"]
    standing = None
    if incumbent is not None:
        texts = holdout["micro_segment"].to_pylist()
        standing = log_loss(holdout, incumbent.stages, incumbent.probabilities(texts, spec.step_days))
    decided, reason = decide(metric, challenger, standing, margin=spec.margin)
    model = fit(cells, stages, spec, detail)
    metrics = {
        metric: challenger,
        f"{metric}_micro_segment": losses["order 1, micro_segment"],
        f"{metric}_stage": losses["order 1, stage"],
        f"{metric}_order_0": losses["order 0"],
        f"{metric}_stay": losses["stay"],
        "gain_of_micro_segments": gain[0],
        "gain_of_micro_segments_low": gain[1],
        "gain_of_micro_segments_high": gain[2],
        "gain_of_micro_segments_without_rule_stages": gain_elsewhere,
        "transitions": float(seen + held),
        "holdout_customers": float(held),
        "micro_segments": float(len(model.counts)),
    }
    for horizon in spec.horizons:
        if horizon > spec.step_days:
            metrics |= _far(engine, states, cells, as_of, horizon, stages, spec, detail)
    return Training(
        model=model,
        decision=decided,
        reason=f"{reason}; {_in_words(detail, gain)}",
        metric=metric,
        challenger_score=challenger,
        incumbent_score=standing,
        metrics=metrics,
        params=asdict(spec) | {"detail": detail},
        figures={
            "transitions": lambda: draw_transitions(model),
            "log_loss": lambda: draw_losses(losses, spec.step_days),
        },
        example=_example(model),
    )


def _compare(
    twin: TransitionModel, holdout: pa.Table, spec: TransitionSpec
) -> tuple[dict[str, float], tuple[float, float, float], float]:
    """Log-loss of each kind of model on the holdout, and what micro-segments add to stages.

    What they add is in nats a customer, with a 90 % interval, and once more without customers in a rule's stage.
    """
    texts = holdout["micro_segment"].to_pylist()
    place = {stage: number for number, stage in enumerate(twin.stages)}
    origins = [place.get(text.split("/")[0], -1) for text in texts]

    def by_stage(matrix: NDArray[Any]) -> NDArray[Any]:
        return np.array([matrix[origin] if origin >= 0 else twin.marginal for origin in origins])

    rows = {
        "order 1, micro_segment": twin.probabilities(texts, spec.step_days),
        "order 1, stage": by_stage(twin.stage_matrix),
        "stay": by_stage(twin.staying),
        "order 0": np.tile(twin.marginal, (len(texts), 1)),
    }
    losses = {name: log_loss(holdout, twin.stages, chances) for name, chances in rows.items()}
    better = _surprise(holdout, twin.stages, rows["order 1, stage"]) - _surprise(
        holdout, twin.stages, rows["order 1, micro_segment"]
    )
    # A resample of customers is a multinomial draw of the cells, since customers of a cell are alike in both models.
    weights = holdout["customers"].to_numpy()
    draws = np.random.default_rng(spec.seed).multinomial(weights.sum(), weights / weights.sum(), size=spec.bootstraps)
    low, high = np.quantile(draws @ better / weights.sum(), [0.05, 0.95])
    free = weights * np.array([text.split("/")[0] not in spec.rule_stages for text in texts])
    gain = (float(weights @ better / weights.sum()), float(low), float(high))
    return losses, gain, float(free @ better / max(1, free.sum()))


def _far(
    engine: Engine,
    states: Input,
    cells: pa.Table,
    as_of: date,
    horizon: int,
    stages: tuple[str, ...],
    spec: TransitionSpec,
    detail: Detail,
) -> dict[str, float]:
    """Log-loss of a longer horizon, foretold by a model that knew nothing after the start of it."""
    start = as_of - timedelta(days=horizon)
    before = cells.filter(pc.less_equal(cells["day"], start - timedelta(days=spec.step_days)))
    far = transition_counts(engine, states, horizon)
    far = far.filter(pc.equal(far["day"], start))
    if not before.num_rows or not far.num_rows:
        return {}
    early = fit(before, stages, spec, detail)
    texts = far["micro_segment"].to_pylist()
    place = {stage: number for number, stage in enumerate(early.stages)}
    staying = np.linalg.matrix_power(early.staying, horizon // spec.step_days)
    stay = np.array([staying[place[s]] if (s := text.split("/")[0]) in place else early.marginal for text in texts])
    return {
        f"log_loss_{horizon}d": log_loss(far, early.stages, early.probabilities(texts, horizon)),
        f"log_loss_{horizon}d_stay": log_loss(far, early.stages, stay),
    }


def _in_words(detail: Detail, gain: tuple[float, float, float]) -> str:
    interval = f"{gain[0]:.4f} nats a customer, 90 % interval {gain[1]:.4f} to {gain[2]:.4f}"
    if detail == "micro_segment":
        return f"micro-segments tell more than their stage ({interval})"
    return f"micro-segments do not tell more than their stage beyond chance ({interval}), so stages alone are used"


def _example(model: TransitionModel) -> pd.DataFrame:
    import pandas as pd

    texts = sorted(model.counts)[:5]
    return pd.DataFrame({"micro_segment": texts, "stage": [text.split("/")[0] for text in texts]}, dtype="str")


def draw_transitions(model: TransitionModel) -> Figure:
    """Heat map of the stages' rows, with the customers counted behind each."""
    from matplotlib.figure import Figure

    matrix, size = model.stage_matrix, len(model.stages)
    figure = Figure(figsize=(1.6 + 1.1 * size, 1.4 + 0.8 * size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    counted = model._totals.sum(axis=1).astype(int)
    axes.set_xticks(range(size), list(model.stages))
    axes.set_yticks(range(size), [f"{stage}\nn = {n:,}" for stage, n in zip(model.stages, counted, strict=True)])
    for row in range(size):
        for column in range(size):
            chance = matrix[row, column]
            axes.text(
                column,
                row,
                f"{chance:.1%}" if chance >= 0.0005 else "",
                ha="center",
                va="center",
                color="white" if chance > 0.5 else "black",
            )
    axes.set_xlabel(f"stage {model.step_days} days later")
    axes.set_ylabel("stage now, transitions counted")
    axes.set_title(f"Where customers are {model.step_days} days later")
    figure.colorbar(image, ax=axes, label="probability")
    return figure


def draw_losses(losses: Mapping[str, float], step_days: int) -> Figure:
    """Bars of holdout log-loss, best first."""
    from matplotlib.figure import Figure

    ordered = sorted(losses.items(), key=lambda item: -item[1])
    figure = Figure(figsize=(8, 0.9 + 0.5 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([name.replace("_", "-") for name, _ in ordered], [value for _, value in ordered], color="#4477aa")
    axes.bar_label(bars, fmt="%.4f", padding=3)
    axes.margins(x=0.15)
    axes.set_xlabel("log-loss, nats per customer (lower is better)")
    axes.set_title(f"Foretelling the stage {step_days} days later: newest {step_days} days, held out")
    return figure
