"""What is refused by its bytes alone, before any parser of a model library sees it.

A name proves nothing: a pickle may be called model.ubj, and an ONNX file may point at any path of the machine.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np


class RefusedError(Exception):
    """A model file that must not be loaded; the text says why."""


_EXTERNAL_DATA = re.compile(rb"\x0a(?:\x08|\x88\x80*\x00)location")
"""The key every ONNX external-data entry must have, in each way protobuf may spell its length."""

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def screen(folder: Path) -> None:
    """Refuse files of a bundle `folder` that are not what they are called. Raises RefusedError."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".ubj":
            _ubj(path)
        elif path.suffix == ".onnx":
            _onnx(path)
        elif path.suffix == ".safetensors":
            _safetensors(path)


def _ubj(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(2) != b"{L":
            raise RefusedError(f"{path.name} is not UBJSON")


def _onnx(path: Path) -> None:
    if _EXTERNAL_DATA.search(path.read_bytes()):
        raise RefusedError(f"{path.name} keeps weights outside of itself (external data)")


def _safetensors(path: Path) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, 100 << 20):
        raise RefusedError(f"{path.name} is not safetensors")
    try:
        header = json.loads(data[8 : 8 + size])
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                _finite(path.name, name, entry["dtype"], data[8 + size :][begin:end])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RefusedError(f"{path.name} is not safetensors") from None


def _finite(file: str, name: str, dtype: str, raw: bytes) -> None:
    if dtype in _FLOATS:
        sound = bool(np.isfinite(np.frombuffer(raw, _FLOATS[dtype])).all())
    elif dtype == "BF16":
        sound = not bool((np.frombuffer(raw, "<u2") & 0x7F80 == 0x7F80).any())
    else:
        sound = True
    if not sound:
        raise RefusedError(f"{file} holds weights that are not finite ({name})")
