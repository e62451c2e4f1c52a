"""Clusters whose stack is gone: only where their backend says so, only what is ours, and away only with a receipt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from leasehold import Leasehold, clear, leasehold
from stackyard_infra.cli import leases, orphans
from stackyard_infra.cli.backends import Backends, Unanswered
from stackyard_infra.cli.orphans import Orphans
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.workspaces import Workspace

PULUMI = """#!/bin/sh
echo "$PULUMI_BACKEND_URL $*" >> {log}
{says}
"""
LS = "stack ls --all --json --non-interactive"


@pytest.fixture
def engine(tmp_path: Path) -> Callable[[str], Backends]:
    """`engine(says)`: the backends of a checkout whose pulumi is the shell commands `says`."""

    def made(says: str) -> Backends:
        (tmp_path / "tools").mkdir()
        (tmp_path / "bin").mkdir()
        (tmp_path / "tools/machine.sh").write_text(f"echo {tmp_path}/bin:$PATH\n")
        (tmp_path / "bin/pulumi").write_text(PULUMI.format(log=tmp_path / "asked.txt", says=says))
        (tmp_path / "bin/pulumi").chmod(0o700)
        return Backends(tmp_path, patience=1.0)

    return made


STACKS = """echo '[{"name": "organization/stackyard/lab", "current": false}, {"name": "dev"}]'"""


@pytest.mark.parametrize(
    ("says", "stack", "exists"),
    [
        pytest.param(STACKS, "lab", True, id="there-by-its-whole-name"),
        pytest.param(STACKS, "dev", True, id="there"),
        pytest.param(STACKS, "local", False, id="not-there"),
        pytest.param("echo '[]'", "lab", False, id="no-stack-at-all"),
        pytest.param("echo 'error: incorrect passphrase' >&2; exit 255", "lab", "incorrect passphrase", id="refused"),
        pytest.param("echo 'no route to host' >&2; exit 1", "lab", "no route to host", id="unreachable"),
        pytest.param("exec sleep 30", "lab", "does not answer within 1 s", id="hangs"),
        pytest.param("echo 'please log in'", "lab", "something else than a list", id="asks"),
        pytest.param("""echo '{"stacks": []}'""", "lab", "something else than a list", id="another-shape"),
    ],
)
def test_only_a_backend_that_answers_says_that_a_stack_is_gone(
    says: str, stack: str, exists: bool | str, engine: Callable[[str], Backends], tmp_path: Path
):
    backends = engine(says)
    for _ in range(2):
        if isinstance(exists, bool):
            assert backends.exists("s3://states", stack) is exists
        else:
            with pytest.raises(Unanswered, match=exists):
                backends.exists("s3://states", stack)
    assert (tmp_path / "asked.txt").read_text().splitlines() == [f"s3://states {LS}"], "each is asked once"


@pytest.mark.parametrize(
    ("backend", "why"),
    [
        pytest.param("https://api.pulumi.com", "only for who is logged in", id="a-service"),
        pytest.param(None, "no backend was noted", id="none-noted"),
        pytest.param("file://{here}/gone", "holds no state of Pulumi", id="folder-gone"),
        pytest.param("file://{here}/an%20empty%20one", "holds no state of Pulumi", id="folder-empty"),
        pytest.param("file://.", "is relative, and from where nobody noted", id="of-another-folder"),
    ],
)
def test_a_place_that_would_say_no_to_everything_is_not_asked(
    backend: str | None, why: str, engine: Callable[[str], Backends], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "an empty one").mkdir()
    (tmp_path / ".pulumi").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unanswered, match=why):
        engine("echo '[]'").exists(backend and backend.format(here=tmp_path), "lab")
    assert not (tmp_path / "asked.txt").exists()


class Kinds:
    """Stands for gate or cluster: notes what is deleted, or refuses."""

    def __init__(self, word: str, steps: list[str], refuses: str = "") -> None:
        self.word, self.steps, self.refuses = word, steps, refuses

    def delete(self, state: dict[str, Any]) -> None:
        if self.refuses:
            raise Refusal(self.refuses)
        self.steps.append(f"delete {self.word} {state['cluster']} {state['instance']}")


class Village:
    """A checkout with the cluster `lab` of the stack `far`, and what `Orphans` is told by fakes."""

    def __init__(self, folder: Path) -> None:
        (folder / "Pulumi.yaml").touch()
        self.folder, self.steps = folder, list[str]()
        self.site = Site("far", "0123abcd", folder / ".stackyard/far", Path("/tmp/sy-0-0123abcd"))
        self.here = Workspace(self.site, "lab")
        self.record = self.here.adopt()
        self.here.unseal()
        self.here.describe({"store": str(folder / "store")}, [], {"cluster": "lab", "workers": 1})

    def reaps(
        self, exists: bool | str, *, remove: bool = False, refuses: str = "", leasing: str = "exit 0", stack: Any = None
    ) -> Any:
        def answer(_backend: str | None, _stack: str) -> bool:
            if isinstance(exists, str):
                raise Unanswered(exists)
            return exists

        suspends = ["/bin/sh", "-c", f'echo "$@" >> {self.folder}/asked.txt; {leasing}', "leasing"]
        kinds = Kinds("gate", self.steps, refuses), Kinds("cluster", self.steps)
        village = Orphans(self.folder, stack, answer, suspends, *kinds, running=self.running)  # type: ignore[arg-type]
        return village.reap(remove=remove)

    def running(self) -> list[tuple[str, Path]]:
        """What runs on the machine, but nobody else's."""
        return [(tag, place) for tag, place in orphans.running_clusters() if self.folder in place.parents]

    def asked(self) -> list[str]:
        file = self.folder / "asked.txt"
        return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def village(tmp_path: Path) -> Village:
    return Village(tmp_path)


