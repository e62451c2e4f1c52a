"""What does a watching saver cost the training that it saves?

    python benchmarks/saver_training.py [--windows 20] [--seconds 20] [--every 10] [--checkpoint 16]

One process trains all the time, on every core: a small network of numpy; every 2 seconds a checkpoint (weights and
`checkpoint` MiB that are new each time, the last 5 kept) and a line of a log, beside 2,000 files that do not change. In
every other window a saver (`python -m stackyard.evacuation watch`) saves the workspace every `every` seconds, as beside
a leased cluster. Windows come in pairs, in an order drawn anew for each; the first save of all is made before; its
start counts. Prints one JSON object: steps a second with and without, the ratio of each pair as [median, lowest,
highest], the CPU that the saver took (on a busy machine the figure that says most), how many versions were made.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_signing_key

TRAINING = """
import os, pathlib, sys, time
import numpy as np

folder, size = pathlib.Path("checkpoints"), int(sys.argv[1]) << 20
rng = np.random.default_rng(1)
wide = 256
weights = [rng.normal(size=(wide, wide), scale=0.05).astype(np.float32) for _ in range(4)]
state = rng.bytes(size)
data = rng.normal(size=(256, wide)).astype(np.float32)
step, saved = 0, time.monotonic()
while True:
    layers = [data]
    for each in weights:
        layers.append(np.tanh(layers[-1] @ each))
    gradient = layers[-1] - data
    for number in reversed(range(4)):
        gradient = gradient * (1 - layers[number + 1] ** 2)
        weights[number] -= 1e-4 * layers[number].T @ gradient
        gradient = gradient @ weights[number].T
    step += 1
    print(step, flush=True)
    if time.monotonic() - saved > 2:
        state = rng.bytes(size)
        part = folder / ".part"
        part.write_bytes(b"".join(each.tobytes() for each in weights) + state)
        part.rename(folder / f"step-{step:08}.ckpt")
        for old in sorted(folder.glob("step-*"))[:-5]:
            old.unlink()
        with open("log.txt", "a") as log:
            log.write(f"step {step}\\n")
        saved = time.monotonic()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--every", type=float, default=10)
    parser.add_argument("--checkpoint", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="stackyard-training-", dir=options.folder))
    try:
        print(json.dumps(_run(base, options), indent=1))
    finally:
        shutil.rmtree(base)


def _run(base: Path, options: argparse.Namespace) -> dict[str, object]:
    settings = _settle(base)
    saver = [sys.executable, "-m", "stackyard.evacuation"]
    subprocess.run([*saver, "save", str(settings)], check=True, stdout=subprocess.DEVNULL)
    steps = base / "steps"
    with steps.open("wb") as out:
        training = subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(options.checkpoint)], cwd=base / "workspace", stdout=out
        )
    pairs: list[dict[bool, float]] = []
    busy: list[float] = []
    log = (base / "saver.log").open("wb")
    try:
        time.sleep(5)
        for number in range(options.windows // 2):
            seen = dict[bool, float]()
            for watched in random.Random(number).sample([True, False], 2):
                process = None
                if watched:
                    command = [*saver, "watch", str(settings), "--every", str(options.every), "--json"]
                    process = subprocess.Popen(command, stdout=log)
                before, began = _steps(steps), time.monotonic()
                time.sleep(options.seconds)
                seen[watched] = (_steps(steps) - before) / (time.monotonic() - began)
                if process is not None:
                    process.send_signal(signal.SIGTERM)
                    _, status, used = os.wait4(process.pid, 0)
                    process.returncode = os.waitstatus_to_exitcode(status)
                    busy.append((used.ru_utime + used.ru_stime) / options.seconds)
            pairs.append(seen)
    finally:
        training.kill()
        training.wait()
        log.close()
    saves = [json.loads(line) for line in (base / "saver.log").read_text().splitlines()]
    made = [each for each in saves if each.get("made")]
    ratios = [pair[True] / pair[False] for pair in pairs]
    return {
        "pairs": len(pairs),
        "cores": os.cpu_count(),
        "steps_per_second": {
            "with": round(statistics.median(pair[True] for pair in pairs), 1),
            "without": round(statistics.median(pair[False] for pair in pairs), 1),
        },
        "with / without": [round(each, 3) for each in (statistics.median(ratios), min(ratios), max(ratios))],
        "saver's seconds of CPU a second": [round(each, 3) for each in (statistics.median(busy), min(busy), max(busy))],
        "saves": len(made),
        "unsaved": sum(each["version"]["unsaved"] for each in made),
    }


def _steps(place: Path) -> int:
    return int(place.read_text().rpartition("\n")[0].rpartition("\n")[2] or 0)


def _settle(base: Path) -> Path:
    workspace = base / "workspace"
    (workspace / "checkpoints").mkdir(parents=True)
    rng = random.Random(1)
    for number in range(2000):
        folder = workspace / f"d{number // 100}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_bytes(rng.randbytes(4000))
    key = ensure_signing_key(base / "key")
    settings = {
        "stack": "benchmark",
        "stack_id": "b",
        "cluster": "bench",
        "instance": "i",
        "generation": 1,
        "workspace": str(workspace),
        "store": str(base / "store"),
        "receipt_key": str(base / "key"),
        "trusted_keys": [public_text(key.public_key())],
        "state": str(base / "state"),
    }
    place = base / "settings.json"
    place.write_text(json.dumps(settings))
    return place


if __name__ == "__main__":
    main()
