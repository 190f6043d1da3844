"""The command line: bound a network, show its plan, verify certificates, certify predictions, list methods, ..."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from certlip import bound as bound_network
from certlip import figures, show_plan
from certlip import methods as list_methods
from certlip import retry as again
from certlip import verify as verify_certificate
from certlip.base.errors import CertlipError, ConfigError
from certlip.base.limits import Limits
from certlip.certify import certify as certify_images
from certlip.certify import report
from certlip.certify.images import read_images
from certlip.network import Network
from certlip.partition.plan import Plan
from certlip.proof.certificate import kind as certificate_kind
from certlip.run import plan_network

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def main() -> None:
    """Run the command line; an error meant for the user is one sentence and exit status 1."""
    try:
        app()
    except CertlipError as error:
        print(f"certlip: {error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def bound(
    network: Annotated[Path, typer.Argument(help="an exported network, results/networks/NAME.npz")],
    method: Annotated[str, typer.Option(help="a name that `certlip methods` lists")] = "dcp",
    option: Annotated[list[str] | None, typer.Option("-o", help="the method's own, as name=value in YAML")] = None,
    certificate: Annotated[Path | None, typer.Option(help="where to write the certificate")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="time limit")] = None,
    jobs: Annotated[int, typer.Option(help="semidefinite programs solved side by side")] = 1,
) -> None:
    """Bound the l2 Lipschitz constant of a network."""
    options = dict(map(_parse, option or []))
    record = bound_network(
        Network.load(network), method=method, name=network.stem, max_seconds=max_seconds, n_jobs=jobs, **options
    )
    if record.value is None:
        raise CertlipError(f"{method} gives no bound of {network.stem} ({record.status}): {record.reason}")
    if certificate is not None:
        if record.certificate is None:
            raise ConfigError(f"{method} gives an estimate, which has no certificate; leave --certificate out")
        record.certificate.save(certificate)
    note = f"  ({record.reason})" if record.reason else ""
    print(f"{network.stem}: {record.value!r} {record.kind} by {method} in {record.seconds:.3g} s{note}")


@app.command()
def plan(
    source: Annotated[Path, typer.Argument(help="an exported network (.npz), or a plan of the workflow (.json)")],
    method: Annotated[str, typer.Option(help="a method made of semidefinite programs")] = "dcp",
    option: Annotated[list[str] | None, typer.Option("-o", help="the method's own, as name=value in YAML")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="time limit of a program")] = None,
    max_memory_mb: Annotated[float | None, typer.Option(help="memory limit of a program")] = None,
) -> None:
    """Print how a network is cut into semidefinite programs, and what they are predicted to take (and took)."""
    if source.suffix == ".json":
        planned, solved = Plan.load(source), show_plan.solved_of(source)
        prediction = planned.prediction
    else:
        network, solved = Network.load(source), []
        limit = Limits(max_seconds=max_seconds, max_memory_mb=max_memory_mb)
        planned, prediction = plan_network(network, method, dict(map(_parse, option or [])), limit)
    if planned.refusal:
        raise CertlipError(f"{method} has no plan of {source.stem}: {planned.refusal[1]}")
    Console().print(show_plan.render(planned, prediction, solved))


@app.command()
def verify(
    certificates: Annotated[list[Path], typer.Argument(help="certificates or files of solved blocks (.npz)")],
) -> None:
    """Re-check certificates without any solver; exit status 1 if one does not hold."""
    failed = False
    for path in certificates:
        try:
            if certificate_kind(path) == "none":
                print(f"{path}: nothing to check, the method gave no bound or only an estimate")
                continue
            verification = verify_certificate(path)
        except CertlipError as error:
            failed = True
            print(f"{path}: CANNOT BE CHECKED: {error}")
            continue
        failed |= not verification.ok
        value = "" if verification.value is None else f" {verification.value!r}"
        print(f"{path}: " + (f"holds{value}" if verification.ok else f"DOES NOT HOLD: {verification.reason}"))
    if failed:
        raise typer.Exit(1)


@app.command()
def certify(
    network: Annotated[Path, typer.Argument(help="an exported network, results/networks/NAME.npz")],
    images: Annotated[
        Path,
        typer.Option(help=".npz file with arrays images (n, ...) and labels (n,), a data set of a run, or a folder"),
    ],
    radius: Annotated[list[float], typer.Option(help="l2, in the unit of the network's input; may be given again")],
    method: Annotated[str, typer.Option(help="a certified one that `certlip methods` lists")] = "lipsdp",
    option: Annotated[list[str] | None, typer.Option("-o", help="the method's own, as name=value in YAML")] = None,
    budget: Annotated[float | None, typer.Option(help="seconds for constants of pairs of classes")] = None,
    first: Annotated[int | None, typer.Option(min=1, help="only so many images")] = None,
    jobs: Annotated[int, typer.Option(help="constants found side by side")] = 1,
    certificates: Annotated[Path | None, typer.Option(help="folder to write certificates to")] = None,
    plot: Annotated[Path | None, typer.Option(help="file for accuracies over radii: .png, .pdf or .svg")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no line an image")] = False,
) -> None:
    """Certify predictions of images within a radius, beside an attack.

    Images are taken as the network takes them. If that is pixels divided by s, radii are pixel distances divided by s.
    """
    if plot is not None:
        figures.expect_suffix(plot)
    loaded = Network.load(network)
    given, labels = read_images(images, loaded)
    how = {"budget": budget, "n_jobs": jobs, **dict(map(_parse, option or []))}
    found = certify_images(loaded, given[:first], labels[:first], radius, method=method, **how)
    if not quiet:
        Console().print(report.table(found))
    print(report.summary(found, network.stem))
    if certificates is not None:
        found.save_certificates(certificates)
    if plot is not None:
        report.save_curve(found, plot)


@app.command()
def methods() -> None:
    """List the methods of this package."""
    table = Table(box=None, pad_edge=False)
    for column in ("name", "method", "kind", "reference"):
        table.add_column(column)
    for name, info in list_methods().items():
        table.add_row(name, info.title, info.kind, info.reference)
    Console().print(table)


@app.command()
def show(
    table: Annotated[str, typer.Argument(help="a table, by default the wide one")] = "bounds_wide",
    results: Annotated[Path, typer.Option(help="folder of the run")] = Path("results"),
) -> None:
    """Print a table of the last run."""
    from certlip import tables
    from certlip.collect import read_rows, rows_file

    tables.show(table, read_rows(results / rows_file(tables.load(table).INFO.source)))


@app.command()
def retry(
    rows: Annotated[list[str] | None, typer.Argument(help="NETWORK, METHOD or NETWORK/METHOD, or patterns")] = None,
    limit_rows: Annotated[bool, typer.Option("--limit-rows", help="only rows that hit a limit")] = False,
    results: Annotated[Path, typer.Option(help="folder of the run")] = Path("results"),
) -> None:
    """Have rows made again: their files are removed, and the next run of snakemake makes them."""
    chosen = again.retry(results, rows or (), limit_rows)
    print("\n".join([f"{len(chosen)} rows will be made again by the next run of snakemake", *chosen]))


def _parse(option: str) -> tuple[str, Any]:
    name, equals, value = option.partition("=")
    if not equals:
        raise ConfigError(f"-o {option}: write it as name=value")
    if re.fullmatch(r"\d+([x,]\d+)+", value):  # a grid as people write it: 4x4 or 4,4
        return name, [int(number) for number in re.split("[x,]", value)]
    return name, yaml.safe_load(value)
