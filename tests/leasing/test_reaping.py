"""With nobody there, a cluster whose lease is over is saved and suspended, and nothing else is touched."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from leased import picture
from lent import SLEEPS, WRITES, Lent, gone, lent, state
from stackyard.evacuation import evacuating
from stackyard.leasing import acting, reaping, verbs
from stackyard.leasing import folder as folder_of
from stackyard.store.audit import entries
from stackyard.store.objects import Store


def reap(bench: Lent, code: int = 0) -> dict[str, Any]:
    """One look, in this process."""
    found, told = verbs.reap([bench.folder])
    assert found == code, told
    return told["clusters"][0]


def told_of(answer: dict[str, Any], state: str = "open") -> list[str]:
    return [each["key"].split(":")[2] for each in answer["events"] if each["state"] == state]


def test_a_cluster_whose_lease_is_over_is_saved_and_its_processes_end(bench: Lent, tmp_path: Path) -> None:
    writer, stranger = bench.start(WRITES), bench.start(tagged=False)
    bench.lease(ttl=600.0)
    answer = reap(bench)
    assert (answer["did"], answer["state"], answer["outcome"]) == (["suspended"], "suspended", "ok")
    assert gone(writer)
    assert state(stranger.pid) == "S"
    noted = bench.read("suspended.json")
    assert (noted["reason"], noted["whole"], noted["instance"], noted["generation"]) == ("ttl", True, "i-1", 1)
    assert bench.restored(tmp_path / "back") == picture(bench.workspace)
    assert told_of(answer, "moment") == ["suspended"]
    assert bench.read("reaping.json") is None
    again = reap(bench)
    assert (again["did"], bench.acts(), bench.read("suspended.json")) == ([], ["suspend"], noted)
    assert [each["id"] for each in answer["events"] if "id" in each] == []
    assert evacuating.sealed(bench.settings) is None
    assert not evacuating.allowed(bench.settings).allowed


def test_what_somebody_writes_after_a_suspension_is_saved_as_often_as_ever(bench: Lent, tmp_path: Path) -> None:
    bench.start()
    bench.lease(ttl=600.0)
    assert reap(bench)["did"] == ["suspended"]

    def later(code: int = 0) -> dict[str, Any]:
        os.utime(bench.folder / "suspended.json", (0, 0))
        return reap(bench, code)

    assert (later()["did"], later()["outcome"]) == ([], "ok")
    (bench.workspace / "late").write_text("from a shell that was not the cluster's")
    assert reap(bench)["did"] == [], "not at every look"
    answer = later()
    assert (answer["did"], answer["failed"], bench.read("suspended.json")["saved"]) == (["saved"], None, 2)
    assert bench.restored(tmp_path / "back") == picture(bench.workspace)
    assert (bench.acts(), reap(bench)["did"]) == (["suspend"], [])

    (bench.workspace / "later").write_text("x")
    away = bench.store.with_name("away")
    bench.store.rename(away)
    answer = later(1)
    assert "what came since is not saved" in answer["failed"]
    assert bench.read("suspended.json")["whole"] is False
    away.rename(bench.store)
    assert later()["did"] == ["suspended"]
    assert (bench.read("suspended.json")["whole"], bench.read("suspended.json")["saved"]) == (True, 3)


def test_whom_a_killed_evacuation_left_standing_is_let_go_with_nobody_there(bench: Lent) -> None:
    writer, frozen = bench.start(WRITES), bench.folder / "saver" / "frozen.json"
    freezing = [sys.executable, "-m", "stackyard.evacuation", "freeze", str(bench.folder / "evacuation.json")]
    subprocess.run(freezing, check=True, capture_output=True)
    assert (reap(bench)["did"], state(writer.pid)) == ([], "T"), "it may go on in a moment"
    os.utime(frozen, (0, 0))
    with (bench.folder / "saver" / "freeze.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (reap(bench)["did"], state(writer.pid)) == ([], "T"), "whoever saves him is still at it"
    assert reap(bench)["did"] == ["thawed"]
    assert state(writer.pid) != "T"
    assert (reap(bench)["did"], bench.acts()) == ([], [])


def test_an_odd_entry_that_waits_for_the_log_keeps_nobody_from_hearing_of_the_end(bench: Lent) -> None:
    bench.start()
    bench.lease(ttl=600.0)
    bench.write("told.json", {"instance": "i-1", "audit": [{"at": 5, "who": [], "what": "b", "why": "c"}]})
    answer = reap(bench)
    assert (answer["did"], answer["outcome"]) == (["suspended"], "ok")
    assert told_of(answer, "moment") == ["suspended"]
    assert "store" in told_of(answer), "somebody hears that the log does not take it"


@pytest.mark.slow
def test_a_store_that_hangs_holds_up_the_end_no_longer_than_one_that_is_away(
    bench: Lent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow: processes. Shows that a save without an end is ended once grace is over, and tried again later."""
    script = "import sys, time\nif sys.argv[1] == 'suspend': time.sleep(600)\n"
    script += "from stackyard.evacuation.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    writer = bench.start(WRITES)
    with monkeypatch.context() as hangs:
        hangs.setattr(acting, "EVACUATION", (sys.executable, "-c", script))
        hangs.setattr(reaping, "LONGEST", 1.0)
        bench.lease(ttl=3598.0, grace=0.0)
        answer = reap(bench, 1)
    assert gone(writer)
    assert "not everything of it is saved" in answer["failed"] and "timed out" in answer["failed"]
    assert bench.read("suspended.json")["whole"] is False
    os.utime(bench.folder / "suspended.json", (0, 0))
    assert (reap(bench)["did"], bench.read("suspended.json")["whole"]) == (["suspended"], True)


