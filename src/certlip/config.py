"""The configuration, typed: what config/*.yaml may say. Imports neither torch nor cvxpy, since every job reads it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from certlip.base import plugins
from certlip.base.errors import ConfigError
from certlip.base.plugins import nearest
from certlip.base.validation import validate
from certlip.base.yaml_files import read_mapping
from certlip.benchmarks import check_options as check_benchmark
from certlip.methods import check_options, entry_point, is_planned
from certlip.methods import load as load_method
from certlip.sweep import expand

M = TypeVar("M", bound=BaseModel)
Radius = Annotated[float, Field(gt=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dataset(_Model):
    """An entry of datasets.yaml. dataset: a file of certlip/datasets; options: that file's."""

    dataset: str
    options: dict[str, Any] = {}


class Training(_Model):
    """How a network is trained; dataset: an entry of datasets.yaml."""

    dataset: str
    epochs: int = Field(default=5, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    optimizer: Literal["adam", "sgd"] = "adam"


class Weights(_Model):
    """Trained weights to fetch.

    url: https:// or file://; sha256: of the file; key: of the state_dict inside it; file: where it lies in the data
    folder, by default under its own name in ``weights``; in_order: whether its tensors are the network's in their
    order, whatever they are called there.
    """

    url: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    key: str | None = None
    file: str | None = None
    in_order: bool = False

    @property
    def place(self) -> str:
        """Of the file in the data folder."""
        return self.file or f"weights/{Path(self.url).name}"


class Experiment(_Model):
    """The sweep a network belongs to, and its place on the axis."""

    name: str
    x: float


class ReportedAccuracy(_Model):
    """What a publication certifies of images within a radius: shares by its methods, and what stands its attack."""

    radius: float = Field(gt=0)
    certified: dict[str, float]
    attacked: float | None = None


class Reported(_Model):
    """What a publication says of such a network, and what can be compared.

    bounds, seconds: by method, of this suite where one is the same, else as it is called there; lower: lower bounds by
    method; solver: of its semidefinite programs; accuracy: that is certified.
    """

    source: str
    bounds: dict[str, float] = {}
    lower: dict[str, float] = {}
    seconds: dict[str, float] = {}
    solver: str = ""
    accuracy: ReportedAccuracy | None = None
    note: str = ""


class Standardised(_Model):
    """How pixels in [0, 1] become what a network takes: (x - mean) / spread, a mean a channel."""

    means: tuple[float, ...] = Field(min_length=1)
    spread: float = Field(gt=0)

    def applied(self, pixels: Any) -> Any:
        """Of pixels (n, channels, ...), in double precision."""
        if pixels.shape[1] != len(self.means):
            raise ConfigError(
                f"standardise: {len(self.means)} means do not fit {pixels.shape[1]} channels; give one each"
            )
        means = np.array(self.means).reshape(-1, *[1] * (pixels.ndim - 2))
        return (pixels.astype(np.float64) - means) / self.spread


class Network(_Model):
    """An entry of networks.yaml.

    architecture: a file of certlip/zoo; factory: ``package.module:function``, whose code is run; torchvision: one of
    its models; options: of one of these; onnx, npz: a file that holds the network with its weights; origin: where that
    file comes from, for whoever lacks it; input_shape: needed with a factory or torchvision, and where an ONNX file
    leaves it open; seed: of the random weights, and of training; orthogonal: whether an architecture's random weights
    are orthogonal; train or weights: where trained weights come from, random ones without; dataset: whose images the
    lower bound starts from and predictions are certified of, by default the one trained on; standardise: what its
    pixels become before the network takes them.
    """

    architecture: str | None = None
    factory: str | None = None
    torchvision: str | None = None
    onnx: str | None = None
    npz: str | None = None
    origin: str | None = None
    options: dict[str, Any] = {}
    input_shape: tuple[int, ...] | None = None
    seed: int = Field(default=0, ge=0)
    orthogonal: bool = False
    train: Training | None = None
    weights: Weights | None = None
    dataset: str | None = None
    standardise: Standardised | None = None
    experiment: Experiment | None = None
    reported: Reported | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Network:
        origins = (self.architecture, self.factory, self.torchvision, self.onnx, self.npz)
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError("give one of architecture, factory, torchvision, onnx and npz")
        if self.function is not None and self.input_shape is None:
            raise ValueError("a factory needs input_shape" if self.factory else "torchvision needs input_shape")
        if self.train is not None and self.weights is not None:
            raise ValueError("give either train or weights")
        if self.file is not None and (self.train or self.weights or self.options):
            raise ValueError("onnx and npz bring their weights: leave out train, weights and options")
        if self.origin is not None and self.file is None:
            raise ValueError("origin is of a file: give it with onnx or npz")
        if self.standardise is not None and self.train is not None:
            raise ValueError("a network is trained on pixels as they are: leave out standardise")
        if self.orthogonal and (self.architecture is None or self.train or self.weights):
            raise ValueError("orthogonal is for the random weights of an architecture")
        return self

    @property
    def function(self) -> str | None:
        """``package.module:function`` that makes the network."""
        return f"torchvision.models:{self.torchvision}" if self.torchvision else self.factory

    @property
    def file(self) -> str | None:
        """The file that holds the network with its weights."""
        return self.onnx or self.npz

    @property
    def module_name(self) -> str:
        """The Python module that builds the network."""
        if self.file:
            return "certlip.sources"
        return self.function.partition(":")[0] if self.function else f"certlip.zoo.{self.architecture}"

    @property
    def images(self) -> str | None:
        """The data set whose images methods may use."""
        return self.dataset or (self.train.dataset if self.train else None)

    @property
    def unit(self) -> float:
        """Of the network's input, in pixels of the data set."""
        return self.standardise.spread if self.standardise else 1.0


class Method(BaseModel):
    """An entry of ``methods:``.

    method: a file of certlip/methods, by default the entry's own name; module: a module of one's own instead;
    networks: names or patterns (``width-*``) of the only networks it runs on; parts: how many jobs of a cluster its
    semidefinite programs of one network are spread over; every other key is an option of the method.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str | None = None
    module: str | None = None
    networks: tuple[str, ...] = ("*",)
    parts: int = Field(default=1, ge=1)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class MarginMethod(Method):
    """An entry of ``methods:`` under ``certified_accuracy:``, as of `Method`.

    pairs: whether pairs of classes have constants of their own, or all of them sqrt(2) times that of the network;
    local_budget: seconds for constants around images that those leave open.
    """

    pairs: bool = True
    local_budget: float = Field(default=0.0, ge=0)


class Attack(_Model):
    """An attack by projected gradient: steps of an ascent, ascents of an image, seed of their starts."""

    n_steps: int = Field(default=40, ge=1)
    n_restarts: int = Field(default=4, ge=1)
    seed: int = Field(default=0, ge=0)


class CertifiedAccuracy(_Model):
    """Predictions certified of the first test images.

    networks: names or patterns of networks to the radii asked for, l2, in pixels of their data set; images: how many;
    budget: seconds for constants of pairs of classes, of each network and method.
    """

    networks: dict[str, tuple[Radius, ...]] = Field(min_length=1)
    methods: dict[str, MarginMethod | None] = Field(min_length=1)
    images: int = Field(default=200, ge=1)
    attack: Attack = Attack()
    budget: float = Field(default=60.0, ge=0)


class Limits(_Model):
    """What a method, or each semidefinite program, may take; threads: of each."""

    max_seconds: float = Field(default=300.0, gt=0)
    max_memory_mb: float = Field(default=4000.0, gt=0)
    threads: int = Field(default=1, ge=1)


class Config(_Model):
    """A configuration file with the networks and data sets it names resolved."""

    networks: dict[str, Network]
    methods: dict[str, Method]
    datasets: dict[str, Dataset]
    benchmarks: dict[str, dict[str, Any]] = {}
    certified_accuracy: CertifiedAccuracy | None = None
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    limits: Limits = Limits()
    data_folder: str = "data"
    cache_folder: str = ".cache/blocks"
    seed: int = Field(default=0, ge=0)

    _plugins: dict[str, ModuleType] = PrivateAttr(default_factory=dict)
    _options: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)

    def plugin(self, method: str) -> ModuleType:
        """The module of a method's entry."""
        if method not in self._plugins:
            self._plugins[method] = _module_of(method, self.methods[method])
        return self._plugins[method]

    @property
    def margin_methods(self) -> dict[str, MarginMethod]:
        """The methods that certify predictions."""
        section = self.certified_accuracy
        return {name: entry or MarginMethod() for name, entry in section.methods.items()} if section else {}

    def margin_plugin(self, method: str) -> ModuleType:
        """The module of the entry of a method that certifies predictions."""
        return _module_of(method, self.margin_methods[method])

    @property
    def radii(self) -> dict[str, list[float]]:
        """Networks whose predictions are certified, to the radii asked for in pixels, the smallest first."""
        found: dict[str, set[float]] = {}
        for pattern, radii in self.certified_accuracy.networks.items() if self.certified_accuracy else ():
            for network in self.networks:
                if _matches(network, [pattern]):
                    found.setdefault(network, set()).update(radii)
        return {network: sorted(radii) for network, radii in found.items()}

    @property
    def accuracy_rows(self) -> list[tuple[str, str]]:
        """The (network, method) pairs of certified accuracy."""
        methods = self.margin_methods.items()
        return [(n, m) for n in self.radii for m, entry in methods if _matches(n, entry.networks)]

    def options(self, method: str) -> dict[str, Any]:
        """The checked options of a method's entry."""
        if method not in self._options:
            self._options[method] = check_options(method, self.plugin(method), self.methods[method].options)
        return dict(self._options[method])

    def takes(self, method: str, argument: str) -> bool:
        """Whether the method's function has this argument, filled in or an option."""
        return argument in inspect.signature(entry_point(self.plugin(method))).parameters

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The (network, method) pairs that are run."""
        return [(n, m) for n in self.networks for m, entry in self.methods.items() if _matches(n, entry.networks)]

    def planned(self) -> list[str]:
        """Methods made of semidefinite programs, which go through plan, solve and merge."""
        return [name for name in self.methods if is_planned(self.plugin(name))]

    def used_datasets(self) -> list[str]:
        """Data sets that some network is trained on or takes its images from."""
        return list(dict.fromkeys(n.images for n in self.networks.values() if n.images))


class ConfigFile(_Model):
    """config.yaml or quick.yaml as written."""

    networks: list[str] = Field(min_length=1, description="names of networks.yaml, or patterns of them")
    methods: dict[str, Method | None] = Field(min_length=1)
    benchmarks: dict[str, dict[str, Any] | None] = {}
    certified_accuracy: CertifiedAccuracy | None = None
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    limits: Limits = Limits()
    networks_file: str = "config/networks.yaml"
    datasets_file: str = "config/datasets.yaml"
    data_folder: str = "data"
    cache_folder: str = ".cache/blocks"
    seed: int = Field(default=0, ge=0)


def settings(raw: Mapping[str, Any]) -> ConfigFile:
    """A configuration file from its raw form; raises ConfigError for a key or value that is wrong by itself."""
    methods = raw.get("methods")
    return validate(
        ConfigFile, {**raw, "methods": expand(methods, "methods")} if isinstance(methods, Mapping) else raw, "config"
    )


def resolve(raw: Mapping[str, Any], folder: str | Path = ".") -> Config:
    """The configuration from its raw form.

    networks_file and datasets_file are looked for in the working directory, then in `folder`.

    Raises ConfigError: one sentence naming the key or name that is wrong, and the nearest right one.
    """
    file = settings(raw)
    networks = _entries(file.networks_file, folder, Network)
    datasets = _entries(file.datasets_file, folder, Dataset)
    chosen = _chosen(file, networks)
    for name in chosen:
        _check_plugin(f"network {name!r}, architecture", "certlip.zoo", networks[name].architecture)
        images = networks[name].images
        if images is not None and images not in datasets:
            raise ConfigError(f"network {name!r}: {file.datasets_file} has no {images!r}{nearest(images, datasets)}")
        if images is not None:
            _check_plugin(f"{file.datasets_file}, {images!r}", "certlip.datasets", datasets[images].dataset)
    for name in file.tables:
        _check_plugin("tables", "certlip.tables", name)
    for name in file.figures:
        _check_plugin("figures", "certlip.figures", name)
    config = Config(
        networks={name: networks[name] for name in chosen},
        methods={name: method or Method() for name, method in file.methods.items()},
        datasets=datasets,
        benchmarks={name: check_benchmark(name, options or {}) for name, options in file.benchmarks.items()},
        **file.model_dump(include=_COMMON),
    )
    for name, options in config.benchmarks.items():
        for network in options.get("networks", []):
            if network not in config.networks:
                raise ConfigError(
                    f"benchmark {name!r}, networks: {network!r} is none{nearest(network, config.networks)}"
                )
    _check_accuracy(config)
    for name, method in config.methods.items():
        config.options(name)
        if method.parts > 1 and not is_planned(config.plugin(name)):
            raise ConfigError(f"method {name!r}, parts: it is one piece of work; leave parts out")
        _expect_networks(f"method {name!r}", method.networks, config.networks)
    return config


def _check_accuracy(config: Config) -> None:
    """Raises ConfigError naming what is wrong with the section ``certified_accuracy:``."""
    section = config.certified_accuracy
    if section is None:
        return
    where = "certified_accuracy"
    _expect_networks(where, section.networks, config.networks)
    for pattern, radii in section.networks.items():
        if not radii:
            raise ConfigError(f"{where}, networks, {pattern!r}: give radii, as [0.1, 0.3]")
    for network in config.radii:
        if config.networks[network].images is None:
            raise ConfigError(f"{where}: network {network!r} has no images; give it a dataset in the networks file")
    for name, entry in config.margin_methods.items():
        plugin = config.margin_plugin(name)
        _expect_networks(f"{where}, method {name!r}", entry.networks, config.radii)
        if entry.parts > 1:
            raise ConfigError(f"{where}, method {name!r}, parts: its constants are one job; leave parts out")
        check_options(name, plugin, entry.options)


def _expect_networks(where: str, patterns: Iterable[str], networks: Iterable[str]) -> None:
    for pattern in patterns:
        if not any(_matches(network, [pattern]) for network in networks):
            raise ConfigError(f"{where}, networks: {pattern!r} is none{nearest(pattern, networks)}")


def _module_of(name: str, entry: Method) -> ModuleType:
    return load_method(entry.method or name, entry.module)


def _chosen(file: ConfigFile, networks: Iterable[str]) -> list[str]:
    """The networks that the names and patterns of a configuration file stand for, in their order."""
    chosen: list[str] = []
    for pattern in file.networks:
        found = [name for name in networks if _matches(name, [pattern])]
        if not found:
            raise ConfigError(f"networks: {file.networks_file} has no {pattern!r}{nearest(pattern, networks)}")
        chosen += found
    margin_methods = file.certified_accuracy.methods if file.certified_accuracy else ()
    named = ("network", chosen), ("method", [*file.methods, *margin_methods]), ("benchmark", file.benchmarks)
    for kind, names in named:
        for name in names:
            if not re.fullmatch(_NAME, name):
                raise ConfigError(
                    f"{kind} {name!r}: files are called by this name; use letters, digits, '.', '_' and '-' and begin "
                    "with a letter or digit"
                )
    return list(dict.fromkeys(chosen))


_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"


def _matches(network: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(network, pattern) for pattern in patterns)


_COMMON = {"certified_accuracy", "tables", "figures", "limits", "data_folder", "cache_folder", "seed"}


def load(path: str | Path) -> Config:
    """`resolve` of a YAML file."""
    return resolve(read_mapping(path))


def _check_plugin(where: str, package: str, name: str | None) -> None:
    known = plugins.names(package)
    if name is not None and name not in known:
        raise ConfigError(f"{where}: there is no {name!r}{nearest(name, known)}")


def _entries(path: str, folder: str | Path, model: type[M]) -> dict[str, M]:
    found = path if Path(path).exists() else Path(folder) / path
    entries = expand({str(name): entry for name, entry in read_mapping(found).items()}, path)
    return {name: validate(model, entry, f"{path}, {name!r}") for name, entry in entries.items()}
