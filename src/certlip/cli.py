"""The command line: bound a network, show its layers or plan, verify certificates, list methods, show a table, redo."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from certlip import bound as bound_network
from certlip import load as load_network
from certlip import methods as list_methods
from certlip import retry as again
from certlip import show_layers, show_plan
from certlip import verify as verify_certificate
from certlip.base.errors import CertlipError, ConfigError
from certlip.base.limits import Limits
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


def main() -> None:
    """Run the command line; an error meant for the user is one sentence and exit status 1."""
    try:
        app()
    except CertlipError as error:
        print(f"certlip: {error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def bound(
    network: Source,
    model: ModelOption = None,
    input_shape: ShapeOption = None,
    weights: WeightsOption = None,
    key: KeyOption = None,
    method: Annotated[str, typer.Option(help="a name that `certlip methods` lists")] = "dcp",
    option: Annotated[list[str] | None, typer.Option("-o", help="the method's own, as name=value in YAML")] = None,
    certificate: Annotated[Path | None, typer.Option(help="where to write the certificate")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="time limit")] = None,
    jobs: Annotated[int, typer.Option(help="semidefinite programs solved side by side")] = 1,
) -> None:
    """Bound the l2 Lipschitz constant of a network."""
    options = dict(map(_parse, option or []))
    loaded, name = _load(network, model, input_shape, weights, key)
    record = bound_network(loaded, method=method, name=name, max_seconds=max_seconds, n_jobs=jobs, **options)
    if record.value is None:
        raise CertlipError(f"{method} gives no bound of {name} ({record.status}): {record.reason}")
    if certificate is not None:
        if record.certificate is None:
            raise ConfigError(f"{method} gives an estimate, which has no certificate; leave --certificate out")
        record.certificate.save(certificate)
    note = f"  ({record.reason})" if record.reason else ""
    print(f"{name}: {record.value!r} {record.kind} by {method} in {record.seconds:.3g} s{note}")


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
        print(f"{path}: " + (f"holds{value}" if verification.ok else f"DOES NOT HOLD: {verification.reason}"))
    if failed:
        raise typer.Exit(1)


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
