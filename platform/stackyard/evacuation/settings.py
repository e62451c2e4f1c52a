"""What the saver is told: which workspace, into which store, signed with which key."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlparse

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from stackyard.evacuation.errors import SettingsError

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A text that stands in the keys of the store."""


class Extra(BaseModel):
    """Something beside the workspace that belongs to a version."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path | None = None
    """A file to save, if it is there."""
    freeze: Path | None = None
    """A Python interpreter whose `pip freeze` to save."""
    folder: Path | None = None
    """A folder whose files to save, if it is there."""
    names: tuple[str, ...] = ("*",)
    """Which files of `folder`, by their paths in it; `*` also matches `/`."""
    most: int = Field(default=64 << 20, ge=0)
    """Bytes of `folder` saved together, the newest files first."""
    keep: bool = False
    """Whether to save on what was once in `folder` and is gone."""
    jobs: str | None = None
    """URL of a Ray dashboard whose jobs to save."""
    token: Path | None = None
    """The file with the token that `jobs` asks for."""

    @model_validator(mode="after")
    def _one(self) -> Extra:
        if sum(each is not None for each in (self.file, self.freeze, self.folder, self.jobs)) != 1:
            raise ValueError("an extra is either a `file` or a `freeze`, a `folder` or `jobs`")
        return self


class SaverSettings(BaseModel):
    """The settings file of `python -m stackyard.evacuation`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stack: str
    """The stack's name."""
    stack_id: str
    """The id that its processes carry."""
    cluster: Key
    """The cluster's name; the workspace is saved under it."""
    instance: Key
    """The id that the cluster was given when it was created."""
    generation: int = Field(ge=0)
    """Grows each time the workspace is unsealed."""
    workspace: Path
    """The folder to save."""
    store: str
    """Folder or URL of the object store."""
    receipt_key: Path
    """The ed25519 key (0600) that signs versions, receipts and discards."""
    trusted_keys: tuple[str, ...]
    """Public halves of the receipt keys."""
    exclude: tuple[str, ...] = ()
    """Patterns left out: `*` and `?` also match `/`; one without `/` is held against the last part of a path."""
    include: tuple[str, ...] = ()
    """Patterns saved all the same, whatever `exclude` and `largest` say."""
    largest: int | None = Field(default=None, ge=0)
    """Bytes; a larger file is left out, and listed. Null: none is too large."""
    encrypt_key: Path | None = None
    """A file (0600) of 32 random bytes: contents and names are encrypted with it. Null: they are not."""
    state: Path
    """A folder for the saver's own memory, outside the workspace."""
    processes_tag: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*=.+$")] | None = None
    """NAME=VALUE that the cluster's processes carry in their environment."""
    every: float = Field(default=300.0, gt=0)
    """Seconds from the start of one save to the start of the next."""
    ask: float = Field(default=30.0, ge=0)
    """Seconds that running trainings have to write a checkpoint before they are stopped; 0: they are not asked."""
    trainings: Path | None = None
    """Where they announce themselves. Null: the folder `trainings` beside the workspace."""
    extras: dict[Key, Extra] = Field(default_factory=dict[str, Extra])
    """What else belongs to a version, by name."""

    @model_validator(mode="after")
    def _apart(self) -> SaverSettings:
        inner = os.path.realpath(self.workspace)
        for name, place in (("state", str(self.state)), ("store", self.local_store)):
            if place is not None and f"{os.path.realpath(place)}/".startswith(f"{inner}/"):
                raise ValueError(f"`{name}` lies inside the workspace, and would be saved into itself")
        return self

    @property
    def local_store(self) -> str | None:
        """The store's folder; None when it is not one."""
        if "://" in self.store and urlparse(self.store).scheme != "file":
            return None
        return self.store.removeprefix("file://")

    def same_disk(self) -> bool | None:
        """Whether losing the workspace's disk would lose the store; None when one of them is not there to be asked."""
        if self.local_store is None:
            return False
        try:
            return os.stat(self.workspace).st_dev == os.stat(self.local_store).st_dev
        except OSError:
            return None


def read(path: Path) -> SaverSettings:
    """The settings at `path`. Raises SettingsError with every problem in one sentence."""
    try:
        return SaverSettings.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'settings'}: {p['msg']}" for p in error.errors())
        raise SettingsError(f"{path}: {problems}") from None
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON: {error}") from None
