"""How an asset of the chain is declared: what it writes, what it reads and how far, and which checks it reports.

A declaration knows nothing of a project: its body is a function of a `Step` and can be called on any lake. `chain`
makes Dagster's definitions of declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from microseg_assets.families import FAMILIES
from microseg_assets.orchestration.step import Step
from microseg_assets.partitions import Lookback
from microseg_assets.project import Project
from microseg_assets.workspace import Stored
from ml import tables
from ml.tables import Table

Body = Callable[[Step], None]
Writes = Table | Stored | Callable[[Project], Table]


@dataclass(frozen=True)
class Declaration:
    """An asset as it is declared; calling it calls its body.

    Parameters
    ----------
    name : the asset's
    group : the link of the chain that it belongs to
    body : makes the partitions of a step
    description : what Dagster shows of it
    writes : its table, or what makes it of a project; `day` or `week` as the last dimension decides its partitions
    reads : upstream assets, and how far it looks into each; those of tables that are not brought are left out
    checks : names and descriptions of the checks that the body reports
    """

    name: str
    group: str
    body: Body
    description: str
    writes: Writes
    reads: Mapping[str, Lookback] = field(default_factory=dict)
    kinds: Iterable[str] = ("duckdb", "parquet")
    checks: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, step: Step) -> None:
        self.body(step)

    def stored(self, project: Project) -> Stored:
        """Where its partitions lie in a project."""
        if isinstance(self.writes, Stored):
            return self.writes
        return Stored(self.writes if isinstance(self.writes, Table) else self.writes(project))


def asset(
    group: str,
    *,
    writes: Writes,
    reads: Mapping[str, Lookback] | None = None,
    kinds: Iterable[str] = ("duckdb", "parquet"),
    checks: Mapping[str, str] | None = None,
) -> Callable[[Body], Declaration]:
    """Declare an asset of its body, which gives it its name and its description (see `Declaration`)."""

    def declare(body: Body) -> Declaration:
        about = (body.__doc__ or "").strip()
        return Declaration(body.__name__, group, body, about, writes, reads or {}, tuple(kinds), checks or {})

    return declare


def fits(
    family: str,
    *,
    reads: Iterable[str] = (),
    kinds: Iterable[str] = ("mlflow",),
    checks: Mapping[str, str] | None = None,
) -> Callable[[Body], Declaration]:
    """Declare the weekly asset of a model family: it reads accepted rows up to the end of its week, the choices of the
    families before it in `reads`, and its own choice of the week before; it writes its choice.

    Raises
    ------
    ValueError
        If the list of families gives the family another asset.
    """
    one = FAMILIES[family]

    def declare(body: Body) -> Declaration:
        if body.__name__ != one.asset:
            raise ValueError(f"{family} is fitted by {one.asset}, not by {body.__name__}: see families.py")
        return asset(
            one.group,
            writes=Stored(tables.MODEL_CHOICES, {"family": family}),
            reads={
                **dict.fromkeys(tables.INPUTS, Lookback.DAYS_TO_WEEK_END),
                **dict.fromkeys(reads, Lookback.SAME_WEEK),
                one.asset: Lookback.PREVIOUS_WEEK,
            },
            kinds=kinds,
            checks=checks,
        )(body)

    return declare