def test_a_cluster_that_is_lent_goes_on(bench: Lent) -> None:
    sleeper = bench.start()
    answer = reap(bench)
    assert (answer["did"], answer["state"], answer["wants"]) == ([], "open", "running")
    assert (sleeper.poll(), bench.acts()) == (None, [])
    assert bench.read("seen.json")["generation"] == 1


def test_an_extension_brings_a_suspended_cluster_back(bench: Lent) -> None:
    bench.start()
    bench.lease(ttl=600.0, extend={"times": 1, "by": 7200.0})
    reap(bench)
    code, told = verbs.extend(bench.folder, 7200.0, "ada", "a paper")
    assert (code, told["state"], told["decision"]["wants"]) == (0, "suspended", "running")
    assert reap(bench)["did"] == ["resumed"]
    assert len(bench.running()) == 1
    assert (bench.read("suspended.json"), bench.read("reaping.json")) == (None, None)
    assert reap(bench)["did"] == []
    log = entries(Store.open(str(bench.store)), "cluster-bench", bench.settings.trusted_keys)
    assert [(each.what, each.who, each.why) for each in log] == [
        ("suspended", "reaper", bench_because(bench)),
        ("extended", "ada", "a paper"),
        ("resumed", "reaper", log[-1].why),
    ]
    assert bench.read("told.json")["audit"] == []


def bench_because(bench: Lent) -> str:
    opened = dt.datetime.fromisoformat(bench.read("instance.json")["opened"])
    return f"it was opened {opened:%Y-%m-%d %H:%M} UTC and lent for 10m"


EXTENSIONS: dict[str, tuple[dict[str, Any] | None, float, int, str]] = {
    "as-far-as-allowed": ({"times": 1, "by": 60.0}, 60.0, 0, ""),
    "further-than-allowed": ({"times": 1, "by": 60.0}, 61.0, 5, "by 1m at a time, not by 61s"),
    "not-allowed": (None, 60.0, 5, "allows no extension"),
    "by-nothing": ({"times": 1, "by": 60.0}, 0.0, 2, "longer than nothing"),
    "backwards": ({"times": 1, "by": 60.0}, -60.0, 2, "longer than nothing"),
    "by-no-number": ({"times": 1, "by": 60.0}, float("nan"), 2, "longer than nothing"),
}


@pytest.mark.parametrize(("allowed", "seconds", "code", "said"), EXTENSIONS.values(), ids=EXTENSIONS.keys())
def test_a_lease_is_extended_as_far_as_it_allows(
    bench: Lent, allowed: dict[str, Any] | None, seconds: float, code: int, said: str
) -> None:
    bench.lease(extend=allowed)
    found, told = verbs.extend(bench.folder, seconds, "ada", "a paper")
    assert (found, said in (told.get("reason") or "")) == (code, True)
    assert (bench.read("extensions.json") is not None) is (code == 0)


