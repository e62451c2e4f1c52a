"""A certificate is clean only if nothing leaked and nothing was lost; it is signed, kept twice, and given again."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from departed import Departed
from stackyard.certificates import certificate, issuing, telling
from stackyard.certificates.certificate import CertificateError
from stackyard.certificates.issuing import Issued
from stackyard.certificates.ledger import Ledger, LedgerError
from stackyard.certificates.scene import Lying, Scene, Seen
from stackyard.store.objects import Store, sha256


def empty(_: Ledger) -> Scene:
    return Scene()


certify = partial(issuing.certify, look=empty, patience=0.0)


def leaking(gone: Departed) -> Callable[[Ledger], Scene]:
    tags = {"STACKYARD_STACK_ID": gone.stack_id, "STACKYARD_CLUSTER": f"{gone.stack_id}/bench"}
    folder = {str(gone.scratch): Lying("folder", 70, 1)}
    return lambda _: Scene({7: Seen(7, 1, "ray::worker", tags)}, (), folder)


def verdict(given: Issued) -> tuple[str, bool]:
    return given.given.body.verdict, telling.plain(given)["ok"]


def test_a_cluster_that_went_with_a_receipt_gets_a_clean_certificate_in_the_store_and_beside_the_stack(gone: Departed):
    gone.evacuated()
    events = [{"at": "2026-03-01T08:00:00+00:00", "what": "opened", "generation": 1, "workers": 2, "cpus": 4}]
    events += [events[0] | {"at": "2026-03-01T10:00:00+00:00", "what": "closed"}]
    ledger = gone.evidence(closed="2026-03-01T10:30:00+00:00")
    (gone.pending / "usage.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in events))
    given = certify(ledger)
    body = given.given.body
    assert verdict(given) == ("clean", True)
    assert given.given.place == f"certificates/{gone.stack_id}/cluster-bench-i-1-0001.json"
    data = Store.open(gone.lab.store).read(given.given.place)
    assert data == given.given.path.read_bytes()
    assert sha256(data) == given.given.digest
    assert body.receipt is not None and body.receipt["packs"] == len(gone.packs())
    assert body.receipt["stored"] == sum(path.stat().st_size for path in gone.packs())
    assert (body.usage["cpu_hours"], body.usage["seconds"]) == (16.0, 7200.0)
    sentence = "cluster bench: clean: 0 leaked, 0 lost; up for 2h 30m; 16.00 CPU-hours, 0.00 GPU-hours, cost 0.00"
    assert telling.sentence(body) == sentence
    assert not gone.pending.exists(), "the evidence has done its work"


def test_a_leak_keeps_the_ledger_names_its_price_and_the_next_one_may_be_clean(gone: Departed):
    gone.evacuated()
    ledger = gone.evidence()
    given = certify(ledger, look=leaking(gone))
    assert verdict(given) == ("leaked", False)
    process, folder = given.given.body.leaks
    assert (process["price"], folder["price"], folder["size"]) == (24.0, None, 70)
    assert "all leaks: 24 a day, and 1 without a price that anybody told" in telling.plain(given)["lines"]
    assert ledger.exists()
    assert verdict(certify(ledger, final=True, look=leaking(gone))) == ("leaked", False)
    assert ledger.exists(), "a leak is looked for until it is gone"
    again = certify(ledger)
    assert (verdict(again), again.given.body.number) == (("clean", True), 3)
    assert not ledger.exists()


def test_a_leak_that_ends_by_itself_is_none(gone: Departed):
    gone.evacuated()
    scenes = [leaking(gone), leaking(gone), empty]

    def look(ledger: Ledger) -> Scene:
        return scenes.pop(0)(ledger)

    assert verdict(issuing.certify(gone.evidence(), look=look, patience=5.0)) == ("clean", True)


def test_a_loss_keeps_the_evidence_until_it_is_asked_for_the_last_time(gone: Departed):
    gone.evacuated()
    gone.packs()[0].unlink()
    ledger = gone.evidence()
    assert verdict(certify(ledger)) == ("lost", False)
    assert ledger.exists()
    assert verdict(certify(ledger, final=True)) == ("lost", False)
    assert not ledger.exists()


def test_what_was_given_up_is_named_and_no_failure_and_not_clean(gone: Departed):
    (gone.lab.workspace / "a").write_text("12345")
    gone.lab.save()
    (gone.lab.workspace / "b").write_text("678")
    gone.discard()
    ledger = gone.evidence()
    assert issuing.before(ledger).verdict == "given-up"
    shutil.rmtree(gone.lab.workspace)
    given = certify(ledger)
    assert verdict(given) == ("given-up", True)
    assert not given.given.body.clean
    assert "given up: bench: 2 entries, 3 bytes, by ada: a trial" in "\n".join(telling.plain(given)["lines"])


def test_while_the_store_is_away_the_certificate_lies_beside_the_stack_and_says_so(gone: Departed):
    gone.evacuated()
    ledger, away = gone.evidence(), gone.lab.store.with_name("away")
    gone.lab.store.rename(away)
    given = certify(ledger)
    assert verdict(given) == ("unproven", False)
    assert given.given.place == str(given.given.path)
    assert "is not there" in telling.plain(given)["away"][0]
    away.rename(gone.lab.store)
    again = certify(ledger)
    assert (verdict(again), again.given.body.number) == (("clean", True), 2)


def test_a_certificate_is_never_written_over(gone: Departed):
    gone.lab.store.mkdir()
    path = gone.stack_ledger()
    first = certify(path)
    assert not path.exists()
    for _ in range(2):
        certify(gone.stack_ledger())
    names = sorted(each.name for each in gone.certificates.glob("stack-*.json"))
    assert names == ["stack-0001.json", "stack-0002.json", "stack-0003.json"]
    first.given.path.unlink()
    assert certify(gone.stack_ledger()).given.body.number == 4, "the store still has the first"


def test_a_stack_without_leases_gets_one_too(gone: Departed):
    (gone.base / "kept").mkdir()
    kept = [{"what": "database", "path": str(gone.base / "kept")}, {"what": "MLflow", "path": str(gone.base / "none")}]
    body = certify(gone.stack_ledger(kept=kept)).given.body
    assert (body.verdict, body.clusters, body.usage) == ("clean", [], {})
    assert [each["there"] for each in body.kept] == [True, False]
    assert body.looked["process"] == {"expected": 2, "found": 0}


def test_a_stack_that_keeps_nothing_is_certified_with_a_key_of_that_moment(gone: Departed):
    shutil.rmtree(gone.state / "keys")
    given = certify(gone.stack_ledger(store=str(gone.base / "removed"))).given
    assert given.body.clean
    assert not (gone.state / "keys").exists()
    assert not (gone.base / "removed").exists()
    keys = certificate.trusted(gone.certificates)
    assert certificate.read(given.path.read_bytes(), given.path, keys).body == given.body


INSTANCES = {"instances": [{"cluster": "bench", "instance": "i-1"}]}


def test_a_stack_holds_its_clusters_certificates_and_gives_those_that_a_kill_kept_back(gone: Departed):
    gone.evacuated()
    gone.evidence()
    given = certify(gone.stack_ledger(**INSTANCES))
    assert verdict(given) == ("clean", True)
    assert telling.plain(given)["clusters"] == ["cluster-bench-i-1-0001"]
    assert [each["verdict"] for each in given.given.body.clusters] == ["clean"]
    assert not gone.pending.exists()


@pytest.mark.parametrize("word", ["nobody-certified-it", "it-was-lost", "it-was-given-up", "it-leaks", "unproven"])
def test_a_stack_is_no_cleaner_than_its_clusters(word: str, gone: Departed):
    gone.evacuated()
    look: Any = empty
    expected = {"it-leaks": "leaked", "it-was-given-up": "given-up", "unproven": "unproven"}.get(word, "lost")
    if word == "it-was-lost":
        gone.packs()[0].unlink()
    if word == "it-was-given-up":
        next(gone.lab.store.glob("receipts/*/*")).unlink()
        gone.discard()
    if word != "nobody-certified-it":
        gone.evidence()
    if word == "it-leaks":
        look = leaking(gone)
    if word == "unproven":
        gone.lab.store.rename(gone.base / "away")
    given = certify(gone.stack_ledger(**INSTANCES), look=look)
    assert given.given.body.verdict == expected
    assert not given.given.body.clean
    assert (gone.state / "ledger.json").exists() is (expected != "given-up")


@pytest.mark.parametrize("leaks_first", [True, False])
def test_of_two_certificates_the_later_number_counts_also_when_the_clock_was_set_back(
    gone: Departed, monkeypatch: pytest.MonkeyPatch, leaks_first: bool
):
    class Clock(dt.datetime):
        on = 9

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return dt.datetime(2026, 3, cls.on, tzinfo=tz)

    monkeypatch.setattr(issuing, "dt", SimpleNamespace(datetime=Clock, UTC=dt.UTC))
    gone.evacuated()
    for look in (leaking(gone), empty) if leaks_first else (empty, leaking(gone)):
        certify(gone.evidence(), look=look)
        Clock.on -= 1
    shutil.rmtree(gone.pending, ignore_errors=True)
    given = certify(gone.stack_ledger(**INSTANCES))
    assert given.given.body.verdict == ("clean" if leaks_first else "leaked")


def test_what_is_no_ledger_is_refused_by_name(gone: Departed, tmp_path: Path):
    for content in (None, "no json", "[]", json.dumps(gone.plain() | {"version": 2})):
        path = tmp_path / "ledger.json"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        with pytest.raises(LedgerError, match=r"ledger\.json"):
            certify(path)


def test_a_certificate_that_was_changed_or_signed_by_a_stranger_is_not_believed(gone: Departed):
    path = certify(gone.stack_ledger()).given.path
    keys = certificate.trusted(gone.certificates)
    data = path.read_bytes()
    with pytest.raises(CertificateError, match="signature"):
        certificate.read(data.replace(b'"number":1', b'"number":2'), path, keys)
    with pytest.raises(CertificateError, match="not trusted"):
        certificate.read(data, path, ["another"])
    path.write_bytes(data[:-5])
    assert list(certificate.issued(gone.certificates)) == []
