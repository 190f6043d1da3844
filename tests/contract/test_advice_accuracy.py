"""Advice about certified accuracy and claims of others is followed: what was refused runs then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy
import yaml
from advice import follow

from certlip.base.errors import DataError
from certlip.certify.accuracies import collect
from certlip.certify.proving import table_flaw
from certlip.claims import glipsdp_residual
from certlip.claims._glipsdp import found, read_mat
from certlip.config import Config, Standardised, resolve

NETWORK = {"architecture": "mlp", "options": {"widths": [64, 10]}}
SECTION = {"networks": {"net": [0.1]}, "methods": {"lipsdp": None}}


def resolved(folder: Path, network: dict[str, Any], section: dict[str, Any]) -> Config:
    (folder / "networks.yaml").write_text(yaml.safe_dump({"net": network}))
    (folder / "datasets.yaml").write_text(yaml.safe_dump({"digits": {"dataset": "digits"}}))
    files = {"networks_file": "networks.yaml", "datasets_file": "datasets.yaml"}
    methods = {"networks": ["net"], "methods": {"product": None}}
    return resolve({**files, **methods, "certified_accuracy": section}, folder)


WITH_IMAGES = {**NETWORK, "dataset": "digits"}


@pytest.mark.parametrize(
    ("advice", "wrong", "right"),
    [
        (
            "{}: network {} has no images; give it a dataset in the networks file",
            (NETWORK, SECTION),
            (WITH_IMAGES, SECTION),
        ),
        (
            "{}, networks, {}: give radii, as [0.1, 0.3]",
            (WITH_IMAGES, {**SECTION, "networks": {"net": []}}),
            (WITH_IMAGES, {**SECTION, "networks": {"net": [0.1, 0.3]}}),
        ),
        (
            "{}, method {}, parts: its constants are one job; leave parts out",
            (WITH_IMAGES, {**SECTION, "methods": {"lipsdp": {"parts": 2}}}),
            (WITH_IMAGES, {**SECTION, "methods": {"lipsdp": {}}}),
        ),
        (
            "a network is trained on pixels as they are: leave out standardise",
            ({**NETWORK, "train": {"dataset": "digits"}, "standardise": {"means": [0.5], "spread": 0.5}}, SECTION),
            ({**NETWORK, "train": {"dataset": "digits"}}, SECTION),
        ),
    ],
)
def test_a_section_that_was_refused_is_right_as_advised(advice: str, wrong: Any, right: Any, tmp_path: Path) -> None:
    config = follow(advice, lambda: resolved(tmp_path, *wrong), lambda: resolved(tmp_path, *right))
    assert config.accuracy_rows == [("net", "lipsdp")]


def test_a_mean_each_standardises_pixels() -> None:
    pixels = np.ones((1, 3, 2, 2))
    standardised = follow(
        "standardise: {} means do not fit {} channels; give one each",
        lambda: Standardised(means=(0.5,), spread=0.5).applied(pixels),
        lambda: Standardised(means=(0.5, 0.5, 0.5), spread=0.5).applied(pixels),
    )
    assert (standardised == 1).all()


def test_a_table_that_is_missing_is_made_by_a_run(tmp_path: Path) -> None:
    def flaw() -> str:
        if flaw := table_flaw(tmp_path, []):
            raise DataError(flaw)
        return flaw

    def run() -> str:
        collect([], {}).to_csv(tmp_path / "certified_accuracy.csv", index=False)
        return flaw()

    assert follow("{} is missing or no table of accuracies ({}); run the workflow", flaw, run) == ""


def test_files_of_a_source_are_read_from_a_copy_of_its_repository(tmp_path: Path) -> None:
    path = tmp_path / glipsdp_residual.RESULTS

    def copy() -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(path, {"Lip_GLipSDP": 2.5})
        return path

    assert follow(
        "{} is not there; make a copy of its repository: {}",
        lambda: found(tmp_path, glipsdp_residual.RESULTS),
        lambda: found(tmp_path, glipsdp_residual.RESULTS) if copy() else None,
    )
    path.write_bytes(b"damaged")
    content = follow(
        "{} cannot be read ({}); copy the repository again",
        lambda: read_mat(tmp_path, glipsdp_residual.RESULTS),
        lambda: read_mat(tmp_path, glipsdp_residual.RESULTS) if copy() else None,
    )
    assert content["Lip_GLipSDP"] == 2.5
