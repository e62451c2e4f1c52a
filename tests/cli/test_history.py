"""`history` and `why` tell what became of every model, from the store alone if need be."""

import json
from pathlib import Path
from typing import Any

import pytest

from stackyard.store import layout
from yard import Speaks, Yard

OUTCOMES = {
    1: "replaced",
    2: "live",
    3: "refused",
    4: "failed",
    5: "rolled_back",
    6: "rolling",
    7: "running",
}


def _versions(speak: Speaks) -> dict[int, dict[str, Any]]:
    code, out, _ = speak("history", "--json")
    assert code == 0
    return {version["version"]: version for version in json.loads(out)["versions"]}


def test_every_version_has_an_outcome_and_its_reason(lived: Yard, speak: Speaks) -> None:
    found = _versions(speak)
    assert {number: version["outcome"] for number, version in found.items()} == OUTCOMES
    assert found[2]["because"] == "version 2 is promoted"
    assert found[3]["because"] == "the AUC is 0.02 lower than the champion's"
    assert found[4]["because"] == "the data has no rows"
    assert found[5]["because"] == "taken back by a person"
    assert found[2]["figure"] == {"auc": 0.7312}


def test_the_table_says_it_in_words(lived: Yard, speak: Speaks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    code, out, _ = speak("history")
    assert code == 0
    for said in ("metric: auc 0.66", "auc 0.731", "refused", "rolled back", "canary 5%", "2013-01-01 to 2013-04-17"):
        assert said in out


def test_without_the_journal_the_store_tells_what_it_knows(lived: Yard, speak: Speaks) -> None:
    lived.journal.close()
    Path(lived.database.removeprefix("sqlite:///")).unlink()
    found = _versions(speak)
    assert {number: found[number]["outcome"] for number in (2, 3, 5, 6)} == {
        number: OUTCOMES[number] for number in (2, 3, 5, 6)
    }


def test_before_the_first_model_history_says_so(yard: Yard, speak: Speaks) -> None:
    assert speak("history")[:2] == (
        0,
        "nothing has been made yet: `stackyard status --wait` waits for the first model\n",
    )


def test_why_tells_what_a_refused_version_lacked(lived: Yard, speak: Speaks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    code, out, _ = speak("why", "3")
    assert code == 0
    assert "refused, for want of: the AUC is 0.02 lower than the champion's" in out
    assert "FAILED" in out
    assert "32 rows are too few" in out
    assert "0.25 cpu-hours" in out


def test_why_tells_the_stages_and_the_log_of_a_rollout(lived: Yard, speak: Speaks) -> None:
    code, out, _ = speak("why", "v5", "--json")
    assert code == 0
    told = json.loads(out)
    assert [stage["outcome"] for stage in told["stages"]] == ["promoted", "rolled_back"]
    assert [entry["why"] for entry in told["log"]] == ["version 5 is promoted", "taken back by a person"]


@pytest.mark.parametrize(
    ("name", "number"),
    [("6", 6), ("v6", 6), ("V006", 6), ("parcels-0006", 6), ("06060606", 6)],
    ids=["number", "v and number", "padded", "run id", "digest"],
)
def test_a_version_has_many_names(lived: Yard, speak: Speaks, name: str, number: int) -> None:
    code, out, _ = speak("why", name, "--json")
    assert (code, json.loads(out)["version"]) == (0, number)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("99", "there is no version 99, the newest is 7", id="a number too many"),
        pytest.param("parcels-000", "may mean", id="more than one"),
        pytest.param("ab", "there is no version ab", id="too short"),
        pytest.param("", "there is no version", id="empty"),
        pytest.param("9" * 5000, "there is no version", id="absurd"),
        pytest.param("../../etc", "there is no version", id="a path"),
    ],
)
def test_a_name_that_means_none_or_many_is_a_sentence(lived: Yard, speak: Speaks, name: str, said: str) -> None:
    code, out, err = speak("why", name)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    "garbage", [b"", b"[]", b"\xff", b'{"passed": null}'], ids=["empty", "a list", "bytes", "null"]
)
def test_a_gate_report_that_cannot_be_read_hides_nothing_else(lived: Yard, speak: Speaks, garbage: bytes) -> None:
    lived.store.create(layout.gate("parcels", lived.made(8)), garbage)
    found = _versions(speak)
    assert found[8]["outcome"] in ("ungated", "refused")
    assert speak("why", "8")[0] == 0


def test_a_forged_release_is_one_sentence(lived: Yard, speak: Speaks) -> None:
    path = Path(lived.store.url, layout.release("parcels", 2))
    path.write_bytes(path.read_bytes().replace(b"promoted", b"demoted."))
    code, _, err = speak("history")
    assert code == 1
    assert err == "stackyard: release has a bad signature\n"
