"""Kinds that are folders and files: the site itself, folders that may outlive it, keys, clocks, plain files."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from stackyard_infra.provider import tagged
from stackyard_infra.provider.certificates import MODULE as CERTIFICATES
from stackyard_infra.provider.certificates import Certificates
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.kinds import Kind, Plain
from stackyard_infra.provider.ledgers import Ledgers
from stackyard_infra.provider.site import Site, private_folder, remove_folder, write_private
from stackyard_infra.provider.values import UNKNOWN
from stackyard_infra.provider.workspaces import Workspace

MARKER = ".made-by-stackyard"


class SiteKind(Kind):
    """The stack's ground. It makes nothing, so a killed `up` leaves nothing before it is known; made first, it is
    deleted last, ends whatever still carries the stack's id, and has certified what is left."""

    def __init__(self, certificates: Sequence[str] = CERTIFICATES) -> None:
        self._certificates = certificates

    def name(self, inputs: Plain) -> str:
        return "site"

    def delete(self, state: Plain) -> None:
        site = Site.of(state)
        alive = tagged.find(site.stack_id)
        Ledgers(site).notice(alive)  # swept with the rest of what the ledger names
        left = tagged.end(site.stack_id)
        if left:
            raise Refusal(f"Processes of stack {site.stack} do not end, even when killed: {'; '.join(left)}.")
        for folder in sorted((site.state / "leases").glob("*/")):  # of clusters that the state forgot
            Workspace(site, folder.name).end()  # their work stays, their place under the ceiling is free again
        remove_folder(site.runtime)
        for folder in (site.etc, site.state / "cache"):
            remove_folder(folder)
        with contextlib.suppress(OSError):  # a workspace that is still there is not ours to remove
            (site.state / "leases").rmdir()
        Certificates(site, self._certificates).of_stack()


class FolderKind(Kind):
    """A folder with `keep`: whether it outlives the stack. One that was not made here is never removed."""

    replaced_by: ClassVar[frozenset[str]] = frozenset({"site", "path"})

    def name(self, inputs: Plain) -> str:
        return f"folder/{inputs['role']}"

    def create(self, inputs: Plain) -> dict[str, Any]:
        path = Path(inputs["path"])
        if not path.exists():
            private_folder(path)
            (path / MARKER).touch()
        elif not path.is_dir():
            raise Refusal(f"{path} should be the {inputs['role']} folder, but is a file: move it away.")
        return {}

    def read(self, state: Plain) -> dict[str, Any] | None:
        return {} if Path(state["path"]).is_dir() else None

    def delete(self, state: Plain) -> None:
        path = Path(state["path"])
        if state["keep"] or not (path / MARKER).exists():
            return
        remove_folder(path)


class KeysKind(Kind):
    """Release key, operator key and tokens: made once, private halves only ever in their files."""

    private: ClassVar[tuple[str, ...]] = ("signing_key", "token_path", "operator_key", "labels_token_path")
    outputs: ClassVar[tuple[str, ...]] = ("public_keys", "operator_keys", *private)

    def name(self, inputs: Plain) -> str:
        return "keys"

    def create(self, inputs: Plain) -> dict[str, Any]:
        folder = private_folder(_keys(inputs))
        command = [sys.executable, "-P", "-m", "stackyard.store.keys", str(folder)]
        made = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
        if made.returncode != 0:
            reason = (made.stderr.strip() or "it said nothing").splitlines()[-1]
            raise Refusal(f"The stack's keys cannot be made in {folder}: {reason}.")
        return json.loads(made.stdout)

    def read(self, state: Plain) -> dict[str, Any] | None:
        found = all(Path(state[path]).is_file() for path in self.private if path in state)
        return {} if found else None

    def drift(self, state: Plain) -> set[str]:
        return {name for name in self.outputs if not state.get(name)}  # made before there was such a key

    def foresee(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        return {name: state.get(name) or UNKNOWN for name in self.outputs}

    def update(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        return self.create(inputs)

    def delete(self, state: Plain) -> None:
        if not state["keep"]:
            remove_folder(_keys(state))


class ClockKind(Kind):
    """The file of a virtual clock. It is set once and never back: what is in the store happened before it."""

    replaced_by: ClassVar[frozenset[str]] = frozenset({"site", "path"})

    def name(self, inputs: Plain) -> str:
        return "clock"

    def create(self, inputs: Plain) -> dict[str, Any]:
        path = Path(inputs["path"])
        private_folder(path.parent)
        if not path.exists():
            write_private(path, inputs["start"])
        return {}

    def read(self, state: Plain) -> dict[str, Any] | None:
        return {} if Path(state["path"]).is_file() else None

    def update(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        return self.create(inputs)

    def delete(self, state: Plain) -> None:
        if not state["keep"]:
            Path(state["path"]).unlink(missing_ok=True)


class FileKind(Kind):
    """A plain file in the stack's state, for other programs to read."""

    replaced_by: ClassVar[frozenset[str]] = frozenset({"site", "path"})

    def name(self, inputs: Plain) -> str:
        return f"file/{inputs['path']}"

    def create(self, inputs: Plain) -> dict[str, Any]:
        path = self._path(inputs)
        private_folder(path.parent)
        write_private(path, inputs["content"])
        return {}

    def read(self, state: Plain) -> dict[str, Any] | None:
        try:
            content = self._path(state).read_text()
        except FileNotFoundError:
            return None
        return {} if content == state["content"] else {"content": content}

    def update(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        return self.create(inputs)

    def delete(self, state: Plain) -> None:
        self._path(state).unlink(missing_ok=True)

    def _path(self, state: Plain) -> Path:
        return Site.of(state).state / state["path"]


def _keys(state: Plain) -> Path:
    return Site.of(state).state / "keys"
