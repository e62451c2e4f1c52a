"""`stackyard restore` finds what is meant among the stacks of a checkout, those that were destroyed included."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leased import picture
from stackyard.evacuation.saving import Saver
from stackyard.evacuation.settings import SaverSettings
from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_signing_key, write_private


class Checkout:
    """Stacks with leased clusters, as `up` leaves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "Pulumi.yaml").touch()
        (folder / "stacks").mkdir()

    def settings(self, stack: str, cluster: str = "lab", *, instance: str = "i1", **more: Any) -> SaverSettings:
        """An opened cluster with an empty workspace."""
        state = self.folder / ".stackyard" / stack
        folder, key = state / "leases" / cluster, state / "keys" / "receipt-key"
        (folder / "workspace").mkdir(parents=True, exist_ok=True)
        (state / "store").mkdir(exist_ok=True)
        mine = public_text(ensure_signing_key(key).public_key())
        if more.get("encrypt_key"):
            more["encrypt_key"] = str(state / "keys/workspace-key")
            write_private(state / "keys/workspace-key", os.urandom(32))
        told = {
            "stack": stack, "stack_id": f"id-{stack}", "cluster": cluster, "instance": instance, "generation": 1,
            "workspace": str(folder / "workspace"), "store": str(state / "store"), "receipt_key": str(key),
            "trusted_keys": [mine], "state": str(folder / "saver"), "processes_tag": f"T={stack}-{cluster}", **more,
        }  # fmt: skip
        (folder / "evacuation.json").write_text(json.dumps(told))
        return SaverSettings.model_validate(told)

    def worked(self, stack: str, cluster: str = "lab", *, text: str = "work", **more: Any) -> dict[bytes, Any]:
        """A cluster that somebody worked in, saved. Returns what it holds."""
        settings = self.settings(stack, cluster, **more)
        (settings.workspace / "a").mkdir(exist_ok=True)
        (settings.workspace / "a/b").write_text(text)
        (settings.workspace / "a/b").chmod(0o640)
        os.utime(settings.workspace / "a/b", ns=(1, 10**18))
        Saver(settings).save()
        return picture(settings.workspace)

    def destroyed(self, stack: str, cluster: str = "lab") -> str:
        """Its cluster evacuated and gone. Returns the receipt's key."""
        folder = self.folder / ".stackyard" / stack / "leases" / cluster
        command = [sys.executable, "-m", "stackyard.evacuation", "evacuate", str(folder / "evacuation.json"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        shutil.rmtree(folder)
        return json.loads(done.stdout)["receipt"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.chdir(tmp_path)
    return Checkout(tmp_path)


Says = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def says(capfd: pytest.CaptureFixture[str]) -> Says:
    """`stackyard restore ARGUMENTS --json`: exit code, document, standard error."""
    from stackyard.cli.app import app
    from stackyard.cli.failures import Failure
    from stackyard.cli.leased import restore

    assert restore

    def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
        capfd.readouterr()
        code, reason = 0, ""
        try:
            app(["restore", *arguments, "--json"], standalone_mode=False)
        except Failure as failure:
            code, reason = failure.code, str(failure)
        out, _ = capfd.readouterr()
        return code, json.loads(out.splitlines()[-1]) if out.strip() else {}, reason

    return run


@pytest.mark.parametrize(
    ("how", "encrypted"),
    [("latest", False), ("number", False), ("receipt", True), ("path", False)],
    ids=["latest", "number", "receipt-encrypted", "path"],
)
def test_the_work_of_a_cluster_long_gone_comes_back_bit_identical(
    checkout: Checkout, says: Says, how: str, encrypted: bool
):
    want = checkout.worked("lab", encrypt_key=encrypted or None)
    receipt = checkout.destroyed("lab")
    fresh = checkout.settings("other", "fresh", instance="i2")
    what = {"latest": "latest", "number": "v1", "receipt": receipt, "path": f".stackyard/lab/store/{receipt}"}[how]
    code, told, reason = says(what, "--to", "fresh", "-s", "other")
    assert (code, told["ok"], told["from"]) == (0, True, {"stack": "lab", "cluster": "lab"}), reason
    assert picture(fresh.workspace) == want


def test_latest_in_the_same_stack_is_what_was_there_before_this_instance(checkout: Checkout, says: Says):
    want = checkout.worked("lab")
    checkout.destroyed("lab")
    fresh = checkout.settings("lab", instance="i2")
    Saver(fresh).save()  # an empty version of its own is the newest by now
    assert says("latest", "--to", "lab", "-s", "lab")[0] == 0
    assert picture(fresh.workspace) == want


def _two_stacks(checkout: Checkout) -> None:
    checkout.worked("one")
    checkout.worked("two")


def _two_clusters(checkout: Checkout) -> None:
    checkout.worked("one", "first")
    checkout.worked("one", "second")


def _occupied(checkout: Checkout) -> None:
    checkout.worked("one")
    checkout.worked("other", "fresh")


def _a_strangers(checkout: Checkout) -> None:
    checkout.worked("one")
    key = checkout.folder / ".stackyard/one/keys/receipt-key"
    key.unlink()
    ensure_signing_key(key)
    shutil.rmtree(checkout.folder / ".stackyard/one/leases")


def _away(checkout: Checkout) -> None:
    checkout.worked("one")
    (checkout.folder / ".stackyard/one/store").rename(checkout.folder / "away")


REFUSED = {
    "nothing-was-saved": (lambda _: None, ("latest",), 1, "nothing was saved"),
    "two-stacks": (_two_stacks, ("latest",), 2, "--from one --of lab, version 1"),
    "two-clusters": (_two_clusters, ("latest",), 2, "--of first"),
    "no-such-stack": (_two_stacks, ("latest", "--from", "three"), 2, "saved were one (lab); two (lab)"),
    "no-such-cluster": (_two_stacks, ("latest", "--of", "bench"), 1, "of cluster bench"),
    "no-such-version": (_two_stacks, ("v9", "--from", "one"), 1, "no v9 to restore in stack one"),
    "no-such-receipt": (_two_stacks, ("receipts/lab/x-1-0001.json",), 1, "no receipts/lab/x-1-0001.json"),
    "occupied": (_occupied, ("latest", "--from", "one"), 1, "not empty"),
    "signed-by-nobody-known": (_a_strangers, ("latest", "--from", "one"), 1, "no latest to restore"),
    "the-store-is-away": (_away, ("latest", "--from", "one"), 1, "is away"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_clear_or_not_there_is_one_line_and_changes_nothing(checkout: Checkout, says: Says, case: str):
    make, arguments, want, words = REFUSED[case]
    checkout.settings("other", "fresh", instance="i2")
    make(checkout)
    place = checkout.folder / ".stackyard/other/leases/fresh/workspace"
    before = picture(place)
    code, _, reason = says(*arguments, "--to", "fresh", "-s", "other")
    assert (code, "\n" in reason) == (want, False)
    assert words in reason
    assert picture(place) == before
    assert not (checkout.folder / ".stackyard/one/store").exists() or case != "the-store-is-away"


def test_of_two_a_person_says_which(checkout: Checkout, says: Says):
    _two_stacks(checkout)
    checkout.settings("other", "fresh", instance="i2")
    assert says("latest", "--to", "fresh", "-s", "other", "--from", "two")[1]["from"]["stack"] == "two"


def test_a_cluster_that_is_not_lent_is_named_with_those_that_are(checkout: Checkout, says: Says):
    checkout.worked("lab")
    code, _, reason = says("latest", "--to", "bench", "-s", "lab")
    assert (code, reason) == (1, "stack lab has no leased cluster bench; it has lab")


def test_what_is_damaged_in_the_store_is_listed_and_all_else_comes(checkout: Checkout, says: Says):
    settings = checkout.settings("lab")
    for name in ("good", "bad"):
        (settings.workspace / name).write_bytes(os.urandom(3 << 20))
        Saver(settings).save()
    packs = sorted(
        checkout.folder.glob(".stackyard/lab/store/workspaces/lab/packs/*/*"), key=lambda p: p.stat().st_size
    )
    bad = packs[-1]
    data = bytearray(bad.read_bytes())
    data[1000] ^= 1
    bad.write_bytes(data)
    fresh = checkout.settings("other", "fresh", instance="i2")
    code, told, _ = says("latest", "--to", "fresh", "-s", "other")
    assert (code, len(told["losses"])) == (1, 1)
    assert len(os.listdir(fresh.workspace)) == 1
