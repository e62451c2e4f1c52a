"""What does saving a workspace cost, beside restic and beside a plain copy with checksums?

    python benchmarks/saver.py [--small 20000] [--large 256] [--rounds 5] [--only NAME]

The tree: `small` files of 1-8 KiB in folders of 200, half text and half random, and `large` MiB of random bytes in 4
files. Each round, interleaved: the first save into an empty store, the second of the unchanged tree, a third after
one small file in a hundred changed, and a restore, for ours (`python -m stackyard.evacuation`, fsync of each object),
ours with encryption, restic (Debian's; always encrypts), and `cp -a` with `sha256sum` of source and copy (first) or
of the source against the copy (second). Whole processes, start included; wall and CPU seconds; the page cache is warm.
Prints one JSON object: medians, and ratios ours / theirs as [median, lowest, highest] of the rounds. Exit 1 if restic
is missing or a restore differs. A round takes about 20 seconds on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_signing_key, write_private

KINDS = ("ours", "ours-encrypted", "restic", "copy")
STEPS = ("first", "unchanged", "changed", "restore")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    if shutil.which("restic") is None:
        sys.exit("restic is not installed: apt-get install restic")
    base = Path(tempfile.mkdtemp(prefix="stackyard-saver-", dir=options.folder))
    try:
        _run(base, options)
    finally:
        shutil.rmtree(base)


def _run(base: Path, options: argparse.Namespace) -> None:
    kinds = KINDS if options.only is None else (options.only,)
    tree, seen = base / "tree", dict[str, dict[str, list[dict[str, float]]]]()
    _grow(tree, options.small, options.large)
    for number in range(options.rounds):
        rounds = {kind: _Way(kind, base / f"{kind}-{number}", tree) for kind in kinds}
        for step in STEPS:
            if step == "changed":
                _change(tree, number)
            for kind in random.Random(number).sample(kinds, len(kinds)):
                seen.setdefault(kind, {}).setdefault(step, []).append(rounds[kind].take(step))
        for way in rounds.values():
            way.compare()
            shutil.rmtree(way.base)
    found = {kind: {step: _medians(seen[kind][step]) for step in STEPS} for kind in kinds}
    told = {"files": options.small + 4, "mebibytes": round(_size(tree) / 2**20), "rounds": options.rounds, **found}
    if options.only is None:
        told["ratios"] = {
            f"{mine} / {theirs}": {
                step: {part: _ratios(seen[mine][step], seen[theirs][step], part) for part in ("wall", "cpu")}
                for step in STEPS
            }
            for mine, theirs in (("ours-encrypted", "restic"), ("ours", "restic"), ("ours", "copy"))
        }
    print(json.dumps(told, indent=1))


class _Way:
    """One way to save the tree, with an empty store."""

    def __init__(self, kind: str, base: Path, tree: Path) -> None:
        self.kind, self.base, self.tree = kind, base, tree
        base.mkdir()
        if kind.startswith("ours"):
            self._settle()
        if kind == "restic":
            (base / "password").write_text("benchmark")
            self._restic("init", "-q")

    def take(self, step: str) -> dict[str, float]:
        """Do a step. Returns seconds, wall and CPU."""
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        {"ours": self._ours, "ours-encrypted": self._ours, "restic": self._step, "copy": self._copy}[self.kind](step)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}

    def compare(self) -> None:
        """End the benchmark if what came back differs."""
        back = self.base / "back"
        place = back / self.tree.relative_to("/") if self.kind == "restic" else back
        subprocess.run(["diff", "-rq", self.tree, place], check=True)

    def _settle(self) -> None:
        key = ensure_signing_key(self.base / "key")
        write_private(self.base / "secret", os.urandom(32))
        settings = {
            "stack": "benchmark",
            "stack_id": "b",
            "cluster": "bench",
            "instance": "i",
            "generation": 1,
            "workspace": str(self.tree),
            "store": str(self.base / "store"),
            "receipt_key": str(self.base / "key"),
            "trusted_keys": [public_text(key.public_key())],
            "encrypt_key": str(self.base / "secret") if self.kind == "ours-encrypted" else None,
            "state": str(self.base / "state"),
        }
        (self.base / "settings.json").write_text(json.dumps(settings))

    def _ours(self, step: str) -> None:
        verb = ["restore"] if step == "restore" else ["save"]
        what = ["latest", str(self.base / "back")] if step == "restore" else []
        settings = str(self.base / "settings.json")
        _quietly([sys.executable, "-m", "stackyard.evacuation", *verb, settings, *what])

    def _step(self, step: str) -> None:
        if step == "restore":
            self._restic("restore", "latest", "-q", "--target", str(self.base / "back"))
        else:
            self._restic("backup", "-q", str(self.tree))

    def _restic(self, *arguments: str) -> None:
        where = ["--repo", str(self.base / "store"), "--password-file", str(self.base / "password")]
        _quietly(["restic", "--cache-dir", str(self.base / "cache"), *where, *arguments])

    def _copy(self, step: str) -> None:
        copy, source = self.base / ("back" if step == "restore" else "copy"), self.tree
        if step == "restore":
            source = self.base / "copy"
        if step in ("changed", "first"):
            shutil.rmtree(copy, ignore_errors=True)
        if step != "unchanged":
            _quietly(["cp", "-a", str(source), str(copy)])
        sums = 'cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum > "$2"'
        for name, folder in (("source", source), ("copy", copy)):
            _quietly(["sh", "-c", sums, "sh", str(folder), str(self.base / f"{name}.sums")])
        _quietly(["cmp", str(self.base / "source.sums"), str(self.base / "copy.sums")])


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _grow(tree: Path, small: int, large: int) -> None:
    rng = random.Random(1)
    for number in range(small):
        folder = tree / f"d{number // 200:04}"
        if number % 200 == 0:
            folder.mkdir(parents=True)
        size = rng.randrange(1 << 10, 8 << 10)
        text = (f"row {number} of {small}, " * size).encode()[:size]
        (folder / f"f{number:06}").write_bytes(text if number % 2 else rng.randbytes(size))
    for number in range(4):
        with (tree / f"large-{number}").open("wb") as file:
            for _ in range(large // 4):
                file.write(rng.randbytes(1 << 20))


def _change(tree: Path, number: int) -> None:
    for place in random.Random(number).sample(sorted(tree.glob("d*/f*")), max(1, len(list(tree.glob("d*/f*"))) // 100)):
        place.write_bytes(random.Random(f"{number}{place.name}").randbytes(3000))


def _size(tree: Path) -> int:
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


def _medians(seen: list[dict[str, float]]) -> dict[str, float]:
    return {part: round(statistics.median(each[part] for each in seen), 2) for part in seen[0]}


def _ratios(mine: list[dict[str, float]], theirs: list[dict[str, float]], part: str) -> list[float]:
    """Of each round: median, lowest, highest."""
    found = [a[part] / b[part] for a, b in zip(mine, theirs, strict=True)]
    return [round(each, 2) for each in (statistics.median(found), min(found), max(found))]


if __name__ == "__main__":
    main()
