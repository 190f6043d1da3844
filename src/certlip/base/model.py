"""What is written as JSON for people to read and for the next job to load."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict

from certlip.base.errors import DamagedFile, DataError
from certlip.base.files import write_atomically


class Model(BaseModel):
    """Immutable, every key known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileModel(Model):
    """A model with a file of its own; noun: what an error calls it."""

    noun: ClassVar[str]

    def save(self, path: str | Path) -> None:
        """Write it as readable JSON."""
        with write_atomically(path, "w") as handle:
            handle.write(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read it; raises DataError if the file is missing or not one."""
        try:
            return cls.model_validate_json(Path(path).read_text())
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist") from error
        except ValueError as error:
            raise DamagedFile(f"{path} is not a certlip {cls.noun}", path) from error