def test_an_extension_asked_for_twice_is_one_and_another_one_is_too_many(bench: Lent) -> None:
    bench.lease(extend={"times": 1, "by": 60.0})
    before = dt.datetime.fromisoformat(verbs.status(bench.folder)[1]["ends"])
    assert [verbs.extend(bench.folder, 60.0, "ada", "a paper")[0] for _ in range(2)] == [0, 0]
    assert len(bench.read("extensions.json")["extensions"]) == 1
    code, told = verbs.extend(bench.folder, 60.0, "ada", "another paper")
    assert (code, "extended once already" in told["reason"]) == (5, True)
    assert dt.datetime.fromisoformat(verbs.status(bench.folder)[1]["ends"]) == before + dt.timedelta(seconds=60)


def test_what_is_sealed_is_neither_resumed_nor_suspended_and_what_is_gone_is_not_even_extended(bench: Lent) -> None:
    bench.lease(extend={"times": 1, "by": 60.0})
    evacuating.evacuate(bench.settings)
    assert verbs.extend(bench.folder, 60.0, "ada", "so that `up` opens it again")[0] == 0
    nobody = bench.folder.parent / "nobody"
    for code, told in (
        verbs.extend(nobody, 60.0, "ada", "a paper"),
        *(answer for folder in (bench.folder, nobody) for answer in (verbs.resume(folder), _suspended(folder))),
    ):
        assert (code, told["ok"]) == (5, False)
    assert bench.acts() == []
    assert reap(bench)["state"] == "sealed"


def _suspended(folder: Path) -> verbs.Answer:
    return verbs.suspend(folder, "enough", "asked")


def test_a_person_suspends_and_resumes(bench: Lent) -> None:
    bench.start()
    assert verbs.suspend(bench.folder, "a quiet month", "asked")[0] == 0
    assert verbs.suspend(bench.folder, "a quiet month", "asked")[0] == 0
    assert (reap(bench)["state"], bench.acts(), bench.running()) == ("suspended", ["suspend"], [])
    code, told = verbs.resume(bench.folder, "ada")
    assert (code, told["state"], told["did"]) == (0, "open", ["resumed"])
    assert len(bench.running()) == 1
    assert bench.read("idle.json")["resumed"]["by"] == "ada"
    assert verbs.resume(bench.folder, "ada")[0] == 0
    assert bench.acts() == ["suspend", "resume"]


def test_nobody_resumes_what_is_over(bench: Lent) -> None:
    bench.lease(ttl=600.0)
    reap(bench)
    code, told = verbs.resume(bench.folder)
    assert (code, "lent for 10m" in told["reason"]) == (5, True)
    assert bench.read("suspended.json") is not None


def test_while_the_store_is_away_it_goes_on_until_grace_is_over(bench: Lent, tmp_path: Path) -> None:
    sleeper = bench.start()
    reap(bench)
    verbs.suspend(bench.folder, "once, so that the store is known", "asked")
    verbs.resume(bench.folder)
    sleeper = bench.running()[0]
    bench.store.rename(tmp_path / "unmounted")
    bench.lease(ttl=600.0)
    answer = reap(bench, 1)
    assert ("store" in told_of(answer), "failed" in told_of(answer)) == (True, True)
    assert (state(sleeper), bench.read("suspended.json"), bench.read("reaping.json")) == ("S", None, None)
    bench.lease(grace=60.0)
    answer = reap(bench, 1)
    noted = bench.read("suspended.json")
    assert (noted["whole"], answer["did"], bench.running()) == (False, ["suspended"], [])
    assert "NOT everything" in json.dumps(answer["events"])
    bench.lease(every=0.001)
    (tmp_path / "unmounted").rename(bench.store)
    assert reap(bench)["did"] == ["suspended"]
    after = bench.read("suspended.json")
    assert (after["whole"], after["at"], after["saved"] is not None) == (True, noted["at"], True)
    assert bench.restored(tmp_path / "back") == picture(bench.workspace)


def test_a_cluster_whose_processes_do_not_end_works_on_and_is_tried_again(bench: Lent) -> None:
    writer = bench.start(WRITES)
    bench.lease(ttl=600.0)
    (bench.folder / "acts-fail").touch()
    answer = reap(bench, 1)
    assert ("could not be ended" in answer["failed"], bench.read("suspended.json")["whole"]) == (True, False)
    assert writer.stdout is not None
    writer.stdout.readline()
    (bench.folder / "acts-fail").unlink()
    assert reap(bench)["did"] == ["suspended"]
    assert (gone(writer), bench.read("suspended.json")["whole"]) == (True, True)


