"""A small sound spec, copied into a checkout of its own, that each test breaks in its own way."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from stackyard.spec import SpecError, StackSpec, load

SAMPLE = Path(__file__).parent / "sample"
Edits = Iterable[tuple[str, str]]


@dataclass
class Checkout:
    """A copy of the sample. Files change by replacing a text that must be there exactly once."""

    folder: Path

    @property
    def stack(self) -> Path:
        return self.folder / "stacks" / "local.yaml"

    @property
    def project(self) -> Path:
        return self.folder / "pumps" / "project.yaml"

    def edit(self, project: Edits = (), stack: Edits = ()) -> Checkout:
        for file, edits in ((self.project, project), (self.stack, stack)):
            text = file.read_text(encoding="utf-8")
            for old, new in edits:
                assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
                text = text.replace(old, new)
            file.write_text(text, encoding="utf-8")
        return self

    def append(self, project: str = "", stack: str = "") -> Checkout:
        for file, more in ((self.project, project), (self.stack, stack)):
            with file.open("a", encoding="utf-8") as opened:
                opened.write(more)
        return self

    def load(self) -> StackSpec:
        return load(self.stack)

    def refusal(self) -> SpecError:
        with pytest.raises(SpecError) as refused:
            self.load()
        return refused.value

    def codes(self) -> list[str]:
        return [problem.code for problem in self.refusal().problems]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    folder = tmp_path / "checkout"
    shutil.copytree(SAMPLE, folder)
    monkeypatch.chdir(folder)
    return Checkout(folder)
