"""Bundles that must not be loaded: 200 of them, against the path that every replica loads by."""

from __future__ import annotations

import json
import math
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from stackyard.serving.follower import Follower
from stackyard.serving.metrics import Metrics
from stackyard.serving.screening import RefusedError
from stackyard.store import bundles, layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store, sha256

Files = dict[str, bytes]
Facts = dict[str, Any]


class Zygote:
    """A trial in a forked child of a process that has imported everything."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("trial_zygote.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.trials = self.deaths = 0

    def __call__(self, folder: Path, bundle: str, code_folder: Path) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self.trials += 1
        self._process.stdin.write(f"{folder}\t{bundle}\t{code_folder}\n")
        self._process.stdin.flush()
        words = self._process.stdout.readline().strip()
        self.deaths += words.startswith("signal")
        if words != "ok":
            raise RefusedError(words)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


def bomb(canary: Path) -> bytes:
    """A pickle that writes `canary` when it is opened."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (canary, "boom"))

    return pickle.dumps(Bomb())


def reforged(yard: Any, files: Files, facts: Facts | None = None, **manifest: Any) -> tuple[str, Files]:
    """A bundle whose digests are all right, whatever it holds: (digest, stored files)."""
    listing = {name: {"sha256": sha256(data), "size": len(data)} for name, data in sorted(files.items())}
    sound = {
        "model": yard.model,
        "code": yard.code,
        "snapshot": "0" * 64,
        "model_digest": sha256(files.get("model.ubj", b"")),
    }
    raw = canonical({"kind": "bundle", "version": 1, "files": listing, **sound, **(facts or {}), **manifest})
    return sha256(raw), {**files, "manifest.json": raw}


def flipped(data: bytes, at: random.Random) -> bytes:
    """`data` with one bit changed."""
    place = at.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << at.randrange(8))]) + data[place + 1 :]


