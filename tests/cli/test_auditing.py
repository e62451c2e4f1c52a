"""`stackyard audit --cluster`: also when stack and cluster are long gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stackyard.cli import audit
from stackyard.cli.failures import Failure
from stackyard.store.audit import Log
from stackyard.store.keys import ensure_signing_key
from stackyard.store.objects import Store


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store that a stack left."""
    (tmp_path / "Pulumi.yaml").touch()
    state = tmp_path / ".stackyard/lab"
    log = Log(Store.open(state / "store"), "cluster-bench", ensure_signing_key(state / "keys/receipt-key"))
    log.append(at="2026-01-01T00:00:00+00:00", who="ada", what="discarded", why="nobody needs it")
    monkeypatch.chdir(tmp_path)
    return state / "store"


def test_who_gave_a_cluster_up_is_told_after_it_is_gone(gone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit.show("lab", "bench", as_json=True)
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["who"], entry["what"], entry["why"]) == ("ada", "discarded", "nobody needs it")
    audit.verify("lab", "bench", as_json=False)
    assert capsys.readouterr().out.startswith("audit log of cluster bench: 1 entries, unbroken, head ")


def test_a_log_that_was_altered_does_not_hold(gone: Path) -> None:
    (entry,) = (gone / "audit/cluster-bench").iterdir()
    entry.write_bytes(entry.read_bytes().replace(b"nobody", b"people"))
    with pytest.raises(Failure, match="the audit log of cluster bench does not hold"):
        audit.verify("lab", "bench", as_json=False)


def test_a_stack_that_never_lent_a_cluster_has_no_such_log(gone: Path) -> None:
    with pytest.raises(Failure, match="stack other never had a leased cluster here"):
        audit.show("other", "bench", as_json=False)
