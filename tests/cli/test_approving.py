"""An approver signs with a key that never leaves their machine, and the audit log can be checked by anybody."""

import json
from pathlib import Path

import pytest

from stackyard.cli import approve
from stackyard.spec.models import ApprovalsSpec
from stackyard.store import approvals, layout
from yard import Speaks, Yard


@pytest.fixture
def approvers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment's approvers, as if written in its stack file."""
    named: dict[str, str] = {}

    class _Stack:
        class environment:  # noqa: N801
            approvals = ApprovalsSpec.model_construct(required=2, approvers=named)

    monkeypatch.setattr(approve, "spec", lambda _: _Stack)
    return named


def _key(speak: Speaks, *more: str) -> str:
    code, out, _ = speak("approve", "--show-key", *more)
    assert code == 0
    return out.strip()


def test_the_key_is_made_once_and_private(yard: Yard, speak: Speaks) -> None:
    public = _key(speak)
    path = Path.home() / ".config" / "stackyard" / "approver.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert _key(speak) == public
    assert json.loads(_key(speak, "--json")) == {"public_key": public, "key": str(path)}


def test_two_people_approve_and_a_second_signature_of_one_counts_once(
    lived: Yard, speak: Speaks, approvers: dict[str, str], tmp_path: Path
) -> None:
    other = str(tmp_path / "bobs.key")
    approvers |= {"ada": _key(speak), "bob": _key(speak, "--key", other)}
    for arguments, expected in ((["6"], ["ada"]), (["6"], ["ada"]), (["v6", "--key", other], ["ada", "bob"])):
        code, out, _ = speak("approve", *arguments, "--json")
        assert code == 0
        told = json.loads(out)
        assert (told["approvals"], told["required"], told["subject"]["bundle"]) == (expected, 2, lived.bundle(6))
    subject = approvals.subject_of(lived.store, "parcels", "parcels-0006-abcdef01", lived.bundle(6), "d" * 64)
    assert approvals.count(lived.store, subject, approvers).names == ("ada", "bob")
    changed = subject.model_copy(update={"plan": "e" * 64})
    assert approvals.count(lived.store, changed, approvers).names == ()


@pytest.mark.parametrize(
    ("version", "said"),
    [
        pytest.param("3", "cannot be approved: it is refused", id="a gate failed"),
        pytest.param("7", "cannot be approved: it is running", id="not made yet"),
        pytest.param("5", "needs no approval: it is rolled_back", id="taken back"),
        pytest.param("2", "needs no approval: it is live", id="live"),
    ],
)
def test_what_would_not_be_promoted_cannot_be_approved(
    lived: Yard, speak: Speaks, approvers: dict[str, str], version: str, said: str
) -> None:
    approvers["ada"] = _key(speak)
    code, _, err = speak("approve", version)
    assert code == 5
    assert said in err
    assert list(lived.store.keys("approvals")) == []


def test_a_stranger_hears_what_would_make_them_an_approver(
    lived: Yard, speak: Speaks, approvers: dict[str, str]
) -> None:
    assert "--show-key` makes it" in speak("approve", "6")[2]
    public = _key(speak)
    code, _, err = speak("approve", "6")
    assert code == 5
    assert f"add `NAME: {public}` to approvals.approvers" in err
    assert speak("approve")[0] == 2


def test_an_unbroken_log_is_said_to_be_one(lived: Yard, speak: Speaks) -> None:
    code, out, _ = speak("audit", "verify")
    assert code == 0
    assert "5 entries, unbroken" in out
    assert "5 releases seal the first 5" in out
    assert json.loads(speak("audit", "verify", "--json")[1])["sound"] is True
    assert "taken back by a person" in speak("audit", "show", "--json")[1]


def test_a_changed_log_is_told_with_the_place(lived: Yard, speak: Speaks) -> None:
    path = Path(lived.store.url, layout.audit("parcels", 3))
    path.write_bytes(path.read_bytes().replace(b"version 5", b"version 6"))
    code, out, err = speak("audit", "verify", "--json")
    assert code == 1
    assert "entry 3: audit has a bad signature" in err
    assert json.loads(out)["broken"]["number"] == 3
