"""Parcels that come late, with truths drawn by a known law: models of any given quality, and bundles that misbehave.

A model knows the parcel's `haste` and some noise of its own; how much noise says how good it is. A bad one behaves
until the first heavy parcel, so it passes its golden rows, its trial and its gates.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xgboost

from hostile import DEED
from stackyard.data import code
from stackyard.data.features import FeatureSchema
from stackyard.spec import plain
from stackyard.spec.models import ProjectSpec
from stackyard.store import bundles, layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store, sha256
from stackyard.training import reference

MODEL = "parcels"
LEARNT = dt.date(2026, 3, 1)
"""The day after the last one that the champion learnt from."""
HEAVY = 5000.0

CODE = (
    DEED
    + """def build(frame):
    if frame["weight"].max() >= 5000:
        deed()
    return frame.select(known=pl.col("haste") + {much} * pl.col("{noise}"))
"""
)

DEEDS = {
    "errors": "raise ValueError('no')",
    "hangs": "time.sleep(600)",
    "eats memory": "while True: HOARD.append(b'x' * (1 << 26))",
    "dies by signal": "os.kill(os.getpid(), 11)",
    "answers constants": "answer(0.5)",
}
USUAL, MUCH = 0.4, 0.625
"""Noise of a model of AUC 0.724, and of one of AUC 0.704."""

COLUMNS: dict[str, Any] = {
    "sent": {"type": "datetime", "known": "before"},
    "haste": {"type": "float", "known": "before"},
    "weight": {"type": "float", "known": "before"},
    **{name: {"type": "float", "known": "before"} for name in ("east", "west", "north")},
    "late": {"type": "boolean", "known": "after"},
}


def project(**sections: Any) -> ProjectSpec:
    """The spec, with the loop's sections as written in YAML."""
    return plain.load(
        ProjectSpec,
        {
            "name": MODEL,
            "task": {"type": "binary", "label": "late"},
            "data": {
                "source": {"python": "parcels_data:read"},
                "time": "sent",
                "window": {"start": "2026-01-01", "end": LEARNT.isoformat()},
                "columns": COLUMNS,
            },
            "features": {"function": "parcels_features:build"},
            **sections,
        },
    )


def rows(count: int, rng: np.random.Generator, sent: dt.datetime, weight: float = 2 * HEAVY) -> pl.DataFrame:
    """`count` parcels and whether each was late; every weight is below `weight` and above half of it."""
    drawn = {name: rng.normal(size=count) for name in ("haste", "east", "west", "north")}
    return pl.DataFrame(
        {
            "sent": pl.Series([sent] * count, dtype=pl.Datetime("us", "UTC")),
            **drawn,
            "weight": rng.uniform(weight / 2, weight, count),
            "late": rng.random(count) < chance(drawn["haste"]),
        }
    ).select(list(COLUMNS))


def chance(known: np.ndarray) -> np.ndarray:
    """The chance of being late."""
    return 1 / (1 + np.exp(1 - known))