def broken_lease(bench: Lent) -> None:
    (bench.folder / "lease.json").write_text("{")


def lease_of_a_newer_program(bench: Lent) -> None:
    bench.lease(unheard_of=1)


def zone_that_is_none(bench: Lent) -> None:
    bench.lease(hours={"span": "07:00-08:00", "days": ["mon"], "timezone": "Mars/Olympus"})


def no_lease(bench: Lent) -> None:
    (bench.folder / "lease.json").unlink()


def no_instance(bench: Lent) -> None:
    (bench.folder / "instance.json").unlink()


def broken_extensions(bench: Lent) -> None:
    bench.write("extensions.json", {"instance": "i-1", "extensions": [{"seconds": "many"}]})


def another_tag(bench: Lent) -> None:
    bench.lease(tag="STACKYARD_CLUSTER=other/bench")


def another_stack(bench: Lent) -> None:
    bench.write("evacuation.json", {**bench.read("evacuation.json"), "stack_id": "other"})


def another_workspace(bench: Lent) -> None:
    elsewhere = bench.folder.parent / "elsewhere"
    elsewhere.mkdir()
    bench.write("evacuation.json", {**bench.read("evacuation.json"), "workspace": str(elsewhere)})


DOUBTS = (
    broken_lease, lease_of_a_newer_program, zone_that_is_none, no_lease, no_instance, broken_extensions, another_tag,
    another_stack, another_workspace,
)  # fmt: skip


@pytest.mark.parametrize("doubt", DOUBTS)
def test_what_cannot_be_understood_or_is_not_ours_is_never_ended_and_ops_hear_of_it(bench: Lent, doubt: Any) -> None:
    sleeper = bench.start()
    bench.lease(ttl=600.0)
    doubt(bench)
    answer = reap(bench, 1)
    assert ("folder" in told_of(answer), bench.acts(), sleeper.poll()) == (True, [], None)


def test_of_two_reapers_the_second_says_busy_and_goes_on_with_the_others(bench: Lent, tmp_path: Path) -> None:
    from stackyard.leasing.folder import Folder

    other = lent(tmp_path, "other")
    with Folder(bench.folder).locked():
        assert verbs.reap([bench.folder])[0] == 4
        code, told = verbs.reap([bench.folder, other.folder])
    assert (code, [each["outcome"] for each in told["clusters"]]) == (0, ["busy", "ok"])


