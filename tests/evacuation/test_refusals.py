"""An evacuation is refused when something would be lost, and only then; what is wrong is real, nothing is faked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import pytest

from faults import MOUNTS, MUST, MUST_NOT, Fault, Scene, can_mount, scene
from leased import Lab, picture
from tally import Refusal, Tally

pytestmark = pytest.mark.slow
LONG = (
    "unreadable-folder",
    "object-gone",
    "left-out-and-unreadable",
    "strange-names",
    "links-and-loops",
    "socket-and-fifo",
    "savers-memory-lost",
    "sparse-file",
    "store-away-and-back",
)
"""What a quicker test shows the same way, so that it is of the life-cycle suite only."""


@pytest.fixture
def filled(lab: Lab) -> Lab:
    (lab.workspace / "notes").mkdir()
    (lab.workspace / "notes" / "one.ipynb").write_text("{}")
    (lab.workspace / "features").write_bytes(os.urandom(3 << 20))
    return lab


@pytest.fixture
def here(request: pytest.FixtureRequest) -> Iterator[Scene]:
    if request.node.callspec.id in MOUNTS and not can_mount():
        pytest.skip("no mount namespace can be made here")
    with scene() as made:
        yield made


def rows(words: Iterable[str]) -> list[object]:
    return [pytest.param(word, id=word, marks=pytest.mark.lifecycle if word in LONG else ()) for word in words]


@pytest.mark.parametrize("word", rows(MUST))
def test_what_would_be_lost_is_refused_and_named(filled: Lab, here: Scene, tally: Tally, word: str) -> None:
    """Slow: real processes and disks. Shows that each fault is met by the whole command, not only by a function."""
    fault, said, path = MUST[word]
    fault(filled, here)
    outcome = here.run(filled, "evacuate")
    tally.refusals.append(Refusal(word, True, outcome.code == 1))
    assert outcome.code == 1, outcome
    assert outcome.told["ok"] is False
    losses = {each["path"]: each["reason"] for each in outcome.told["losses"]}
    assert path in losses, outcome.told
    assert said in outcome.told["reason"] + losses[path]
    assert not (filled.settings.state / "sealed.json").exists()
    assert not (filled.settings.state / "frozen.json").exists()
    assert filled.command("receipt").code == 1


@pytest.mark.parametrize("word", rows(MUST_NOT))
def test_what_loses_nothing_is_not_refused(filled: Lab, here: Scene, tally: Tally, word: str) -> None:
    """Slow: real processes and disks. Shows that what merely looks like trouble gets its receipt, and comes back."""
    fault: Fault = MUST_NOT[word]
    fault(filled, here)
    outcome = here.run(filled, "evacuate")
    tally.refusals.append(Refusal(word, False, outcome.code == 1))
    assert outcome.code == 0, outcome
    back = filled.base / "back"
    done = filled.command("restore", outcome.told["receipt"], str(back))
    assert done.code == 0, done
    if word in MOUNTS:  # the workspace was its namespace's
        assert {"new", "features", "filler"} <= {path.name for path in back.iterdir()}
        assert (back / "new").read_text() in ("new\n", "")
        return
    want = picture(filled.workspace)
    for name in (b"fifo", b"socket", b"scratch.tmp"):
        want.pop(name, None)
    assert picture(back) == want
