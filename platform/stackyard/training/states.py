"""The state of a training as bytes: what it is made of, and nothing that runs when it is read.

One file: the sha256 of the rest, a line of JSON (step, facts, states of random generators, the list of parts), then the
parts, one behind the other. An array is NumPy's own format with pickles forbidden; other parts are bytes as they are
(a booster's `ubj`, a file of safetensors). The digest is checked before anything is parsed.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

VERSION = 1
Generator = np.random.Generator | random.Random


class Corrupt(ValueError):
    """Bytes that are not those that were written, or that this program does not understand."""


@dataclass
class State:
    """A training after `step` steps: all that the next step depends on."""

    step: int
    arrays: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    """Weights, moments of the optimiser; any shape and type but `object`."""
    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """What has a format of its own."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """JSON: the data cursor, figures so far."""
    random: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """States of random generators, by name; `remember` writes them, `recall` sets a generator to one."""

    def remember(self, **generators: Generator) -> State:
        """Note where each generator stands. Returns this state."""
        self.random |= {name: _standing(each) for name, each in generators.items()}
        return self

    def recall(self, **generators: Generator) -> None:
        """Set each generator to where it stood. Raises Corrupt for one that was not noted, or of another kind."""
        for name, each in generators.items():
            if name not in self.random:
                raise Corrupt(f"the checkpoint of step {self.step} does not say where generator {name} stood")
            _set(each, self.random[name])


def encode(state: State) -> bytes:
    """The bytes of `state`. Raises ValueError for an array of objects, and for facts that JSON has not."""
    parts: list[tuple[str, str, bytes]] = []
    for name, array in state.arrays.items():
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
        parts.append((name, "array", buffer.getvalue()))
    parts += [(name, "bytes", data) for name, data in state.blobs.items()]
    head = {
        "kind": "training-state",
        "version": VERSION,
        "step": state.step,
        "facts": state.facts,
        "random": state.random,
        "parts": [[name, kind, len(data)] for name, kind, data in parts],
    }
    line = json.dumps(head, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    rest = b"".join([line, b"\n", *(data for _, _, data in parts)])
    return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def decode(data: bytes) -> State:
    """The state in `data`. Raises Corrupt."""
    digest, _, rest = data.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        raise Corrupt("its bytes are not those that were written")
    line, _, body = rest.partition(b"\n")
    head = json.loads(line)
    if head.get("kind") != "training-state" or head.get("version", VERSION + 1) > VERSION:
        raise Corrupt("it is of a version that this program does not understand: upgrade")
    state, start = State(head["step"], facts=head["facts"], random=head["random"]), 0
    for name, kind, length in head["parts"]:
        part, start = body[start : start + length], start + length
        if kind == "array":
            state.arrays[name] = np.lib.format.read_array(io.BytesIO(part), allow_pickle=False)
        else:
            state.blobs[name] = part
    return state


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 of names, types, shapes and bytes: equal models have one."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(json.dumps([name, array.dtype.str, array.shape]).encode() + b"\n" + array.tobytes())
    return found.hexdigest()


def _standing(generator: Generator) -> dict[str, Any]:
    if isinstance(generator, random.Random):
        version, numbers, gauss = generator.getstate()
        return {"kind": "random", "version": version, "numbers": list(numbers), "gauss": gauss}
    return {"kind": "numpy", "state": _plain(dict(generator.bit_generator.state))}


def _set(generator: Generator, noted: Mapping[str, Any]) -> None:
    if isinstance(generator, random.Random):
        if noted["kind"] != "random":
            raise Corrupt("the checkpoint holds the state of a generator of NumPy, not of Python")
        generator.setstate((noted["version"], tuple(noted["numbers"]), noted["gauss"]))
        return
    state, kind = noted.get("state", {}), type(generator.bit_generator).__name__
    if noted["kind"] != "numpy" or state.get("bit_generator") != kind:
        raise Corrupt(
            f"the checkpoint holds the state of a {state.get('bit_generator', 'Python')} generator, not {kind}"
        )
    generator.bit_generator.state = _full(state)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        return {"array": value.dtype.str, "of": value.tolist()}
    return value.item() if isinstance(value, np.generic) else value


def _full(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {"array", "of"}:
            return np.array(value["of"], dtype=value["array"])
        return {name: _full(each) for name, each in value.items()}
    return value
