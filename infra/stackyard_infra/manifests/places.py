"""Where everything of one local stack lies: every path and the stack's id, from the checkout and the stack's name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stackyard.spec import StackSpec


@dataclass(frozen=True)
class Places:
    """The folders of one stack. `state` is in the checkout and survives; `runtime` is short and may vanish."""

    stack: str
    stack_id: str
    checkout: Path
    state: Path
    runtime: Path
    store: Path

    @classmethod
    def of(cls, spec: StackSpec) -> Places:
        """The places of `spec`; the id tells apart any two stacks and any two checkouts of one machine."""
        checkout = spec.checkout.resolve()
        stack_id = hashlib.sha256(f"{checkout}\n{spec.name}".encode()).hexdigest()[:8]
        state = checkout / ".stackyard" / spec.name
        path = spec.environment.store.path
        store = state / "store" if path is None else Path(os.path.normpath(spec.file.parent / path))
        return cls(spec.name, stack_id, checkout, state, Path(f"/tmp/sy-{os.getuid()}-{stack_id}"), store)

    @property
    def site(self) -> Mapping[str, str]:
        """What every resource is told of where it is."""
        return {
            "stack": self.stack,
            "stack_id": self.stack_id,
            "state": str(self.state),
            "runtime": str(self.runtime),
        }

    @property
    def python(self) -> str:
        """The checkout's Python by a path without spaces, which the supervisor sees to: Ray needs one."""
        return str(self.runtime / "venv" / "bin" / "python")

    @property
    def database(self) -> str:
        """SQLAlchemy address of the controller's decisions."""
        return f"sqlite:///{self.state / 'db' / 'controller.sqlite'}"

    @property
    def clock(self) -> str:
        """The file that holds the time, where the environment's clock is virtual."""
        return str(self.state / "clock")

    @property
    def socket(self) -> str:
        """The supervisor's unix socket."""
        return str(self.runtime / "supervisor.sock")

    def log(self, process: str) -> str:
        """The log of one process."""
        return str(self.state / "logs" / f"{process}.log")

    def file(self, process: str, name: str) -> str:
        """A file of one process."""
        return str(self.state / "etc" / process / name)
