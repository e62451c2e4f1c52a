"""A small real training to rehearse faults with: `python -m stackyard.training.practice FOLDER --steps N`.

Logistic regression on rows that it makes itself, by minibatches with momentum, noise on the inputs and now and then a
minibatch left out, so that weights, moments, two random generators and the data cursor all decide the result. It runs
as a Ray task that Ray starts again when its node dies; `--here` runs it in this process. At its end `FOLDER/model.json`
holds the digest of the weights, which is one number whether or not it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stackyard.training.resumable import Cursor, Minibatches, Resumable
from stackyard.training.states import State, digest

_ROWS, _COLUMNS, _BATCH, _SEED = 4096, 32, 64, 7


@dataclass(frozen=True)
class Practice:
    """What is trained."""

    folder: str
    """Where checkpoints and the result lie; best in a workspace."""
    steps: int
    name: str = "practice"
    every: int = 20
    """Steps between two checkpoints."""
    pace: float = 0.0
    """Seconds that a step takes longer than it must, as a larger model's would."""
    beside: str | None = None
    """Where it is announced; None: where the environment says."""


def practise(wanted: Practice) -> str:
    """Train, from the newest checkpoint on. Returns the digest of the weights."""
    features, labels = _rows()
    batches, inputs, dice = Minibatches(_ROWS, _BATCH, _SEED), np.random.default_rng(_SEED), random.Random(_SEED)
    beside = None if wanted.beside is None else Path(wanted.beside)
    with Resumable(Path(wanted.folder), wanted.name, beside=beside, often=0) as training:
        state = training.newest()
        if state is None:
            zeros = np.zeros(_COLUMNS)
            state = State(0, {"weights": zeros, "moments": zeros.copy()}, facts={"cursor": asdict(Cursor())})
        else:
            state.recall(inputs=inputs, dice=dice)
        while state.step < wanted.steps:
            chosen, cursor = batches.after(Cursor(**state.facts["cursor"]))
            if dice.random() < 0.9:
                seen = features[chosen] + inputs.normal(scale=0.1, size=(len(chosen), _COLUMNS))
                error = 1 / (1 + np.exp(-seen @ state.arrays["weights"])) - labels[chosen]
                state.arrays["moments"] = 0.9 * state.arrays["moments"] + seen.T @ error / len(chosen)
                state.arrays["weights"] = state.arrays["weights"] - 0.1 * state.arrays["moments"]
            state.step, state.facts["cursor"] = state.step + 1, asdict(cursor)
            time.sleep(wanted.pace)
            training.at(state.step)
            if state.step % wanted.every == 0 or state.step == wanted.steps or training.asked():
                training.save(state.remember(inputs=inputs, dice=dice))
    return digest({"weights": state.arrays["weights"]})


def on_ray(wanted: Practice) -> str:
    """The same as a task of the cluster that the environment names, begun anew whenever its node dies."""
    import ray

    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
    try:
        return ray.get(ray.remote(num_cpus=1, max_retries=-1)(practise).remote(wanted))
    finally:
        ray.shutdown()


def main(arguments: list[str]) -> int:
    """Train and write the result. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stackyard.training.practice", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--name", default="practice")
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--here", action="store_true", help="in this process, without Ray")
    told = parser.parse_args(arguments)
    wanted = Practice(os.path.abspath(told.folder), told.steps, told.name, told.every, told.pace)
    found = practise(wanted) if told.here else on_ray(wanted)
    result = Path(wanted.folder, "model.json")
    scratch = result.with_name(f".{result.name}.{os.getpid()}")
    scratch.write_text(json.dumps({"steps": wanted.steps, "digest": found}))
    scratch.replace(result)
    print(f"{wanted.name}: {wanted.steps} steps, digest {found}", flush=True)
    return 0


def _rows() -> tuple[np.ndarray, np.ndarray]:
    """Features [rows, columns] and labels [rows], always the same."""
    generator = np.random.default_rng(_SEED)
    features = generator.normal(size=(_ROWS, _COLUMNS))
    truth = generator.normal(size=_COLUMNS)
    return features, (features @ truth + generator.normal(size=_ROWS) > 0).astype(float)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
