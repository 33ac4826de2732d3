"""How an asset of the chain is declared: what it writes, what it reads with which lookback, and what it checks.

A declaration is independent of any project: its body is a function of a `Step` and can be called on any lake. `chain`
turns declarations into Dagster's definitions.
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

HISTORY = (*tables.INPUTS, "customer_days")  # what is known of customers: accepted rows, and the facts summed from them
Body = Callable[[Step], None]
Writes = Table | Stored | Callable[[Project], Table]


@dataclass(frozen=True)
class Declaration:
    """The declaration of an asset; calling it calls its body.

    Parameters
    ----------
    name : name of the asset
    group : group of the asset in the chain
    body : function that makes the partitions of a step
    description : what Dagster shows about the asset
    writes : its table, or a function from a project to its table; the table's last dimension, `day` or `week`, sets the
        partitions
    reads : upstream assets, each with its lookback; assets of tables that are not provided are left out
    kinds : the technologies that Dagster shows with the asset
    checks : the checks that the body reports, name to description
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

    def reads_in(self, project: Project) -> Mapping[str, Lookback]:
        """What it reads in a project: with the facts of all customers also the rows that declared features measure."""
        if "customer_days" not in self.reads:
            return self.reads
        return {**dict.fromkeys(project.feature_spec.declared.tables, self.reads["customer_days"]), **self.reads}

    def stored(self, project: Project) -> Stored:
        """Where its partitions are stored in a project."""
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
    """Declare an asset by its body, whose name and docstring become the asset's (see `Declaration`)."""

    def declare(body: Body) -> Declaration:
        description = (body.__doc__ or "").strip()
        return Declaration(body.__name__, group, body, description, writes, reads or {}, tuple(kinds), checks or {})

    return declare


def model_asset(
    family_name: str,
    *,
    reads: Iterable[str] = (),
    kinds: Iterable[str] = ("mlflow",),
    checks: Mapping[str, str] | None = None,
) -> Callable[[Body], Declaration]:
    """Declare the weekly asset of a model family.

    It reads facts and accepted rows up to the end of its week, this week's choices of the assets in `reads`, and its
    own choice of the week before; it writes its choice.

    Raises
    ------
    ValueError
        If `families.py` lists another asset for the family.
    """
    family = FAMILIES[family_name]

    def declare(body: Body) -> Declaration:
        if body.__name__ != family.asset:
            raise ValueError(f"{family_name} is fitted by {family.asset}, not by {body.__name__}: see families.py")
        return asset(
            family.group,
            writes=Stored(tables.MODEL_CHOICES, {"family": family_name}),
            reads={
                **dict.fromkeys(HISTORY, Lookback.DAYS_TO_WEEK_END),
                **dict.fromkeys(reads, Lookback.SAME_WEEK),
                family.asset: Lookback.PREVIOUS_WEEK,
            },
            kinds=kinds,
            checks=checks,
        )(body)

    return declare
