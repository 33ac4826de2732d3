"""The command line. It calls Dagster; it is not a second orchestrator.

Exit codes: 0 done, 1 a run failed, 2 a mistake in the input (project file, source, option), reported in one sentence.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import click

DEFAULT = "complete_journey"


def _project_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--project",
        "-p",
        default=lambda: (os.environ.get("MICROSEG_PROJECT") or DEFAULT).split(",")[0],
        metavar="NAME|FILE",
        help=f"Project file, by path or name. [default: $MICROSEG_PROJECT or {DEFAULT}]",
    )(command)


def _day_option(name: str, text: str) -> Callable[..., Any]:
    return click.option(name, metavar="YYYY-MM-DD", type=click.DateTime(["%Y-%m-%d"]), help=text)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Mistakes of the user become one sentence each and exit code 2; a failed run exit code 1."""
    from microseg_assets.home import HomeError
    from microseg_assets.project import ProjectError
    from microseg_assets.runs import RunFailed
    from microseg_assets.sources import SourceError
    from microseg_assets.storage.lake import MissingPartitions

    try:
        yield
    except (ProjectError, SourceError, HomeError) as error:
        click.echo(f"microseg: {error}", err=True)
        sys.exit(2)
    except MissingPartitions as error:
        click.echo(f"microseg: {error}. `microseg status` shows what is there; `microseg run` builds it.", err=True)
        sys.exit(2)
    except RunFailed as error:
        click.echo(f"\nmicroseg: {error}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="microseg")
def main() -> None:
    """Daily customer micro-segmentation: who each customer is, how they move, what they are worth, what to do about it.

    State (lake, Dagster, MLflow) lives in $MICROSEG_HOME, by default .microseg/ in the current folder.
    """
    from microseg_assets.project import RenamedSetting

    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", category=RenamedSetting)
    plain = warnings.formatwarning

    def format_warning(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> str:
        is_ours = issubclass(category, RenamedSetting)
        return f"microseg: {message}\n" if is_ours else plain(message, category, *args, **kwargs)

    warnings.formatwarning = format_warning
    for noisy in ("alembic", "great_expectations", "mlflow", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


@main.command()
@click.option("--quick", is_flag=True, help="Use a small simulated business; takes about two minutes.")
def demo(quick: bool) -> None:
    """Run the whole chain on real customers and show what came out.

    Complete Journey: 1,469,307 lines of 2,469 households in 2017, every day to features, nine training weeks, and the
    last 56 days to the atlas. What is there already is not built again.
    """
    from microseg_assets.cli.demo import complete_journey
    from microseg_assets.cli.demo import quick as simulated

    with _clear_errors():
        simulated() if quick else complete_journey()


@main.command()
@_project_option
@_day_option("--from", "First day.")
@_day_option("--to", "Last day. [default: the first day]")
@click.option("--only-missing", is_flag=True, help="Skip days that are there already.")
@click.option("--stale", is_flag=True, help="Instead of given days: rebuild everything stale.")
def run(project: str, **options: Any) -> None:
    """Build days, and the training weeks that they need.

    Dagster materializes their assets in this process.
    """
    from microseg_assets.cli.run import materialize, refresh
    from microseg_assets.home import Home

    from_option, to_option = options["from"], options["to"]
    if options["stale"]:
        if from_option or to_option or options["only_missing"]:
            raise click.UsageError("--stale finds out by itself what to rebuild: omit the other options")
        with _clear_errors():
            refresh(project, Home.from_environment())
        return
    if from_option is None:
        raise click.UsageError("name the days: --from YYYY-MM-DD [--to YYYY-MM-DD], or --stale")
    first: date = from_option.date()
    last: date = to_option.date() if to_option else first
    with _clear_errors():
        materialize(project, first, last, Home.from_environment(), only_missing=options["only_missing"])


@main.command()
@_project_option
@click.option("--all", "everything", is_flag=True, help="List every day and week that a remark refers to.")
def status(project: str, everything: bool) -> None:
    """Show what is there, missing or stale, asset by asset.

    Sources are compared with what was ingested from them: late and corrected rows make days stale.
    """
    from microseg_assets.build import load_workspace
    from microseg_assets.cli.status import show
    from microseg_assets.home import Home

    with _clear_errors():
        show(load_workspace(project, Home.from_environment()), everything=everything)


@main.command()
@click.argument("what", type=click.Choice(["summary", "segments", "movements", "plan", "customer"]), default="summary")
@click.argument("customer", required=False)
@_project_option
@_day_option("--day", "The day to show. [default: the newest]")
def show(what: str, customer: str | None, project: str, day: Any) -> None:
    """Show segments, movements or the plan of a day, or one customer.

    A customer is shown with the reasons for the stage, and the journey so far.
    """
    from microseg_assets.build import load_workspace
    from microseg_assets.cli import summary
    from microseg_assets.home import Home

    if what == "customer" and not customer:
        raise click.UsageError("name the customer: microseg show customer ID")
    with _clear_errors():
        workspace = load_workspace(project, Home.from_environment())
        summary.show(workspace, what, day=day.date() if day else None, customer=customer)


@main.command()
@click.argument("name")
@click.argument("data", nargs=-1)
@click.option(
    "--folder", default=".", type=click.Path(file_okay=False), help="Where to write it. [default: the current folder]"
)
def new(name: str, data: tuple[str, ...], folder: str) -> None:
    """Write NAME.yaml, a commented project file to start from.

    DATA are files, folders or patterns (CSV, JSON lines, Parquet). The project file is filled in with what they seem to
    hold, each line with its evidence.
    """
    from pathlib import Path

    from microseg_assets import scaffold

    with _clear_errors():
        scaffold.new(name, data, Path(folder))


@main.command()
@click.argument("project")
def check(project: str) -> None:
    """Check a project file and its sources, and report every problem.

    Nothing is written. The exit code is 0, or 2 if there is a problem.
    """
    from microseg_assets.check.report import report

    with _clear_errors():
        sys.exit(report(project))


@main.command()
@click.argument("table")
@_day_option("--day", "The day. [required]")
@_project_option
def docs(table: str, day: Any, project: str) -> None:
    """Write the Great Expectations page of one day of a table.

    It shows what the day delivered, and what was expected of it. A day that was refused has its page already; the
    asset's check links to it.
    """
    from microseg_assets.build import load_workspace
    from microseg_assets.home import Home
    from microseg_assets.storage.ingest_log import undated_counts
    from microseg_assets.storage.quarantine import put_data_docs
    from microseg_assets.workspace import raw_name
    from ml.rules import nearest

    if day is None:
        raise click.UsageError("name the day: --day YYYY-MM-DD")
    with _clear_errors():
        workspace = load_workspace(project, Home.from_environment())
        if table not in workspace.project.inputs:
            raise click.UsageError(f"{table!r} is not a table; {nearest(table, workspace.project.inputs)}")
        if workspace.is_off(table):
            raise click.UsageError(f"{table} are switched off: they are not in {workspace.project.path}")
        raw = workspace.partitions(raw_name(table)).files([day.date()])
        rows = workspace.engine.query("SELECT * FROM raw", raw=raw)
        undated = undated_counts(workspace, table, [day.date()]).get(day.date(), 0)
        click.echo(put_data_docs(workspace, table, day.date(), rows, undated))


@main.command()
@click.argument("preset", type=click.Choice(["retail", "gaming"]))
@click.argument("folder", required=False, type=click.Path(file_okay=False))
@click.option("--customers", default=2000, show_default=True, type=click.IntRange(1), help="How many customers.")
@click.option("--days", default=364, show_default=True, type=click.IntRange(60), help="Length of the history.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--format", "format_", default="parquet", show_default=True, type=click.Choice(["parquet", "csv"]),
              help="Format of the tables.")  # fmt: skip
@click.option("--targeted", is_flag=True, help="Let campaigns target customers by value instead of at random.")
def simulate(
    preset: Any, folder: str | None, customers: int, days: int, seed: int, format_: Any, targeted: bool
) -> None:
    """Write a simulated business into FOLDER.

    It has tables, a project file, and the truth behind them. Without a FOLDER it is written to the state folder, as the
    project simulated_retail or simulated_gaming.
    """
    from pathlib import Path

    from microseg_assets.cli.simulate import simulate as write_business
    from microseg_assets.home import Home

    with _clear_errors():
        file = write_business(
            preset, customers=customers, days=days, seed=seed, format=format_,
            folder=Path(folder) if folder else Home.from_environment().folder / "projects" / f"simulated_{preset}",
            randomised=not targeted,
            on_progress=lambda done, of: click.echo(f"  block {done} of {of}", err=True),
        )  # fmt: skip
        click.echo(f"Wrote {file}")
        click.echo(f"Next: microseg check {file if folder else file.stem}")


@main.command()
def schema() -> None:
    """Print the JSON Schema of the project file, for editors."""
    import json

    from microseg_assets.project import Project

    click.echo(json.dumps(Project.model_json_schema(), indent=2))


@main.command()
@click.option("--project", "-p", metavar="NAME|FILE[,…]", help="Projects to show. [default: all that have state]")
@click.option("--port", default=3000, show_default=True, help="Port of Dagster's UI.")
@click.option("--mlflow-port", default=5000, show_default=True, help="Port of MLflow's UI.")
def ui(project: str | None, port: int, mlflow_port: int) -> None:
    """Serve the UIs of Dagster and MLflow, on 127.0.0.1, until Ctrl-C."""
    from microseg_assets.cli.ui import projects_with_state, serve
    from microseg_assets.home import Home

    with _clear_errors():
        home = Home.from_environment()
        named = project or os.environ.get("MICROSEG_PROJECT") or ",".join(projects_with_state(home)) or DEFAULT
        serve(named, home, port=port, mlflow_port=mlflow_port)