@pytest.mark.parametrize(
    ("exists", "remove", "found", "did", "suspended"),
    [
        pytest.param(True, True, "stack exists", [], False, id="there"),
        pytest.param("no route to host", True, "unknown", [], False, id="unreachable-is-not-gone"),
        pytest.param(False, False, "orphan", ["suspended"], True, id="gone"),
        pytest.param(False, True, "orphan", ["suspended", "removed"], True, id="gone-and-agreed"),
    ],
)
def test_an_orphan_is_saved_and_suspended_and_goes_only_when_a_person_agrees(
    exists: bool | str, remove: bool, found: str, did: list[str], suspended: bool, village: Village
):
    [told] = village.reaps(exists, remove=remove)
    assert (told["found"], told["did"], told["failed"]) == (found, did, None)
    assert village.asked() == (["suspend"] if suspended else [])
    gone = [f"delete gate lab {village.record.instance}", f"delete cluster lab {village.record.instance}"]
    assert village.steps == (gone if "removed" in did else []), "the gate, which gives the receipt, goes first"


@pytest.mark.parametrize(
    ("told", "failed", "steps"),
    [
        pytest.param({"refuses": "3 things would be lost"}, "3 things would be lost", 0, id="no-receipt"),
        pytest.param({"leasing": "echo 'the store is away' >&2; exit 1"}, "the store is away", 0, id="not-saved"),
    ],
)
def test_an_orphan_that_is_not_safe_is_kept(told: dict[str, str], failed: str, steps: int, village: Village):
    [found] = village.reaps(False, remove=True, **told)
    assert found["failed"] == failed
    assert len(village.steps) == steps


def test_a_sealed_orphan_needs_no_suspension(village: Village):
    village.here.seal()
    [found] = village.reaps(False, stack="far")
    assert (found["found"], found["did"], village.asked()) == ("orphan", [], [])
    assert village.reaps(False, stack="near") == [], "another stack was asked for"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"cluster": "bench"}, id="another-cluster"),
        pytest.param({"tag": "STACKYARD_CLUSTER=ffffffff/lab"}, id="another-tag"),
        pytest.param({"stack_id": "ffffffff"}, id="another-stack"),
        pytest.param(None, id="no-lease"),
    ],
)
def test_what_does_not_say_whose_it_is_is_left_alone(changed: dict[str, str] | None, village: Village):
    file = village.here.folder / "lease.json"
    if changed is None:
        file.unlink()
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    [found] = village.reaps(False, remove=True)
    assert (found["found"], village.asked(), village.steps) == ("unknown", [], [])


