"""The command line: bound a network, show its layers or plan, certify predictions, verify certificates, tables, ...

Exit status: 0 done; 1 no bound, a certificate that does not hold, or an error in one sentence; 2 a wrong argument;
130 interrupted.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from certlip import __version__, figures, show_bounds, show_layers, show_plan
from certlip import load as load_network
from certlip import methods as list_methods
from certlip import retry as again
from certlip import verify as verify_certificate
from certlip.base import progress
from certlip.base.errors import CertlipError, ConfigError, Interrupted
from certlip.base.limits import Limits
from certlip.base.record import Record
from certlip.certify import certify as certify_images
from certlip.certify import report
from certlip.certify.images import read_images
from certlip.compare import records as bound_by
from certlip.methods import options_of
from certlip.network import Network
from certlip.partition.plan import Plan
from certlip.proof.certificate import kind as certificate_kind
from certlip.run import plan_network
from certlip.sources import Model, network_of

Source = Annotated[
    str,
    typer.Argument(
        help="net.onnx, net.npz that certlip exported, net.pt2 of torch.export, weights with --model, or "
        "package.module:function that makes a torch module"
    ),
]
ModelOption = Annotated[str | None, typer.Option(help="package.module:function that makes what the weights are of")]
ShapeOption = Annotated[str | None, typer.Option(help="of the input, without the batch axis: 3,224,224")]
WeightsOption = Annotated[Path | None, typer.Option(help="file of weights for the function's module")]
KeyOption = Annotated[str | None, typer.Option(help="entry of the file that holds the weights: state_dict.0")]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def main() -> None:
    """Run the command line; an error meant for the user is one sentence and exit status 1."""
    try:
        app()
    except CertlipError as error:
        print(f"certlip: {error}", file=sys.stderr)
        sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        print(f"certlip {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """What stands before a command."""


@app.command()
def bound(
    network: Source,
    model: ModelOption = None,
    input_shape: ShapeOption = None,
    weights: WeightsOption = None,
    key: KeyOption = None,
    method: Annotated[
        str, typer.Option(help="a name that `certlip methods` lists, several with commas between them, or all")
    ] = "best",
    option: Annotated[list[str] | None, typer.Option("-o", help="the method's own, as name=value in YAML")] = None,
    certificate: Annotated[Path | None, typer.Option(help="where to write the certificate of one method")] = None,
    save: Annotated[Path | None, typer.Option(help="folder for records and certificates, METHOD.json, .npz")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    csv: Annotated[Path | None, typer.Option(help="where to write the table as CSV")] = None,
    plot: Annotated[Path | None, typer.Option(help="where to draw bound against seconds: .png, .pdf or .svg")] = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="time limit of a method, or of each program; 60 for several methods")
    ] = None,
    max_memory_mb: Annotated[float | None, typer.Option(help="memory limit of the same")] = None,
    jobs: Annotated[int, typer.Option(help="semidefinite programs solved side by side")] = 1,
    seed: Annotated[int, typer.Option(help="of every random choice")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="say nothing on the way")] = False,
) -> None:
    """Bound the l2 Lipschitz constant of a network, by one method or by several.

    What is going on is said on stderr. Ctrl-C ends the work: what is certified by then is printed and saved.
    """
    options = dict(map(_parse, option or []))
    several = method == "all" or "," in method
    if several and certificate is not None:
        raise ConfigError("--certificate is for one method; use --save FOLDER for several")
    how: dict[str, Any] = {"max_memory_mb": max_memory_mb, "n_jobs": jobs, "seed": seed, **options}
    if max_seconds is not None or not several:
        how["max_seconds"] = max_seconds
    progress.speak("quiet" if quiet else "command")
    found: list[Record] = []

    def keep(record: Record) -> None:
        found.append(record)
        if save is not None:
            show_bounds.save(record, save)

    interrupted = False
    loaded, name = _load(network, model, input_shape, weights, key)
    try:
        for record in bound_by(loaded, None, method, name=name, **how):
            keep(record)
    except KeyboardInterrupt as stop:
        interrupted = True
        if isinstance(stop, Interrupted):
            keep(stop.kept)
    if not (several or as_json) and found and found[0].value is None:
        reason = f"({found[0].status}): {found[0].reason}"
        raise CertlipError(f"{method} gives no bound of {name} {reason}")
    show_bounds.show(found, several, as_json, csv, plot)
    if certificate is not None:
        _save_certificate(found, certificate)
    if interrupted:
        where = "" if save is None else f", and in {save}"
        kept = f"what was certified by then is above{where}" if found else "nothing was certified by then"
        print(f"certlip: interrupted; {kept}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    if not any(record.value is not None for record in found):
        raise typer.Exit(1)


def _save_certificate(found: Sequence[Record], path: Path) -> None:
    """Of the one method that was asked for, if it gave a value."""
    for record in found:
        if record.value is not None and record.certificate is None:
            raise ConfigError(f"{record.method} gives an estimate, which has no certificate; leave --certificate out")
        if record.certificate is not None:
            record.certificate.save(path)


@app.command()
def plan(
    network: Annotated[str, typer.Argument(help="a network as of `certlip bound`, or a plan of the workflow (.json)")],
    model: ModelOption = None,
    input_shape: ShapeOption = None,
    weights: WeightsOption = None,
    key: KeyOption = None,
    method: Annotated[str, typer.Option(help="a method made of semidefinite programs")] = "dcp",
    option: Annotated[list[str] | None, typer.Option("-o", help="the method's own, as name=value in YAML")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="time limit of a program")] = None,
    max_memory_mb: Annotated[float | None, typer.Option(help="memory limit of a program")] = None,
) -> None:
    """Print how a network is cut into semidefinite programs, and what they are predicted to take (and took)."""
    if network.endswith(".json"):
        planned, solved, name = Plan.load(network), show_plan.solved_of(Path(network)), Path(network).stem
        prediction = planned.prediction
    else:
        loaded, name = _load(network, model, input_shape, weights, key)
        limit, solved = Limits(max_seconds=max_seconds, max_memory_mb=max_memory_mb), []
        planned, prediction = plan_network(network_of(loaded), method, dict(map(_parse, option or [])), limit)
    if planned.refusal:
        raise CertlipError(f"{method} has no plan of {name}: {planned.refusal.reason}")
    Console().print(show_plan.render(planned, prediction, solved))


@app.command()
def layers(
    network: Source,
    model: ModelOption = None,
    input_shape: ShapeOption = None,
    weights: WeightsOption = None,
    key: KeyOption = None,
) -> None:
    """List the layers of a network with a Lipschitz constant of each, and all that no bound is known for.

    Exit status 1 if there is any such layer.
    """
    loaded, name = _load(network, model, input_shape, weights, key)
    rows = show_layers.rows_of(loaded)
    Console().print(show_layers.render(rows))
    obstacles = [row.obstacle for row in rows if row.obstacle]
    if obstacles:
        raise CertlipError(f"{name} has no bound, for {len(obstacles)} of its layers: {'; '.join(obstacles)}")


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
        around = "" if verification.radius is None else f" within {verification.radius!r} of its point"
        print(f"{path}: " + (f"holds{value}{around}" if verification.ok else f"DOES NOT HOLD: {verification.reason}"))
    if failed:
        raise typer.Exit(1)


@app.command()
def certify(
    network: Source,
    images: Annotated[
        Path,
        typer.Option(help=".npz file with arrays images (n, ...) and labels (n,), a data set of a run, or a folder"),
    ],
    radius: Annotated[list[float], typer.Option(help="l2, in the unit of the network's input; may be given again")],
    model: ModelOption = None,
    input_shape: ShapeOption = None,
    weights: WeightsOption = None,
    key: KeyOption = None,
    method: Annotated[str, typer.Option(help="a certified one that `certlip methods` lists")] = "lipsdp",
    option: Annotated[list[str] | None, typer.Option("-o", help="the method's own, as name=value in YAML")] = None,
    budget: Annotated[float | None, typer.Option(help="seconds for constants of pairs of classes")] = None,
    local_budget: Annotated[float, typer.Option(min=0, help="seconds for constants around images left open")] = 0.0,
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
    source, name = _load(network, model, input_shape, weights, key)
    loaded = network_of(source)
    given, labels = read_images(images, loaded)
    how = {"budget": budget, "local_budget": local_budget, "n_jobs": jobs, **dict(map(_parse, option or []))}
    found = certify_images(loaded, given[:first], labels[:first], radius, method=method, **how)
    if not quiet:
        Console().print(report.table(found))
    print(report.summary(found, name))
    if certificates is not None:
        found.save_certificates(certificates)
    if plot is not None:
        report.save_curve(found, plot)


@app.command()
def methods(
    method: Annotated[str | None, typer.Argument(help="a method, to list its options")] = None,
) -> None:
    """List the methods of this package, or the options of one."""
    if method is None:
        columns = ["name", "method", "kind", "reference"]
        rows: list[tuple[str, ...]] = [
            (name, info.title, info.kind, info.reference) for name, info in list_methods().items()
        ]
    else:
        columns, rows = ["option", "type", "default", "meaning"], [tuple(option) for option in options_of(method)]
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))
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


def _load(
    source: str, model: str | None, input_shape: str | None, weights: Path | None, key: str | None
) -> tuple[Network | Model, str]:
    """The network that the arguments of a command name, and what to call it."""
    sys.path.append(os.getcwd())  # where somebody's own package is looked for, after all others
    shape = [int(n) if n.isdecimal() else 0 for n in re.split("[x,]", input_shape)] if input_shape else None
    name = source.rpartition(":")[2] if weights is None and ":" in source else Path(source).stem
    return load_network(source, model=model, input_shape=shape, weights=weights, key=key), name


def _parse(option: str) -> tuple[str, Any]:
    name, equals, value = option.partition("=")
    if not equals:
        raise ConfigError(f"-o {option}: write it as name=value")
    if re.fullmatch(r"\d+([x,]\d+)+", value):  # a grid as people write it: 4x4 or 4,4
        return name, [int(number) for number in re.split("[x,]", value)]
    return name, yaml.safe_load(value)
