"""Whether a stack still exists, asked of the backend that its clusters remember; only one that answers can say no.

Unreachable, a login that is gone, a timeout, an empty folder where a state should be: none of them is a no.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 60
"""Seconds that a backend has to answer."""


class Unanswered(Exception):
    """Whether the stack exists is not known; the sentence says why."""


@dataclass
class Backends:
    """Backends, asked through the engine of `checkout`; each of them once."""

    checkout: Path
    patience: float = PATIENCE
    _known: dict[str, set[str] | Unanswered] = field(default_factory=dict[str, "set[str] | Unanswered"])

    def exists(self, backend: str | None, stack: str) -> bool:
        """Whether `backend` (a URL) has a stack called `stack`, of whatever project. Raises Unanswered."""
        if not backend:
            raise Unanswered("no backend was noted when it was made")
        if backend not in self._known:
            try:
                self._known[backend] = self._stacks(backend)
            except Unanswered as reason:
                self._known[backend] = reason
        found = self._known[backend]
        if isinstance(found, Unanswered):
            raise found
        return stack in found

    def _stacks(self, backend: str) -> set[str]:
        _can_say_no(backend)
        command = ["pulumi", "stack", "ls", "--all", "--json", "--non-interactive"]
        try:
            done = subprocess.run(
                command, cwd=self.checkout, env=self._environment(backend), stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", timeout=self.patience,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Unanswered(f"{backend} does not answer within {self.patience:g} s") from None
        except OSError as error:
            raise Unanswered(f"pulumi cannot be run ({error.strerror}): `make setup`") from None
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[0]
            raise Unanswered(f"{backend} does not answer: {said}")
        try:
            return {str(each["name"]).rpartition("/")[2] for each in json.loads(done.stdout)}
        except (ValueError, TypeError, KeyError):
            raise Unanswered(f"{backend} answers something else than a list of stacks") from None

    def _environment(self, backend: str) -> Mapping[str, str]:
        """The user's own, with the checkout's engine and that backend; a local state needs no login."""
        asked = subprocess.run(
            ["sh", "tools/machine.sh", "path"], cwd=self.checkout, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        path = asked.stdout.strip().splitlines()[-1:] or [os.environ.get("PATH", os.defpath)]
        own = {"PATH": path[0], "PULUMI_BACKEND_URL": backend, "PULUMI_SKIP_UPDATE_CHECK": "1"}
        home = self.checkout / ".stackyard" / "pulumi"
        if backend.startswith("file:") and home.is_dir():
            own["PULUMI_HOME"] = str(home)
        return {**os.environ, **own}


def _can_say_no(backend: str) -> None:
    """Raises Unanswered for a backend whose silence about a stack says nothing.

    A folder that is not there, or holds no state, would answer that there are no stacks at all.
    A service lists what the login of today sees, and whose login made the stack nobody noted: it never says no.
    """
    parts = urllib.parse.urlsplit(backend)
    if parts.scheme in ("http", "https"):
        raise Unanswered(f"{backend} answers only for who is logged in, and who made the stack nobody noted")
    if parts.scheme != "file":
        return
    path = urllib.parse.unquote(parts.netloc + parts.path)
    folder = Path(path).expanduser()
    if not folder.is_absolute():
        raise Unanswered(f"{backend} is relative, and from where nobody noted")
    if not (folder / ".pulumi").is_dir():
        raise Unanswered(f"{backend} holds no state of Pulumi")
