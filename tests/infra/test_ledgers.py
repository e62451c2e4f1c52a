"""What is expected stays named until a certificate found it gone; a leak refuses the deletion, a loss refuses once."""

from __future__ import annotations

import json
import mmap
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stackyard_infra.provider import announcing
from stackyard_infra.provider.certificates import Certificates
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.ledgers import LedgerKind, Ledgers, merged, moved
from stackyard_infra.provider.places import SiteKind
from stackyard_infra.provider.site import Site

SAYS = """
import json, pathlib, sys
folder = pathlib.Path({folder!r})
with (folder / "asked.txt").open("a") as asked:
    asked.write(" ".join(sys.argv[1:]) + chr(10))
told = json.loads((folder / "told.json").read_text())
print(json.dumps(told))
sys.exit(0 if told["ok"] else 1)
"""


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Sentences that were announced."""
    found: list[str] = []
    announcing.listen(lambda sentence, severity: found.append(f"{severity}: {sentence}"))
    yield found
    announcing._listeners.pop()


@pytest.fixture
def ledgers(site: dict[str, str]) -> Ledgers:
    return Ledgers(Site.of({"site": site}))


def plain(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def port(number: int) -> dict[str, Any]:
    return {"name": "predict", "port": number}


def test_what_was_renamed_or_moved_stays_expected_and_what_is_kept_is_what_holds_now(site: dict[str, str]):
    first = {"subject": "stack", "processes": ["serving", "old"], "ports": [port(1)], "kept": [{"what": "a"}]}
    second = {"subject": "stack", "processes": ["serving", "new"], "ports": [port(2)], "kept": [{"what": "b"}]}
    kind, path = LedgerKind(), Path(site["state"]) / "ledger.json"
    kind.create({"site": site, "ledger": first})
    opened = plain(path)["opened"]
    Ledgers(Site.of({"site": site})).closing()
    assert plain(path)["closed"]
    kind.update({}, {"site": site, "ledger": second})
    found = plain(path)
    assert found["processes"] == ["serving", "old", "new"]
    assert found["ports"] == [port(1), port(2)]
    assert found["kept"] == [{"what": "b"}]
    assert (found["opened"], found["complete"], "closed" in found) == (opened, True, False)
    assert path.stat().st_mode & 0o777 == 0o600
    kind.delete({"site": site})
    assert kind.read({"site": site}) == {}, "its end is a certificate's"


def test_a_ledger_that_came_with_a_copied_checkout_is_another_stacks(site: dict[str, str]):
    path = Path(site["state"]) / "ledger.json"
    path.write_text(json.dumps({"stack_id": "another", "opened": "2020", "folders": ["/tmp/sy-0-another"]}))
    LedgerKind().create({"site": site, "ledger": {"subject": "stack"}})
    assert plain(path)["stack_id"] == site["stack_id"]
    assert "/tmp/sy-0-another" not in plain(path)["folders"]


def test_merging_twice_is_merging_once():
    told = {"opened": "b", "processes": ["x"], "ports": [port(1)]}
    once = merged({"opened": "a", "processes": ["y"]}, told)
    assert merged(once, told) == once
    assert once["opened"] == "a"


def test_of_a_checkout_that_was_moved_the_paths_are_true_again():
    ledger = {"state": "/a/b", "folders": ["/a/b/etc", "/a/bc"], "kept": [{"path": "/a/b"}], "ports": [port(1)]}
    found = moved(ledger, Path("/new"))
    assert found["folders"] == ["/new/etc", "/a/bc"]
    assert found["kept"] == [{"path": "/new"}]


def test_a_leased_cluster_has_a_ledger_of_its_own_and_the_stacks_names_the_instance(ledgers: Ledgers):
    (ledgers.site.state / "leases/lab").mkdir(parents=True)
    running = [{"name": "lease-lab-head", "scratch": "/tmp/sy/l1"}, {"name": "lease-lab-saver"}]
    ledgers.expect_cluster("lab", "i-1", {"subject": "cluster", "hourly_price": 2, "folders": ["/f"]}, running)
    found = plain(ledgers.of_cluster("lab"))
    assert found["processes"] == ["lease-lab-head", "lease-lab-saver"]
    beside = str(ledgers.of_cluster("lab").parent)
    etc = [str(ledgers.site.of_process(each["name"])) for each in running]
    assert found["folders"] == ["/f", beside, "/tmp/sy/l1", *etc]
    assert (found["instance"], found["hourly_price"]) == ("i-1", 2)
    assert plain(ledgers.path)["instances"] == [{"cluster": "lab", "instance": "i-1"}]


def test_shared_memory_is_noted_while_it_is_held_and_swept_when_nobody_holds_it(ledgers: Ledgers):
    path = Path(f"/dev/shm/stackyard-test-{secrets.token_hex(4)}")
    path.write_bytes(b"x" * 4096)
    try:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
            ledgers.notice([psutil.Process()])
            noted = [each for each in plain(ledgers.path)["shared_memory"] if each["path"] == str(path)]
            assert noted == [{"path": str(path), "inode": path.stat().st_ino}]
            ledgers.sweep(ledgers.path)
            assert path.exists(), "somebody holds it"
        ledgers.sweep(ledgers.path)
        assert not path.exists()
        path.write_bytes(b"somebody else's")
        if path.stat().st_ino != noted[0]["inode"]:
            ledgers.sweep(ledgers.path)
            assert path.exists()
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("happens", "ours"),
    [
        pytest.param("made while it is up", True, id="ours"),
        pytest.param("made before it was up", False, id="there-before"),
        pytest.param("somebody else holds it, too", False, id="a-neighbours"),
        pytest.param("one of the same stack holds it, too", True, id="of-the-same-stack"),
    ],
)
def test_what_was_there_only_to_be_read_is_never_swept(happens: str, ours: bool, ledgers: Ledgers):
    path = Path(f"/dev/shm/stackyard-test-{secrets.token_hex(4)}")
    path.write_bytes(b"x" * 4096)
    Ledgers(ledgers.site).expect({"subject": "stack"})
    if "before" in happens:
        told = plain(ledgers.path) | {"opened": "2999-01-01T00:00:00+00:00"}
        ledgers.path.write_text(json.dumps(told))
    tag = {"STACKYARD_STACK_ID": ledgers.site.stack_id} if "same stack" in happens else {}
    program = f"import mmap\nfile = open({str(path)!r}, 'r+b')\nheld = mmap.mmap(file.fileno(), 0)\n"
    program += "print(1, flush=True)\ninput()"
    holds = [sys.executable, "-c", program] if "holds" in happens else ["echo", "1"]
    other = subprocess.Popen(holds, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=tag)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"1\n"
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
            ledgers.notice([psutil.Process()])
        other.kill()
        other.wait()
        ledgers.sweep(ledgers.path)
        assert path.exists() != ours
    finally:
        other.kill()
        path.unlink(missing_ok=True)


def test_a_cluster_from_before_there_were_ledgers_has_one_of_a_cluster(ledgers: Ledgers):
    beside = ledgers.of_cluster("lab").parent
    (beside / "workspace").mkdir(parents=True)
    (beside / "instance.json").write_text(json.dumps({"instance": "i-1", "generation": 1}))
    (beside / "processes.json").write_text(json.dumps([{"name": "lease-lab-head"}]))
    path = Path(f"/dev/shm/stackyard-test-{secrets.token_hex(4)}")
    path.write_bytes(b"x" * 4096)
    try:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
            ledgers.notice([psutil.Process()], "lab")
        ledger = Certificates(ledgers.site).set_aside("lab", "i-1", None)
    finally:
        path.unlink()
    assert ledger is not None
    found = plain(ledger)
    assert (found["subject"], found["instance"], found["processes"]) == ("cluster", "i-1", ["lease-lab-head"])
    assert found["folders"] == [str(beside), str(ledgers.site.of_process("lease-lab-head"))], "nothing of the stack's"
    assert [each["path"] for each in found["shared_memory"]] == [str(path)]


def test_what_a_certificate_needs_is_set_aside_at_any_point_of_a_deletion(ledgers: Ledgers):
    here, beside = Certificates(ledgers.site), ledgers.of_cluster("lab").parent
    (beside / "workspace").mkdir(parents=True)
    (beside / "saver/discards").mkdir(parents=True)
    (beside / "saver/discards/i-1-1.json").write_text("{}")
    (beside / "instance.json").write_text(json.dumps({"instance": "i-1", "generation": 1}))
    ledger = here.set_aside("lab", "i-0", None)
    assert ledger is not None
    assert ledger == here.folder / "pending/cluster-lab-i-1/ledger.json"
    assert (ledger.parent / "discards/i-1-1.json").exists()
    assert plain(ledger)["closed"]
    (beside / "workspace/late.txt").write_text("work")
    assert here.set_aside("lab", "i-1", None) == ledger, "it may be repeated"
    assert plain(ledger.parent / "before.json") == {"empty": False}
    (beside / "workspace/late.txt").unlink()
    (beside / "workspace").rmdir()
    (beside / "instance.json").unlink()
    assert here.set_aside("lab", "i-1", None) == ledger, "half of it went already"
    assert plain(ledger.parent / "instance.json")["generation"] == 1
    here.expect("lab", "i-1", {}, [])
    assert not ledger.parent.exists(), "it lives on"


def test_what_a_killed_deletion_left_of_a_cluster_is_swept_and_a_suspended_one_keeps_its_own(ledgers: Ledgers):
    scratch, elsewhere = ledgers.site.runtime / "l1", ledgers.site.state / "leases/lab"
    for folder in (scratch, elsewhere):
        folder.mkdir(parents=True)
    ledgers.expect_cluster("lab", "i-1", {}, [{"name": "lease-lab-head", "scratch": str(scratch)}])
    path = ledgers.of_cluster("lab")
    ledgers.sweep(path)
    assert scratch.exists(), "it goes on, or may be resumed"
    ledgers.expect_gone(path, {"cluster": "lab"})
    ledgers.sweep(path)
    assert not scratch.exists()
    assert elsewhere.exists(), "work is never swept"


def test_a_leak_refuses_the_deletion_of_the_site_and_the_next_one_ends_clean(site: dict[str, str], told: list[str]):
    left = Path(site["state"]) / "leases/lab/workspace"
    left.mkdir(parents=True)
    (left / "model.txt").write_text("work")
    with pytest.raises(Refusal, match=r"LEAKED: 1 leaked.*\n.*leaked: folder .*leases.*\(4 bytes\)"):
        SiteKind().delete({"site": site})
    assert (left / "model.txt").exists(), "what nobody certified is not removed"
    (left / "model.txt").unlink()
    os.removedirs(left)
    Path(site["state"]).mkdir(exist_ok=True)
    SiteKind().delete({"site": site})
    assert [line.partition(" (")[0] for line in told][-1].startswith("info: stack test: clean: 0 leaked, 0 lost")


def test_a_loss_refuses_once_and_is_told_the_second_time(ledgers: Ledgers, tmp_path: Path, told: list[str]):
    script = tmp_path / "says.py"
    script.write_text(SAYS.format(folder=str(tmp_path)))
    lost = {
        "ok": False,
        "verdict": "lost",
        "certificate": "c-1",
        "sentence": "LOST",
        "lines": ["all"],
        "away": ["full"],
    }
    (tmp_path / "told.json").write_text(json.dumps(lost | {"path": "/p"}))
    here = Certificates(ledgers.site, [sys.executable, str(script)])
    with pytest.raises(Refusal, match=r"LOST \(stackyard certificate show c-1 -s test\)\n    all\n"):
        here.of_stack()
    here.of_stack()
    assert "--final" in (tmp_path / "asked.txt").read_text().splitlines()[1]
    assert told[-1].startswith("warning: LOST")
    assert "lies in /p only: full" in told[0]


@pytest.mark.parametrize("body", ["sys.exit(3)", "print('no json')", "sys.exit('no')"])
def test_a_certificate_that_cannot_be_asked_for_is_no_yes(ledgers: Ledgers, tmp_path: Path, body: str):
    script = tmp_path / "fails.py"
    script.write_text(f"import sys\n{body}\n")
    with pytest.raises(Refusal, match="is not known"):
        Certificates(ledgers.site, [sys.executable, str(script)]).of_stack()
