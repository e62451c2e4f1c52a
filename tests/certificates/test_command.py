"""`stackyard certificate` and `python -m stackyard.certificates`, as people and the provider call them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from departed import Departed, away, damaged_pack, no_receipt
from stackyard.certificates import issuing
from stackyard.cli.app import app
from stackyard.cli.failures import Failure


def module(*words: str | Path) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "stackyard.certificates", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def certified(gone: Departed, monkeypatch: pytest.MonkeyPatch) -> Departed:
    """A stack of which a cluster went, then all; one stands in its checkout."""
    gone.evacuated()
    issuing.certify(gone.evidence(), patience=0.0)
    issuing.certify(gone.stack_ledger(instances=[{"cluster": "bench", "instance": "i-1"}]), patience=0.0)
    checkout = gone.state.parents[1]
    (checkout / "Pulumi.yaml").write_text("name: stackyard\n")
    monkeypatch.chdir(checkout)
    return gone


def asked(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["certificate", *words, "-s", "lab"])
    failure = done.exception if isinstance(done.exception, Failure) else None
    assert failure is not None or done.exit_code in (0, 1), done.output
    return (failure.code, f"{done.output}{failure}") if failure else (done.exit_code, done.output)


def test_the_module_answers_with_an_exit_code_and_one_object(gone: Departed):
    gone.evacuated()
    ledger = gone.evidence()
    code, told = module("before", ledger)
    assert (code, told["verdict"]) == (0, "safe")
    code, told = module("certify", ledger)
    assert (code, told["ok"], told["certificate"]) == (0, True, "cluster-bench-i-1-0001")
    code, told = module("certify", ledger)
    assert (code, told["ok"]) == (2, False)


def test_the_module_says_no_while_the_workspace_is_still_there_and_the_store_is_damaged(gone: Departed):
    gone.evacuated()
    damaged_pack(gone)
    code, told = module("before", gone.evidence())
    assert (code, told["verdict"]) == (1, "lost")
    assert "is not what was put there" in told["reason"]
    assert gone.lab.workspace.exists()


def test_a_certificate_is_shown_long_after(certified: Departed):
    code, text = asked("show")
    assert code == 0
    assert "stack lab: clean: 0 leaked, 0 lost" in text
    assert "cluster bench: clean: cluster-bench-i-1-0001" in text
    for which in ("cluster-bench-i-1-0001", f"certificates/{certified.stack_id}/cluster-bench-i-1-0001.json"):
        code, text = asked("show", which, "--json")
        assert (code, json.loads(text)["receipt"]["version"]) == (0, 1)
    code, text = asked("show", "none")
    assert code == 1
    assert "there are: cluster-bench-i-1-0001, stack-0001" in text


def test_a_stack_that_was_never_destroyed_has_none(gone: Departed, monkeypatch: pytest.MonkeyPatch):
    (gone.state.parents[1] / "Pulumi.yaml").write_text("name: stackyard\n")
    monkeypatch.chdir(gone.state)
    assert asked("show")[0] == asked("verify")[0] == 1


def leaked_again(gone: Departed) -> None:
    gone.runtime.mkdir(mode=0o700)


def changed(gone: Departed) -> None:
    path = gone.certificates / "stack-0001.json"
    path.write_bytes(path.read_bytes().replace(b'"clean":true', b'"clean":true '))
    path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":9'))


def clusters_certificate_gone(gone: Departed) -> None:
    (gone.certificates / "cluster-bench-i-1-0001.json").unlink()


def up_again(gone: Departed) -> None:
    leaked_again(gone)
    gone.stack_ledger()
    (gone.state / "leases/bench").mkdir(parents=True)


def untouched(gone: Departed) -> None:
    """As it was."""


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        pytest.param(untouched, 0, "all that was in cluster bench can be had back: yes", id="nothing"),
        pytest.param(leaked_again, 1, "stack lab is gone: NO (folder", id="something-is-there-again"),
        pytest.param(no_receipt, 1, "can be had back: NO (there is no valid receipt", id="the-receipt-gone"),
        pytest.param(damaged_pack, 1, "can be had back: NO", id="the-store-damaged"),
        pytest.param(away, 0, "can be had back: not asked", id="the-store-away"),
        pytest.param(changed, 1, "bad signature", id="the-certificate-changed"),
        pytest.param(clusters_certificate_gone, 1, "is the one it names: NO", id="a-clusters-certificate-gone"),
        pytest.param(up_again, 0, "stack lab is gone: not asked (it is up again)", id="up-again"),
    ],
)
def test_every_claim_is_asked_again(change: Any, code: int, sentence: str, certified: Departed):
    change(certified)
    found, text = asked("verify", "stack-0001")
    assert sentence in text
    assert found == code
