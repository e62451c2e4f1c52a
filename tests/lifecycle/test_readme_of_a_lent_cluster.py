"""README's story of a lent cluster, as a user lives it: up, work, rehearse, destroy, certificate, up again, restore.

Slow (the whole flights stack, twice), and worth it: only here do JupyterLab, Ray, saver, gate, reaper and certificate
stand in one stack with everything that serves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from journey import CANARY, Checkout, copy_of_this_checkout

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]
ORDER = ("lease", "rehearse", "reap", "make down", "certificate", "make up", "restore")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Checkout]:
    made = copy_of_this_checkout(tmp_path / "a checkout")
    made.stack = "lab"
    secret = made.run("pulumi", "config", "set", "--secret", "WAREHOUSE_TOKEN", CANARY, "-s", "lab")
    assert secret.returncode == 0, secret.stderr
    yield made
    if (made.folder / ".stackyard").exists():
        made.run("pulumi", "destroy", "-s", "lab", "--yes", "--skip-preview")


def commands() -> dict[str, str]:
    """The commands of the section, by what they do."""
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    block = re.search(r"^## Lent clusters\n.*?^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block
    lines = [line.split("  #")[0].strip() for line in block[1].splitlines()]
    return {word: line for line in lines for word in ORDER if line.removeprefix("stackyard ").startswith(word)}


def test_the_story_of_a_lent_cluster_is_as_the_readme_tells_it(lab: Checkout) -> None:
    told = commands()
    assert set(told) == set(ORDER) - {"make up"}
    workspace = lab.folder / ".stackyard/lab/leases/lab/workspace"
    lab.make("up")
    (workspace / "notes.md").write_text("work")

    for word in ORDER:
        if word.startswith("make "):
            lab.make(word.removeprefix("make "))
            continue
        done = lab.run("bash", "-c", told[word])
        assert done.returncode == 0, f"{told[word]}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip()

    assert (workspace / "notes.md").read_text() == "work"
    lab.make("down")
    given = (lab.folder / ".stackyard/lab/certificates").glob("*-000?.json")
    assert [json.loads(each.read_text())["body"]["clean"] for each in given] == [True] * 4, (
        "of cluster and stack, twice"
    )
