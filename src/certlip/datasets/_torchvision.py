"""The only place that imports torchvision: it takes seconds, and may need help beside a CPU-only torch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any

from certlip.base.errors import NoData

_declared: list[Any] = []  # a torch.library.Library undoes its definitions when it is collected


def torchvision_datasets() -> ModuleType:
    """The module ``torchvision.datasets``."""
    allow_torchvision()
    import torchvision.datasets

    return torchvision.datasets


def allow_torchvision() -> None:
    """Let a torchvision built for CUDA import beside a torch without it; needed once, before its first import.

    Its compiled library cannot be loaded then, but its Python files register implementations of two operators of that
    library; declaring those is all that reading data sets needs.
    """
    import torch

    found = None if _declared or "torchvision" in sys.modules else importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        return
    for library in sorted(Path(found.submodule_search_locations[0]).glob("_C*.so")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            declared = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(declared)
            return


def download(name: str, urls: Sequence[str], folder: Path, file: str, md5: str, by_hand: Sequence[str]) -> None:
    """Leave `file` with this checksum in `folder`: it is there already, or is fetched from the first url that has it.

    Raises NoData if no url gives it, saying that the files `by_hand` can be put there.
    """
    torchvision_datasets()
    from torchvision.datasets import utils

    if utils.check_integrity(folder / file, md5):
        return
    reasons = [f"the {file} that lies there has a wrong checksum"] if (folder / file).exists() else []
    for url in urls:
        try:
            utils.download_url(url, str(folder), file, md5)
            return
        except (OSError, HTTPException, RuntimeError, ValueError) as error:  # unreachable, or another checksum
            reasons.append(_first_line(error))
    sentence = (
        f"data set {name!r} could not be downloaded from {' or '.join(urls)} ({'; '.join(reasons)}); put "
        f"{', '.join(by_hand)} into {folder} by hand, or use the data set 'digits', which needs no download"
    )
    raise NoData(sentence, [str(folder / f) for f in by_hand], urls)


def _first_line(error: object) -> str:
    return str(error).strip().split("\n")[0]