def test_two_reapers_at_once_suspend_once(bench: Lent) -> None:
    bench.start()
    bench.lease(ttl=600.0)
    command = [sys.executable, "-m", "stackyard.leasing", "reap", str(bench.folder), "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    codes = sorted(each.wait() for each in both)
    for each in both:
        assert each.stdout is not None
        each.stdout.close()
    assert codes in ([0, 4], [0, 0])
    assert (bench.acts(), bench.running()) == (["suspend"], [])


def test_a_clock_that_is_set_ahead_ends_nothing(bench: Lent) -> None:
    sleeper = bench.start()
    reap(bench)
    kept = bench.read("clock.json")
    for look in ("anchor", "last"):  # as if the wall clock had been a month earlier a moment ago
        kept[look]["wall"] = (dt.datetime.now(dt.UTC) - dt.timedelta(days=30)).isoformat()
    bench.write("clock.json", kept)
    bench.lease(ttl=600.0)
    answer = reap(bench)
    assert ("clock" in told_of(answer), "set ahead by 720 h" in answer["because"]) == (True, True)
    assert (sleeper.poll(), bench.acts()) == (None, [])


def test_a_person_may_resume_whatever_the_clock_was_set_to(bench: Lent) -> None:
    verbs.suspend(bench.folder, "a quiet month", "asked")
    reap(bench)
    kept = bench.read("clock.json")
    for look in ("anchor", "last"):
        kept[look]["wall"] = (dt.datetime.now(dt.UTC) + dt.timedelta(days=30)).isoformat()
    bench.write("clock.json", kept)
    assert verbs.resume(bench.folder, "ada")[0] == 0
    assert reap(bench)["state"] == "open"


def test_leases_of_a_stack_with_a_virtual_clock_live_by_it(bench: Lent, tmp_path: Path) -> None:
    opened = dt.datetime.fromisoformat(bench.read("instance.json")["opened"])
    bench.start()
    bench.lease(clock=str(tmp_path / "clock"))
    for days, did in ((1, []), (29, []), (31, ["suspended"])):
        (tmp_path / "clock").write_text((opened + dt.timedelta(days=days)).isoformat())
        assert reap(bench)["did"] == did
    (tmp_path / "clock").unlink()
    assert reap(bench)["state"] == "suspended"


def test_a_warning_is_told_in_every_look_under_one_key(bench: Lent) -> None:
    bench.lease(ttl=3600.0 + 1800.0)
    warned = [each for _ in range(2) for each in reap(bench)["events"] if ":warning:" in each["key"]]
    assert len({(each["key"], each["since"]) for each in warned}) == 1
    assert "1 more" not in warned[0]["what"] and "ends" in warned[0]["what"]
    assert len(warned) == 2


def test_an_older_openings_suspension_does_not_hold_back_a_new_one(bench: Lent) -> None:
    verbs.suspend(bench.folder, "enough", "asked")
    for name in ("instance.json", "evacuation.json"):
        bench.write(name, {**bench.read(name), "generation": 2})
    assert reap(bench)["state"] == "open"
    assert bench.read("suspended.json") is None


def test_a_saver_that_saves_nothing_is_told_of(bench: Lent) -> None:
    bench.start()
    assert "late" in told_of(reap(bench))
    verbs.suspend(bench.folder, "so that it is saved", "asked")
    verbs.resume(bench.folder)
    assert "late" in told_of(reap(bench), "resolved")


def test_what_it_costs_and_how_it_is_used_is_known(bench: Lent) -> None:
    bench.start()
    bench.lease(budget={"money": 10.0, "hourly_price": 0.5}, idle=7200.0)
    reap(bench)
    code, told = verbs.status(bench.folder)
    assert (code, told["state"], told["ends_by"]) == (0, "open", "budget")
    assert told["money"]["cost"] == pytest.approx(0.5, abs=0.01)
    assert told["money"]["cpu_hours"] == pytest.approx(6.0, abs=0.1)
    assert {each["name"]: each["known"] for each in told["idle"]["signals"]} == {
        "jobs": False, "processes": True, "gpu": True
    }  # fmt: skip
    assert "Ray does not say what runs (ConnectionRefusedError)" in json.dumps(told["idle"])


def test_nothing_is_left_in_the_workspace_and_no_folder_is_made(bench: Lent) -> None:
    before = picture(bench.workspace)
    reap(bench)
    assert picture(bench.workspace) == before
    shutil.rmtree(bench.folder)
    assert verbs.reap([bench.folder])[0] == 1
    code, told = verbs.status(bench.folder)
    assert (code, told["ok"]) == (5, False) and "there is no leased cluster bench" in told["reason"]
    assert not bench.folder.exists()
    assert os.listdir(bench.folder.parent) == []


@pytest.mark.parametrize(
    "arguments", [["status"], ["reap"], ["suspend", "--because", "enough"], ["resume"]], ids=lambda a: a[0]
)
def test_every_verb_prints_one_object(bench: Lent, arguments: list[str]) -> None:
    bench.start(SLEEPS)
    code, told = bench.command(arguments[0], *arguments[1:])
    assert (code, told["verb"], told["ok"]) == (0, arguments[0], True)


def test_a_full_disk_takes_the_savers_reserve_and_holds_up_no_end(bench: Lent, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, reserve = folder_of.write_whole, bench.folder / "saver" / "reserve"
    verbs.suspend(bench.folder, "so that there is a reserve", "asked")
    verbs.resume(bench.folder)
    assert reserve.exists()

    def full(path: Path, data: bytes) -> None:
        if reserve.exists() or path.name in ("clock.json", "idle.json", "seen.json"):
            raise OSError(28, "No space left on device")
        whole(path, data)

    monkeypatch.setattr(folder_of, "write_whole", full)
    bench.lease(ttl=600.0)
    answer = reap(bench, 1)
    assert (answer["did"], bench.running()) == (["suspended"], [])
    assert "folder" not in told_of(reap(bench, 1), "resolved")