def test_what_runs_elsewhere_with_our_tag_is_found_by_it(village: Village, tmp_path: Path):
    other = Village(_made(tmp_path / "another"))
    tag = {"STACKYARD_CLUSTER": "0123abcd/lab", "STACKYARD_WORKSPACE": str(other.here.path)}
    stray = {"STACKYARD_CLUSTER": "0123abcd/lab", "STACKYARD_WORKSPACE": str(tmp_path / "gone/workspace")}
    running = [subprocess.Popen(["sleep", "60"], env=each) for each in (tag, stray)]
    try:
        found = {told["folder"]: told["found"] for told in village.reaps(False)}
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert found[str(village.here.folder)] == found[str(other.here.folder)] == "orphan"
    assert found[str(tmp_path / "gone")] == "unknown", "without its folder nobody knows whose it was"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Leasehold]:
    made = leasehold(tmp_path)
    yield made
    clear(made)


TERMS = {"end": None, "ttl": 3600.0, "idle": None, "grace": 60.0, "hours": None, "extend": None, "warn": []}


@pytest.mark.engine
@pytest.mark.slow
def test_a_stack_that_was_struck_from_its_backend_leaves_orphans_that_go_with_a_receipt(
    stack: Leasehold, monkeypatch: pytest.MonkeyPatch
):
    """Slow (four engine runs), and worth it: only the real engine shows what it answers of a stack that is gone."""
    stack.wanted["lease"] = {"cluster": "lab", "every": 300.0, "owner": "ada", "tell": [], "lease": TERMS}
    stack.wants("lab")
    stack.up()
    (stack.workspace() / "model.txt").write_text("work")
    shutil.copytree(stack.folder / "tools", stack.folder / "own-tools", ignore=lambda *_: {"cluster"})
    (stack.folder / "tools").unlink()
    (stack.folder / "own-tools").rename(stack.folder / "tools")
    (stack.folder / "tools/machine.sh").write_text(f"echo '{stack.environment['PATH']}'\n")
    monkeypatch.chdir(stack.folder)
    for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_HOME"):
        monkeypatch.setenv(name, stack.environment[name])
    everybody, here = orphans.running_clusters, stack.folder
    mine = [each for each in everybody() if here in each[1].parents]
    monkeypatch.setattr(orphans, "running_clusters", lambda: mine)
    app = typer.Typer()
    leases.register(app)

    def reaps(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, ["reap", "--orphans", "--json", *words])
        assert done.exit_code == 0, done.output
        [found] = json.loads(done.stdout)["orphans"]
        return found

    assert reaps("--yes")["found"] == "stack exists"
    stack.pulumi("stack", "rm", "--force", "--yes")
    backend = Path(stack.environment["PULUMI_BACKEND_URL"].removeprefix("file://"))
    backend.rename(backend.with_name("unmounted"))
    assert reaps("--yes")["found"] == "unknown"
    backend.with_name("unmounted").rename(backend)
    found = reaps()
    assert (found["found"], found["did"]) == ("orphan", ["suspended"])
    noted = json.loads((stack.workspace().parent / "suspended.json").read_text())
    assert (noted["reason"], noted["whole"]) == ("orphan", True)
    assert (stack.workspace() / "model.txt").read_text() == "work"
    settings = stack.workspace().parent.parent / "settings.json"
    shutil.copy(stack.workspace().parent / "evacuation.json", settings)
    assert reaps("--yes")["did"][-1] == "removed"
    assert not stack.workspace().exists()
    restored = [sys.executable, "-P", "-m", "stackyard.evacuation", "restore", str(settings), "latest"]
    subprocess.run([*restored, str(stack.folder / "back")], check=True, stdout=subprocess.DEVNULL)
    assert (stack.folder / "back/model.txt").read_text() == "work"
    assert os.listdir(stack.store), "and a receipt lies in the store"