def altered_in_store(yard: Any) -> Iterator[tuple[str, str, Files]]:
    """Bytes changed under a digest that stays: 100 variants."""
    digest, stored = reforged(yard, yard.files(seed=1))
    at = random.Random(7)
    names = sorted(stored)
    for index in range(60):
        name = "model.ubj" if index % 2 else names[index // 2 % len(names)]
        yield f"bit of {name} {index}", digest, {**stored, name: flipped(stored[name], at)}
    for index in range(20):
        name = names[index % len(names)]
        yield f"cut {name} {index}", digest, {**stored, name: stored[name][: at.randrange(len(stored[name]))]}
    for name in names[:9]:
        yield f"without {name}", digest, {key: data for key, data in stored.items() if key != name}
    for index in range(11):
        manifest = json.loads(stored["manifest.json"])
        manifest["model_digest"], manifest["edited"] = "f" * 64, index
        yield f"manifest edited {index}", digest, {**stored, "manifest.json": canonical(manifest)}


def forged(yard: Any, canary: Path) -> Iterator[tuple[str, str, Files]]:
    """Every digest right and the content wrong: 100 variants."""
    files = yard.files(seed=1)
    original = {"model_digest": sha256(files["model.ubj"])}
    at = random.Random(11)
    for index in range(20):
        yield (
            f"another model {index}",
            *reforged(yard, {**files, "model.ubj": flipped(files["model.ubj"], at)}, original),
        )
    for share in range(1, 16):
        yield f"cut model {share}", *reforged(yard, {**files, "model.ubj": files["model.ubj"][: -share * 1000]})
    for name in (
        "../evil.json",
        "/etc/passwd",
        "a/b.json",
        "..",
        ".json",
        "model.ubj/../x.ubj",
        "x.pkl",
        "X.json",
        "n\n.json",
        "",
    ):
        yield f"name {name!r}", *reforged(yard, {**files, name: b"{}"})
    for name in ("model.ubj", "extra.ubj"):
        yield f"pickle as {name}", *reforged(yard, {**files, name: bomb(canary)})
    for name in ("task.json", "inputs.json", "features.json", "golden.json"):
        yield f"pickle as {name}", *reforged(yard, {**files, name: bomb(canary)})
        yield f"no json in {name}", *reforged(yard, {**files, name: b"{"})
        yield f"empty {name}", *reforged(yard, {**files, name: b"{}"})
        yield f"a list in {name}", *reforged(yard, {**files, name: b"[]"})
    for key in (b"\x0a\x08location", b"\x0a\x88\x00location", b"\x0a\x88\x80\x00location"):
        yield f"onnx {key!r}", *reforged(yard, {**files, "side.onnx": b"\x08\x07" + key + b"\x12\x0b/etc/passwd"})
    for kind, weights in (
        ("F32", np.full(4, np.nan, "<f4")),
        ("F64", np.array([1, np.inf], "<f8")),
        ("F16", np.full(2, np.nan, "<f2")),
    ):
        yield f"safetensors {kind}", *reforged(yard, {**files, "side.safetensors": safetensors(kind, weights)})
    yield (
        "safetensors BF16",
        *reforged(yard, {**files, "side.safetensors": safetensors("BF16", np.full(2, 0x7FC0, "<u2"))}),
    )
    yield "safetensors cut", *reforged(yard, {**files, "side.safetensors": b"\xff" * 12})
    for place in ("base_weights", "split_conditions"):
        for value in (math.nan, math.inf, -math.inf):
            yield (
                f"{place} {value}",
                *reforged(yard, {**files, "model.ubj": weighted(files["model.ubj"], place, value)}),
            )
    yield from _forged_documents(yard, files)
    yield from _forged_manifests(yard, files)


def _forged_documents(yard: Any, files: Files) -> Iterator[tuple[str, str, Files]]:
    read = {name: json.loads(files[f"{name}.json"]) for name in ("golden", "features", "inputs", "task")}

    def edited(name: str, change: Callable[[Any], None]) -> tuple[str, Files]:
        value = json.loads(files[f"{name}.json"])
        change(value)
        return reforged(yard, {**files, f"{name}.json": json.dumps(value).encode()})

    yield "golden off", *edited("golden", lambda g: g["outputs"][3].__setitem__(0, g["outputs"][3][0] + 0.01))
    yield "golden nan", *edited("golden", lambda g: g["outputs"][3].__setitem__(0, math.nan))
    yield "golden none", *edited("golden", lambda g: g.update(inputs=[], outputs=[]))
    yield "golden short", *edited("golden", lambda g: g["outputs"].pop())
    yield "golden wide", *edited("golden", lambda g: g.update(outputs=[[*row, 0.0] for row in g["outputs"]]))
    yield "golden odd row", *edited("golden", lambda g: g["inputs"][0].update(distance="far"))
    for path in ("os:system", "rows:missing", "subprocess:run", "../rows:build", "rows:__import__", "stackyard:x"):
        yield f"function {path}", *edited("features", lambda f, path=path: f.update(function=path))
    yield "features fewer", *edited("features", lambda f: f["schema"]["features"].pop())
    yield "features turned", *edited("features", lambda f: f["schema"]["features"].reverse())
    yield "categories moved", *edited("features", lambda f: _category(f).update(categories=["ZZ", "UA", "AA"]))
    for name in read["inputs"]["columns"]:
        yield f"input {name} gone", *edited("inputs", lambda i, name=name: i["columns"].pop(name))
    yield "input of no type", *edited("inputs", lambda i: i["columns"]["wind"].update(type="complex"))
    yield "another task", *edited("task", lambda t: t.update(type="multiclass", classes=["a", "b", "c"]))


def _category(document: dict[str, Any]) -> dict[str, Any]:
    return next(f for f in document["schema"]["features"] if f["kind"] == "category")


def _forged_manifests(yard: Any, files: Files) -> Iterator[tuple[str, str, Files]]:
    for label, facts in {
        "another kind": {"kind": "snapshot"},
        "newer version": {"version": 99},
        "version of text": {"version": "1"},
        "another model": {"model": "other"},
        "no code": {"code": "0" * 64},
        "code of nothing": {"code": None},
        "files of a list": {"files": []},
        "files of null": {"files": None},
        "files without size": {"files": {"model.ubj": {}}},
    }.items():
        yield f"manifest: {label}", *reforged(yard, files, facts)
    raw = b"[1, 2]"
    yield "manifest: a list", sha256(raw), {**files, "manifest.json": raw}


def safetensors(kind: str, weights: np.ndarray) -> bytes:
    """A safetensors file of one tensor."""
    header = json.dumps({"w": {"dtype": kind, "shape": [len(weights)], "data_offsets": [0, weights.nbytes]}}).encode()
    return len(header).to_bytes(8, "little") + header + weights.tobytes()


def weighted(raw: bytes, place: str, value: float) -> bytes:
    """The model with one weight replaced."""
    booster = xgboost.Booster()
    booster.load_model(bytearray(raw))
    document = json.loads(bytes(booster.save_raw("json")))
    document["learner"]["gradient_booster"]["model"]["trees"][0][place][-1] = value
    booster.load_model(bytearray(json.dumps(document).replace("Infinity", "1e999").encode()))
    return bytes(booster.save_raw("ubj"))


def put(folder: Path, yard: Any, digest: str, stored: Files) -> Store:
    """A store that holds the code archive and this one bundle."""
    store = Store.open(folder)
    store.write(layout.code_archive(yard.code), yard.archive)
    target = folder / "bundles" / digest
    target.mkdir(parents=True)
    for name, data in stored.items():
        if "/" not in name and name not in ("", ".."):  # the rest stands in the manifest alone
            (target / name).write_bytes(data)
    return store


def follower(yard: Any, cache: Path, trial: Any) -> Follower:
    return Follower(yard.model, yard.store.url, yard.trusted, cache, Metrics(), lambda *_: None, trial)


def test_none_of_200_corrupted_bundles_is_loaded_or_executed(shared_yard: Any, zygote: Zygote, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    sound, stored = reforged(shared_yard, shared_yard.files(seed=1))
    loaded = follower(shared_yard, tmp_path / "c", zygote).prepare(
        sound, put(tmp_path / "sound", shared_yard, sound, stored)
    )
    assert loaded.bundle == sound  # the path does load what is sound
    variants = [*altered_in_store(shared_yard), *forged(shared_yard, canary)]
    assert len({label for label, _, _ in variants}) == len(variants) >= 200
    accepted = []
    for label, digest, files in variants:
        store, cache = put(tmp_path / "s", shared_yard, digest, files), tmp_path / "k"
        try:
            follower(shared_yard, cache, zygote).prepare(digest, store)
            accepted.append(label)
        except Exception as error:  # noqa: BLE001
            assert not isinstance(error, (MemoryError, RecursionError, AssertionError)), label  # noqa: PT017
        shutil.rmtree(tmp_path / "s")
        shutil.rmtree(cache, ignore_errors=True)
    assert accepted == []
    assert not canary.exists()
    assert zygote.trials >= 40  # many pass every digest, and are found out by their trial


def test_a_flipped_bit_under_right_digests_is_refused_or_changes_no_answer(
    shared_yard: Any, zygote: Zygote, tmp_path: Path
) -> None:
    files, at = shared_yard.files(seed=1), random.Random(3)
    for index in range(40):
        digest, stored = reforged(shared_yard, {**files, "model.ubj": flipped(files["model.ubj"], at)})
        store = put(tmp_path / f"s{index}", shared_yard, digest, stored)
        folder = bundles.fetch(store, digest, tmp_path / "cache")
        try:
            zygote(folder, digest, shared_yard.folder / "made" / shared_yard.code)
        except RefusedError:
            continue
        golden = json.loads(files["golden.json"])
        rows = len(golden["inputs"])
        assert rows == len(golden["outputs"]) == 16  # the trial answered each of them as training did


@pytest.mark.parametrize("inside", [pytest.param("model.ubj", id="file"), pytest.param("manifest.json", id="manifest")])
def test_a_link_in_the_cache_is_not_followed(shared_yard: Any, zygote: Zygote, tmp_path: Path, inside: str) -> None:
    digest, stored = reforged(shared_yard, shared_yard.files(seed=1))
    store = put(tmp_path / "s", shared_yard, digest, stored)
    folder = bundles.fetch(store, digest, tmp_path / "c")
    elsewhere = tmp_path / "elsewhere"
    (folder / inside).rename(elsewhere)
    (folder / inside).symlink_to(elsewhere)
    with pytest.raises(bundles.BundleError):
        bundles.verify_folder(folder, digest)
    assert not (bundles.fetch(store, digest, tmp_path / "c") / inside).is_symlink()  # the link is thrown away


def test_the_real_trial_ends_with_words_and_leaves_the_asker_alive(shared_yard: Any, tmp_path: Path) -> None:
    from stackyard.serving import probe

    files = shared_yard.files(seed=1)
    code_folder = shared_yard.folder / "made" / shared_yard.code
    fetched = []
    for index, model in enumerate((files["model.ubj"], files["model.ubj"][:2000])):
        digest, stored = reforged(shared_yard, {**files, "model.ubj": model})
        store = put(tmp_path / str(index), shared_yard, digest, stored)
        fetched.append((bundles.fetch(store, digest, tmp_path / "c"), digest, code_folder))
    probe.run(*fetched[0])
    with pytest.raises(RefusedError, match="trial process ended"):
        probe.run(*fetched[1])
    with pytest.raises(RefusedError, match="not checked within"):
        probe.run(*fetched[0], seconds=0.01)
