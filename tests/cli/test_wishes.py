"""What people ask for is signed, says exactly what is meant, and is refused at once when it can mean nothing."""

import json
import os
from pathlib import Path

import pytest

from stackyard.store import inbox
from stackyard.store.releases import Arm
from yard import Speaks, Yard

WHY = ("--because", "it was agreed")


@pytest.mark.parametrize(
    ("command", "kind", "about"),
    [
        pytest.param(["train", *WHY], "train", {"release": 5}, id="train"),
        pytest.param(["pause", *WHY], "pause", {}, id="pause"),
        pytest.param(["reject", "6", *WHY], "reject", {"run": "parcels-0006-abcdef01"}, id="reject"),
        pytest.param(["reject", "7", *WHY], "reject", {"run": "parcels-0007-abcdef01"}, id="reject while it runs"),
        pytest.param(["promote", "6"], "promote", {"run": "parcels-0006-abcdef01"}, id="promote"),
        pytest.param(["data", "release", "2013-05-01", *WHY], "release_day", {"day": "2013-05-01"}, id="a day"),
        pytest.param(["rollback", *WHY], "rollback", {"bundle": "02" * 32}, id="the canary is taken back"),
        pytest.param(["rollback", "--to", "5", *WHY], "rollback", {"bundle": "05" * 32}, id="to a version"),
    ],
)
def test_a_wish_reaches_the_inbox_signed(
    lived: Yard, speak: Speaks, command: list[str], kind: str, about: dict[str, object]
) -> None:
    code, out, err = speak(*command, "--json")
    assert (code, err) == (0, "")
    (wish,) = lived.wishes()
    assert wish.kind == kind
    assert wish.created == "2013-05-01T12:00:00+00:00"  # the stack's clock, not the machine's
    assert wish.by
    found = json.loads(out)
    assert found["id"] == wish.id
    assert {name: found[name] for name in about} == about


def test_without_a_rollout_rollback_means_the_champion_before_whatever_is_released_meanwhile(
    yard: Yard, speak: Speaks
) -> None:
    for number in (1, 2, 1, 3):
        yard.release(number)
    assert speak("rollback", *WHY)[0] == 0
    yard.release(4)
    (wish,) = yard.wishes()
    assert wish.bundle == yard.bundle(1)
    assert inbox.state([wish], newest=5).rollback == (wish,)


def test_under_watch_rollback_means_the_champion_before_and_never_one_that_was_taken_back(
    yard: Yard, speak: Speaks
) -> None:
    arm = Arm(bundle=yard.bundle(1), kind="shadow", share=1.0)
    yard.release(1)
    yard.release(2, candidate=yard.made(2), outcome="promoted", stage="watch", arms=(arm,))
    assert speak("rollback", *WHY)[0] == 0
    assert yard.wishes()[-1].bundle == yard.bundle(1)
    yard.release(1, candidate="parcels-0002-abcdef01", outcome="rolled_back")
    assert "was taken back: name one" in speak("rollback", *WHY)[2]


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        pytest.param(["train"], 2, "Missing option '--because'", id="no reason"),
        pytest.param(["train", "--because", "  "], 2, "needs a reason", id="an empty reason"),
        pytest.param(["train", "--because", "x" * 1001], 2, "1000 characters", id="a novel"),
        pytest.param(["reject", "2", *WHY], 1, "version 2 is live: `stackyard rollback`", id="reject the champion"),
        pytest.param(["reject", "3", *WHY], 1, "it is refused", id="reject what is refused"),
        pytest.param(["promote", "3"], 1, "cannot be promoted: it is refused: the AUC", id="promote past a gate"),
        pytest.param(["promote", "7"], 1, "it is running", id="promote what is not made"),
        pytest.param(["promote", "2"], 1, "is live already", id="promote the champion"),
        pytest.param(["promote", "1"], 1, "rollback --to 1", id="promote what was champion"),
        pytest.param(["promote", "99"], 2, "there is no version 99", id="promote nothing"),
        pytest.param(["rollback", "--to", "3", *WHY], 1, "was never champion", id="roll back to what never was"),
        pytest.param(["resume"], 1, "is not paused", id="resume what goes on"),
        pytest.param(["data", "release", "May", *WHY], 2, "not a date", id="no day"),
    ],
)
def test_what_can_mean_nothing_is_said_at_once_and_asks_nothing(
    lived: Yard, command: list[str], code: int, said: str
) -> None:
    done = _shell(lived, *command)
    assert (done[0], "Traceback" in done[1]) == (code, False)
    assert said in done[1]
    assert lived.wishes() == []


def _shell(yard: Yard, *command: str) -> tuple[int, str]:
    import subprocess
    import sys

    stackyard = str(Path(sys.executable).parent / "stackyard")
    done = subprocess.run(
        [stackyard, *command], cwd=yard.folder, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, " ".join(done.stderr.replace("│", " ").split())


def test_a_rollback_to_the_champion_itself_or_of_the_first_model_is_refused(yard: Yard, speak: Speaks) -> None:
    assert "no champion yet" in speak("rollback", *WHY)[2]
    assert "without being asked" in speak("train", *WHY)[2]
    yard.made(1)
    yard.release(1)
    assert "nothing to return to" in speak("rollback", *WHY)[2]
    assert "live already" in speak("rollback", "--to", "1", *WHY)[2]


def test_a_pause_lasts_until_resume(lived: Yard, speak: Speaks) -> None:
    assert speak("pause", *WHY)[0] == 0
    assert inbox.state(lived.wishes()).paused is not None
    assert speak("resume")[0] == 0
    assert inbox.state(lived.wishes()).paused is None


def test_a_rejected_version_shows_as_rejected_and_stays_so(yard: Yard, speak: Speaks) -> None:
    yard.made(1)
    yard.release(1)
    yard.gate(yard.made(2), passed=True)
    assert speak("reject", "2", *WHY)[0] == 0
    code, _, err = speak("promote", "2")
    assert code == 1
    assert "it is rejected: it was agreed" in err


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        pytest.param(lambda path: path.unlink(), "there is no operator key", id="gone"),
        pytest.param(lambda path: path.chmod(0o644), "open to others", id="open to others"),
        pytest.param(lambda path: path.write_bytes(b"short"), "operator key", id="broken"),
    ],
)
def test_a_key_that_cannot_sign_is_a_sentence(lived: Yard, speak: Speaks, harm: object, said: str) -> None:
    path = lived.folder / ".stackyard" / "local" / "keys" / "operator.key"
    os.chmod(path, 0o600)
    harm(path)  # pyright: ignore[reportCallIssue]
    code, _, err = speak("train", *WHY)
    assert code == 1
    assert said in err


def test_garbage_in_the_inbox_is_shown_and_stops_nobody(lived: Yard, speak: Speaks) -> None:
    lived.store.create("inbox/parcels/zzz.json", b"{}")
    assert speak("train", *WHY)[0] == 0
    assert "zzz.json" in json.loads(speak("history", "--json")[1])["refused_wishes"][0]
