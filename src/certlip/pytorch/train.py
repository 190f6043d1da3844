"""Training a classifier: the same seed, machine and number of threads give the same weights on CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import Progress
from torch import nn

from certlip.base import plugins
from certlip.base.errors import ConfigError
from certlip.datasets import Dataset, Images, Labels

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **options),
}


@dataclass(frozen=True)
class TrainResult:
    """state_dict: the trained weights; accuracies in [0, 1] after the last epoch; seconds: of training alone."""

    state_dict: dict[str, torch.Tensor]
    train_accuracy: float
    test_accuracy: float
    seconds: float
    epochs: int

    @property
    def facts(self) -> dict[str, float]:
        """All but the weights, JSON-ready."""
        return {key: value for key, value in vars(self).items() if key != "state_dict"}


def train(
    module: nn.Module,
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    weight_decay: float = 0.0,
    optimizer: str = "adam",
) -> TrainResult:
    """Train `module` in place with cross-entropy on shuffled batches; it is left in eval mode.

    Raises ConfigError for an option out of range, a module that does not fit the data, or a loss that is not finite.
    """
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"unknown optimizer {optimizer!r}{plugins.nearest(optimizer, OPTIMIZERS)}")
    for name, value in {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} must be positive, not {value}")
    _expect_fit(module, dataset)
    images, labels = torch.from_numpy(dataset.train_images), torch.from_numpy(dataset.train_labels)
    step = OPTIMIZERS[optimizer](module.parameters(), lr=learning_rate, weight_decay=weight_decay)
    with _deterministic(seed), Progress() as progress:
        start = time.perf_counter()
        task = progress.add_task("training", total=epochs * math.ceil(len(labels) / batch_size))
        module.train()
        for epoch in range(1, epochs + 1):
            for batch in torch.randperm(len(labels)).split(batch_size):
                loss = F.cross_entropy(module(images[batch]), labels[batch])
                if not math.isfinite(loss.item()):
                    raise ConfigError(
                        f"training diverged in epoch {epoch}: the loss is {loss.item()}; lower learning_rate "
                        f"({learning_rate:g})"
                    )
                step.zero_grad()
                loss.backward()
                step.step()
                progress.update(task, advance=1, description=f"epoch {epoch}/{epochs}, loss {loss.item():.4f}")
        seconds = time.perf_counter() - start
    return TrainResult(
        {key: value.detach().clone() for key, value in module.state_dict().items()},
        accuracy(module, dataset.train_images, dataset.train_labels),
        accuracy(module, dataset.test_images, dataset.test_labels),
        seconds,
        epochs,
    )


def accuracy(module: nn.Module, images: Images, labels: Labels) -> float:
    """Share of images (n, channels, rows, columns) to which `module`, put in eval mode, gives their label (n,)."""
    module.eval()
    with torch.no_grad():
        guesses = [module(batch).argmax(dim=1) for batch in torch.from_numpy(images).split(1000)]
    return float(np.mean(torch.cat(guesses).numpy() == labels))


def _expect_fit(module: nn.Module, dataset: Dataset) -> None:
    module.eval()
    try:
        with torch.no_grad():
            outputs = module(torch.from_numpy(dataset.train_images[:2]))
    except (RuntimeError, ValueError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"{type(module).__name__} does not take images of shape {dataset.image_shape}: {first_line}"
        ) from error
    if outputs.ndim != 2 or outputs.shape[1] < dataset.n_classes:
        raise ConfigError(
            f"{type(module).__name__} gives outputs of shape {tuple(outputs.shape[1:])}; for {dataset.n_classes} "
            "classes it must end with one output a class"
        )


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Seed torch and allow deterministic algorithms only; both are as before afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
