"""Reading YAML strictly: a key that stands twice in one mapping is an error, where YAML would forget the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from certlip.base.errors import ConfigError


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises ConfigError if the file is missing, no YAML or no mapping, or if a key stands there twice, naming its line.
    """
    try:
        content = _Strict(Path(path).read_text()).get_single_data()
    except OSError as error:
        said = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise ConfigError(f"{path} {said}") from error
    except _Twice as error:
        raise ConfigError(f"{path}, line {error.line}: {error.key!r} stands there twice; remove one") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must be a mapping of names to entries")
    return content


class _Twice(Exception):
    def __init__(self, key: str, line: int) -> None:
        super().__init__(key)
        self.key, self.line = key, line


class _Strict(yaml.SafeLoader):
    """The safe loader; mappings are looked at as they are written, before what ``<<`` merges into them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _Twice(key.value, key.start_mark.line + 1)
                seen.add((key.tag, key.value))
        return node
