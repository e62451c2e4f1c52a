"""Who gave up what, and why, stands in a log that nobody can rewrite unseen; what cannot be noted stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from leased import Lab
from stackyard.evacuation import auditing
from stackyard.store import audit
from stackyard.store.objects import Store


def log(lab: Lab) -> list[audit.Entry]:
    store = Store.open(lab.settings.store)
    assert audit.verify(store, "cluster-bench", lab.settings.trusted_keys).broken is None
    return audit.entries(store, "cluster-bench", lab.settings.trusted_keys)


def test_what_lets_a_cluster_go_is_noted_once(lab: Lab) -> None:
    (lab.workspace / "work").write_text("work")
    given = lab.command("discard", "--because", "a drill", "--by", "ada")
    assert (given.code, given.told["audit"]) == (0, None)
    sealed = lab.command("evacuate")
    assert sealed.code == 0
    for _ in range(2):
        assert lab.command("receipt").code == 0
        assert lab.command("evacuate").code == 0
    dropped, safe = log(lab)
    assert (dropped.what, dropped.who, dropped.why) == ("discarded", "ada", "a drill")
    assert dropped.facts["place"] == given.told["discard"]
    assert (safe.what, safe.facts["place"], safe.facts["generation"]) == ("evacuated", sealed.told["receipt"], 1)
    assert "1 files, 4 bytes" in safe.why


@pytest.mark.parametrize("verb", ["save", "receipt", "evacuate"])
def test_a_discard_given_while_the_store_was_away_is_noted_by_the_next_command_that_finds_it(
    lab: Lab, verb: str
) -> None:
    (lab.workspace / "work").write_text("work")
    lab.save()
    away = lab.store.with_name("away")
    lab.store.rename(away)
    told = lab.command("discard", "--because", "nobody needs it").told
    assert "is not there" in told["audit"]
    assert Path(told["discard"]).is_absolute()
    assert lab.command("receipt").code == 0, "it may go all the same"
    away.rename(lab.store)
    for _ in range(2):
        assert lab.command(verb).code == 0
    assert [each.why for each in log(lab) if each.what == "discarded"] == ["nobody needs it"]
    assert auditing.waiting(lab.settings) == []


def test_a_log_that_somebody_cut_stops_no_evacuation_and_is_told(lab: Lab) -> None:
    (lab.workspace / "work").write_text("work")
    lab.command("discard", "--because", "a drill")
    (entry,) = (lab.store / "audit/cluster-bench").iterdir()
    entry.write_bytes(entry.read_bytes().replace(b"a drill", b"a thief"))
    outcome = lab.command("evacuate")
    assert outcome.code == 0
    assert outcome.told["audit"]


def test_a_discard_that_nobody_signed_is_not_noted(lab: Lab) -> None:
    (lab.settings.state / "discards").mkdir(parents=True)
    (lab.settings.state / "discards/i-1-1.json").write_text("{}")
    assert auditing.waiting(lab.settings) == []
