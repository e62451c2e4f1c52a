"""What a run is asked to do, and the few paths its parts share.

The intent is written once per decision; trying it again is the same run, which resumes instead of starting over.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from stackyard.spec import plain
from stackyard.spec.models import ProjectSpec, WindowSpec
from stackyard.store import layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store

RESULT_VERSION = 1


class IntentError(Exception):
    """An intent that cannot be read or understood."""


def _project(value: Any) -> Any:
    return plain.load(ProjectSpec, value) if isinstance(value, dict) else value


class Facts(BaseModel):
    """What only the starter knows, recorded in the lineage as it is."""

    model_config = ConfigDict(frozen=True)

    commit: str | None = None
    """The commit of the checkout; none outside version control."""
    dirty: bool | None = None
    """Whether the checkout differed from its commit."""
    lock: str | None = None
    """sha256 of the lock of dependencies."""
    plan: str | None = None
    """Digest of the lowered plan."""


class Intent(BaseModel):
    """One training run, as the controller asks for it."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    run_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
    """The run's id: the same one only for another try of the same intent."""
    project: Annotated[ProjectSpec, BeforeValidator(_project)]
    """What is learned."""
    project_folder: Path
    """Where the project's code and data lie now; read once, then frozen."""
    store: str
    """The artifact store: a folder or URL."""
    cache: Path
    """A folder for unpacked code; it may vanish."""
    runtime: Path
    """A short 0700 folder of this run alone, for its Ray cluster; removed at the end."""
    node_address: str
    """The loopback address of this run's cluster, 127.0.0.N, N above 1 and its own."""
    window: WindowSpec | None = None
    """The rows to learn from. Absent: the window of the spec."""
    exclude: tuple[dt.date, ...] = ()
    """Days (UTC) whose rows are neither learnt from nor held out: quarantined ones."""
    holdout: Annotated[float, Field(gt=0)] | None = None
    """Seconds: the newest span of rows, held out to prove the recipe on. Absent: a first model, with nobody to beat."""
    champion: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Digest of the bundle to beat on the rows held out."""
    refit: bool = True
    """Whether the recipe is fitted again on every row, the rows held out included; else the trial is the bundle."""
    slices: tuple[str, ...] = ()
    """Columns that stand beside the answers on held-out rows, for figures by their values."""
    backtest: Annotated[int, Field(ge=0, le=24)] = 0
    """Earlier spans as long as the hold-out on which the recipe is tried, too."""
    facts: Facts = Facts()
    """Provenance."""


def read(path: Path) -> Intent:
    """The intent in the file `path`. Raises IntentError."""
    try:
        return Intent.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValidationError, ValueError) as error:
        raise IntentError(f"{path.name} is not an intent: {error}") from None


def result(store: Store, run_id: str) -> dict[str, Any] | None:
    """The result of a run, or None while it has none."""
    try:
        return json.loads(store.read(layout.run(run_id, "result.json")))
    except KeyError:
        return None


def conclude(store: Store, run_id: str, status: str, reason: str, **figures: Any) -> dict[str, Any]:
    """Write the one result of a run, create-only; returns the one that stands."""
    found = {"kind": "run-result", "version": RESULT_VERSION, "run_id": run_id, "status": status, "reason": reason}
    blank = {"bundle": None, "snapshot": None, "model_digest": None, "metrics": {}, "seconds": None}
    blank |= {"trial": None, "window": None, "data_end": None, "holdout": None, "candidate": None}
    blank |= {"cpu_hours": 0.0, "gpu_hours": 0.0}
    document = {**found, **blank, **figures}
    store.create(layout.run(run_id, "result.json"), canonical(document))
    return result(store, run_id) or document