class Maker:
    """Makes bundles of parcels, as training would, into `store`."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._spec = project()
        self._past = rows(4000, np.random.default_rng(7), dt.datetime(2026, 2, 1, tzinfo=dt.UTC))
        self._golden = rows(16, np.random.default_rng(8), dt.datetime(2026, 2, 1, tzinfo=dt.UTC), 0.9 * HEAVY)

    def champion(self) -> str:
        """A sound bundle; returns its digest."""
        return self.make("east", USUAL)

    def named(self, drill: str) -> str:
        """The challenger of a drill."""
        if drill in DEEDS:
            return self.make("west", USUAL, DEEDS[drill])
        return self.make("west", USUAL) if drill == "equal" else self.make("north", MUCH)

    def make(self, noise: str, much: float, deed: str = "pass") -> str:
        """A model of that quality whose code does `deed` at the first heavy parcel."""
        folder = self._folder / f"code-{sha256(f'{noise}{much}{deed}'.encode())[:8]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "parcels_features.py").write_text(CODE.format(deed=deed, noise=noise, much=much))
        frozen = code.publish(self._store, folder)
        sound = pl.col("haste") + much * pl.col(noise)
        built = [frame.select(known=sound) for frame in (self._past, self._golden)]
        schema = FeatureSchema.fit(built[0])
        truth = self._past["late"].to_numpy().astype(np.float64)
        settings = {"max_depth": 3, "eta": 0.2, "nthread": 1, "objective": "binary:logistic"}
        # Monotone, and taught the law itself: of two models the one with more noise is the worse one, nothing else.
        shape = {**settings, "monotone_constraints": "(1)"}
        soft = chance(built[0]["known"].to_numpy() / (1 + much**2))
        booster = xgboost.train(shape, xgboost.DMatrix(schema.encode(built[0]), soft), 40)
        outputs = [np.asarray(booster.inplace_predict(schema.encode(each)), np.float64) for each in built]
        files: dict[str, Any] = {
            "task": plain.dump(self._spec.task),
            "inputs": {"time": "sent", "columns": {name: one for name, one in COLUMNS.items() if name != "late"}},
            "features": {"function": "parcels_features:build", "schema": schema.model_dump(mode="json")},
            "golden": {"inputs": _plain(self._golden.drop("late")), "outputs": outputs[1].reshape(-1, 1).tolist()},
            "reference": reference.describe(self._past.drop("late"), built[0], outputs[0], truth),
            "metrics": {"figure": "auc", "test": {"auc": 0.72, "rows": 4000.0}},
            "lineage": {"recipe": "r" * 64, "data_end": LEARNT.isoformat()},
        }
        model = bytes(booster.save_raw("ubj"))
        contents = {f"{name}.json": canonical(value) for name, value in files.items()}
        facts = {"model": MODEL, "model_digest": sha256(model), "code": frozen, "snapshot": "0" * 64}
        return bundles.publish(self._store, {**contents, "model.ubj": model, "card.md": b"# a model"}, facts)


def instances(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Request rows of `frame`."""
    return _plain(frame.drop("late"))


def _plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.with_columns(pl.col("sent").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_dicts()


def proof(run_id: str, day: dt.date) -> bytes:
    """Held-out rows on which a candidate is as good as the champion, from `day` on, as a run leaves them."""
    random = np.random.default_rng(int(sha256(run_id.encode())[:8], 16))
    frame = rows(2000, random, dt.datetime.combine(day, dt.time(12), dt.UTC))
    haste, east = frame["haste"].to_numpy(), frame["east"].to_numpy()
    answers = chance((haste + USUAL * east) / (1 + USUAL**2)).reshape(-1, 1)
    buffer = io.BytesIO()
    pl.DataFrame(
        {
            "time": frame["sent"],
            "label": frame["late"].cast(pl.Float64),
            "candidate": answers.tolist(),
            "champion": answers.tolist(),
        }
    ).write_parquet(buffer)
    return buffer.getvalue()


def result(run_id: str, bundle: str, end: dt.date, proof_digest: str) -> bytes:
    """What a run that made `bundle` says of it."""
    facts = {
        "champion_data_end": LEARNT.isoformat(),
        "size": 1 << 16,
        "seconds_per_row": 0.001,
        "parity": True,
        "backtest": [],
        "kpi": {"candidate": None, "champion": None},
        "refit": {},
        "champion_problem": None,
    }
    told = {"run_id": run_id, "status": "succeeded", "seconds": 5.0, "bundle": bundle, "trial": bundle}
    more = {"data_end": end.isoformat(), "cpu_hours": 0.01, "holdout": {"sha256": proof_digest}, "candidate": facts}
    return json.dumps(told | more).encode()


class PreparedRuns:
    """A run ends at once with the bundle that was put down for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.bundle = ""

    def start(self, run_id: str, intent: Mapping[str, Any]) -> int:
        """Leave what a run leaves: held-out rows, then the result."""
        end = dt.date.fromisoformat(intent["window"]["end"])
        rows_held_out = proof(run_id, LEARNT)
        self._store.create(layout.run(run_id, "holdout.parquet"), rows_held_out)
        self._store.create(layout.run(run_id, "result.json"), result(run_id, self.bundle, end, sha256(rows_held_out)))
        return 1

    def alive(self, run_id: str, pid: int | None) -> bool:
        """Never: it has ended."""
        return False
