"""Train on a leased cluster, by minibatches, so that it goes on wherever it was interrupted.

In the workspace of a leased cluster, in a terminal or notebook, where the project lies beside `data/`:

    python flights/lab_training.py --epochs 5

It is a task of the cluster's Ray, which begins it anew on another worker when its own dies. Begun again by hand after
anything worse (the head is gone, the lease ended, the workspace was restored to another cluster) it continues from its
newest checkpoint, and ends with the weights of a training that was never interrupted: the same digest. `--here` trains
in this process, without Ray.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import polars as pl

from stackyard.training.resumable import Cursor, Minibatches, Resumable
from stackyard.training.states import State, digest

PROJECT = Path(__file__).resolve().parent
BATCH, RATE, NOISE, SEED = 512, 0.003, 0.05, 2013
EVERY = 200
"""Steps between two checkpoints."""


def rows(project: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features [departures, columns], standardised, a column for each category; labels [departures]: late or not."""
    sys.path.insert(0, str(project))  # a worker of Ray knows nothing of the folder that this was started in
    import flights_data
    import flights_features

    data = project.parent / "data" / "flights.parquet"
    if data.exists():
        frame = pl.read_parquet(data)
    else:
        start = pl.Series(["2013-01-01", "2013-03-01"]).str.to_datetime(time_zone="UTC")
        frame = flights_data.read(start[0], start[1])
    seen = flights_features.build(frame)
    words = [name for name, kind in seen.schema.items() if kind == pl.String]
    numbers = seen.drop(words).cast(pl.Float64)
    numbers = numbers.select((pl.all() - pl.all().mean()) / pl.all().std()).fill_null(0.0).fill_nan(0.0)
    known = seen.select(words).to_dummies()
    columns = [numbers, known.select(sorted(known.columns)).cast(pl.Float64)]
    return pl.concat(columns, how="horizontal").to_numpy(), frame["late"].cast(pl.Float64).to_numpy()


def train(project: Path, folder: Path, epochs: int) -> dict[str, object]:
    """Train, from the newest checkpoint in `folder` on. Returns steps, last epoch's loss, digest of the weights."""
    features, labels = rows(project)
    batches, noise = Minibatches(len(labels), BATCH, SEED), np.random.default_rng(SEED)
    with Resumable(folder, "flights") as training:
        state = training.newest()
        if state is None:
            names = ("weights", "first", "second")
            state = State(0, {name: np.zeros(features.shape[1] + 1) for name in names}, facts={"loss": [], "epoch": 0})
            state.facts["position"] = 0
        else:
            state.recall(noise=noise)
            print(f"goes on after step {state.step}", flush=True)
        while state.facts["epoch"] < epochs:
            before = Cursor(state.facts["epoch"], state.facts["position"])
            chosen, after = batches.after(before)
            seen = np.column_stack([features[chosen], np.ones(len(chosen))])
            seen += noise.normal(scale=NOISE, size=seen.shape)
            state.facts["loss"] = (state.facts["loss"] if before.position else []) + [
                _step(state, seen, labels[chosen])
            ]
            state.facts |= {"epoch": after.epoch, "position": after.position}
            training.at(state.step)
            if after.epoch > before.epoch:
                print(f"epoch {after.epoch}: loss {np.mean(state.facts['loss']):.4f}", flush=True)
            if after.epoch == epochs or state.step % EVERY == 0 or training.asked():
                training.save(state.remember(noise=noise))
    mean = float(np.mean(state.facts["loss"]))
    return {"steps": state.step, "loss": mean, "digest": digest({"weights": state.arrays["weights"]})}


def _step(state: State, seen: np.ndarray, late: np.ndarray) -> float:
    """One step of Adam on the logistic loss, in place. Returns the loss before it."""
    chance = 1 / (1 + np.exp(-seen @ state.arrays["weights"]))
    gradient = seen.T @ (chance - late) / len(late)
    state.step += 1
    first = state.arrays["first"] = 0.9 * state.arrays["first"] + 0.1 * gradient
    second = state.arrays["second"] = 0.999 * state.arrays["second"] + 0.001 * gradient**2
    step = RATE * (first / (1 - 0.9**state.step)) / (np.sqrt(second / (1 - 0.999**state.step)) + 1e-8)
    state.arrays["weights"] = state.arrays["weights"] - step
    right = np.clip(np.where(late > 0.5, chance, 1 - chance), 1e-12, None)
    return float(-np.log(right).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=PROJECT.parent / "training", help="where checkpoints lie")
    parser.add_argument("--here", action="store_true", help="in this process, without Ray")
    told = parser.parse_args()
    folder = told.folder.resolve()
    if told.here:
        found = train(PROJECT, folder, told.epochs)
    else:
        import ray

        ray.init(address=os.environ["RAY_ADDRESS"])
        task = ray.remote(num_cpus=1, max_retries=-1)(train)
        found = ray.get(task.remote(PROJECT, folder, told.epochs))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
