"""JSON schemas of the files in config/, for editors; ``python -m certlip.schema`` writes them.

They are made from the models that read those files. Options of methods are completed, and checked when a run begins.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from certlip.base.files import write_atomically
from certlip.config import ConfigFile, Dataset, Network
from certlip.methods import load, names, option_names

_SWEEP = {"description": "keys, each with the list of its values", "type": "object"}


def schemas() -> dict[str, dict[str, Any]]:
    """Name of a file in config/schema, without its ending, to what it holds."""
    config = ConfigFile.model_json_schema()
    options: dict[str, list[str]] = {}
    for method in names():
        for option in option_names(load(method)):
            options.setdefault(option, []).append(method)
    for kind in ("Method", "MarginMethod"):
        known = config["$defs"][kind]["properties"]
        for option, owners in sorted(options.items()):
            known.setdefault(option, {"description": f"option of {', '.join(owners)}"})
    config["$defs"]["Method"]["properties"]["sweep"] = _SWEEP
    networks, datasets = Network.model_json_schema(), Dataset.model_json_schema()
    networks["properties"]["sweep"] = _SWEEP
    return {"config": config, "networks": _entries(networks), "datasets": _entries(datasets)}


def _entries(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a file of named entries."""
    definitions = schema.pop("$defs", {})
    for definition in definitions.values():
        definition.pop("required", None)  # a sweep may fill it in
    return {"type": "object", "additionalProperties": schema, "$defs": definitions}


def write(folder: str | Path) -> None:
    """Write all schemas."""
    for name, schema in schemas().items():
        with write_atomically(Path(folder) / f"{name}.json", "w") as handle:
            handle.write(json.dumps(schema, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write("config/schema")
