"""A past is lived through as it was: each row once, in its hour, its truth when it was known, nothing from later."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stackyard.cli import replay as verb
from stackyard.cli.failures import Failure
from stackyard.replay import rows
from stackyard.replay.diary import Diary
from stackyard.replay.driver import Replay
from stackyard.replay.sending import CONNECTIONS
from stackyard.replay.yard import ReplayError
from town import A_DAY, START, Controller, Service, Town, ended

ONE = dt.timedelta(days=1)


def replay(town: Town, service: Service, **more: float) -> Replay:
    diary = Diary(town.state / "replay")
    return Replay(town.project, town.spec.project_folder, town.yard(service.port), diary, **more)  # type: ignore[arg-type]


def live(each: Replay, days: int) -> list[int]:
    return [entry.requests for entry in each.days(START + days * ONE)]


def test_each_row_is_asked_once_in_its_hour_and_its_truth_follows_a_day_later(town: Town, service: Service) -> None:
    assert live(replay(town, service), 3) == [A_DAY] * 3
    ids = [request_id for request_id, _ in service.asked]
    assert len(set(ids)) == len(ids) == 3 * A_DAY
    asked = dict(service.asked)
    days = [rows.read(town.project, town.spec.project_folder, START + n * ONE) for n in range(3)]
    for day in days:
        for request in day.requests:
            assert asked[request.request_id] == rows.midnight(day.day) + request.step * rows.STEP
    truths = {request.request_id: request.label for day in days for request in day.requests}
    assert {request_id for request_id, _, _ in service.labels} == days[0].ids | days[1].ids
    for request_id, label, received in service.labels:
        assert label == truths[request_id]
        assert received - asked[request_id] == ONE
    assert town.clock.now() == rows.midnight(START + 3 * ONE)


def test_a_request_is_answered_by_what_the_row_says_and_by_nothing_that_is_known_after(town: Town) -> None:
    for request in rows.read(town.project, town.spec.project_folder, START).requests:
        (row,) = json.loads(request.body)["instances"]
        assert set(row) == {"at", "x", "kind"}
        assert re.fullmatch(r"[A-Za-z0-9._-]{8,64}", request.request_id)


def test_nothing_looks_ahead_other_values_of_later_days_change_no_request(town: Town) -> None:
    folder = town.spec.project_folder
    before = [rows.read(town.project, folder, START + n * ONE).requests for n in range(2)]
    source = folder / "rows.py"
    later = f"    if day.date().isoformat() >= '{START + ONE}':\n        random = np.random.default_rng(7)\n"
    source.write_text(source.read_text().replace("    count = 48\n", f"    count = 48\n{later}"))
    after = [rows.read(town.project, folder, START + n * ONE).requests for n in range(2)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_the_source_is_asked_for_no_day_before_its_time(town: Town, service: Service) -> None:
    seen = town.folder / ".stackyard" / "asked"
    known = len(seen.read_text().splitlines())
    days = iter(replay(town, service).days(START + 3 * ONE))
    for number, _ in enumerate(days):
        ends = [line.split()[1] for line in seen.read_text().splitlines()[known:]]
        assert max(ends) == (START + (number + 1) * ONE).isoformat()


@pytest.mark.parametrize("share", [0.1, 0.5], ids=["tenth", "half"])
def test_a_sample_is_the_same_rows_each_time_and_a_part_of_the_larger_one(town: Town, share: float) -> None:
    def ids(sample: float) -> frozenset[str]:
        days = [rows.read(town.project, town.spec.project_folder, START + n * ONE, sample) for n in range(20)]
        return frozenset().union(*(day.ids for day in days))

    assert ids(share) == ids(share)
    assert ids(share) < ids(min(1.0, 2 * share))
    assert 0.6 * share < len(ids(share)) / (20 * A_DAY) < 1.4 * share


def test_time_stands_still_while_the_loop_is_at_work(town: Town, service: Service, controller: Controller) -> None:
    controller.work()
    said: list[str] = []
    with pytest.raises(ReplayError, match=r"not settled after .*: run 2 is training"):
        town.yard(service.port).settle(town.clock.now(), said.append, 0.5)
    controller.busy.clear()
    assert live(replay(town, service), 1) == [A_DAY]


def test_the_loop_lives_by_whole_days_whatever_had_arrived_when_it_looked(
    town: Town, service: Service, controller: Controller
) -> None:
    live(replay(town, service), 2)
    assert controller.lived == [rows.midnight(START + n * ONE) for n in range(3)]


def test_time_stands_still_until_the_controller_has_seen_it(town: Town, service: Service) -> None:
    with pytest.raises(ReplayError, match="has not looked yet"):
        town.yard(service.port).settle(town.clock.now() + ONE, lambda _: None, 0.5)


def test_a_day_is_over_only_when_every_replica_serves_what_was_decided(town: Town, service: Service) -> None:
    service.behind = 1
    with pytest.raises(ReplayError, match="1 replicas do not serve release 1 yet"):
        town.yard(service.port).settle(town.clock.now(), lambda _: None, 0.5)
    service.behind, service.challenger = 0, "loading"
    with pytest.raises(ReplayError, match="1 replicas are loading the challenger"):
        town.yard(service.port).settle(town.clock.now(), lambda _: None, 0.5)
    service.challenger = "fused"
    town.yard(service.port).settle(town.clock.now(), lambda _: None, 10)


def test_a_failed_request_is_counted_for_good_and_asked_again(town: Town, service: Service) -> None:
    service.fail[5] = 1
    each = replay(town, service)
    assert live(each, 1) == [A_DAY]
    (failure,) = each.diary.failures()
    assert failure["why"].startswith("500")
    assert failure["request_id"] in town.rows(START)


def test_an_answer_that_never_reached_the_log_is_asked_again(town: Town, service: Service) -> None:
    service.forget = {3, 11}
    assert live(replay(town, service), 1) == [A_DAY]
    assert len(town.rows(START)) == A_DAY
    assert len(service.asked) == A_DAY + 2


KILLS = {"at-the-first": 1, "in-a-day": 20, "on-the-next-day": A_DAY + 7}


@pytest.mark.slow  # a process of its own, killed: what a person's Ctrl-C or a power cut leaves behind
@pytest.mark.parametrize("number", KILLS.values(), ids=KILLS)
def test_a_replay_that_is_killed_goes_on_and_nothing_counts_twice(town: Town, service: Service, number: int) -> None:
    killed = town.command("--until", str(START + 2 * ONE))
    service.victim = (number, killed)
    assert ended(killed)[0] == -9
    service.victim = None
    each = replay(town, service)
    over = [entry.day for entry in each.diary.entries()]
    assert len(over) == (number > A_DAY)
    live(each, 2)
    assert [entry.requests for entry in each.diary.entries()] == [A_DAY] * 2
    assert each.diary.failures() == []
    for n in range(2):
        day = rows.read(town.project, town.spec.project_folder, START + n * ONE)
        assert set(town.rows(day.day)) == day.ids
    assert len(service.asked) - 2 * A_DAY <= CONNECTIONS, "only what was in progress may be asked again"
    times = [at for _, at in service.asked]
    assert times == sorted(times), "the clock went back"


def test_a_replay_is_begun_and_continued_with_one_sample(town: Town, service: Service) -> None:
    assert len(live(replay(town, service, sample=0.5), 1)) == 1
    with pytest.raises(ReplayError, match="begun with"):
        live(replay(town, service, sample=0.25), 2)


@pytest.fixture
def inside(town: Town, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in the town's checkout."""
    monkeypatch.chdir(town.folder)


def replayed(**given: Any) -> None:
    defaults: dict[str, Any] = {"until": None, "days": None, "sample": 1.0, "report": None, "as_json": True}
    verb.run("replay", **{**defaults, **given})


@pytest.mark.usefixtures("inside")
def test_the_last_line_is_one_object_and_the_page_needs_no_network(capsys: pytest.CaptureFixture[str]) -> None:
    replayed(days=3)
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["requests"] == 3 * A_DAY
    assert {"retrains", "promotions", "rollbacks", "failed_requests"} <= line.keys()
    assert all(0.7 < line[f"{name}_auc_mean"] < 1 for name in ("loop", "frozen", "oracle"))
    page = Path(line["report"]).read_text()
    assert page.count("<svg") == 5
    assert not re.search(r"<script|<link|@import|(src|href)=\"(?!#|data:)", page)
    outside = set(re.findall(r"https?://[^\"'\s<>)]+", page))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.mark.usefixtures("inside")
def test_a_replay_that_is_over_is_told_again_and_lives_through_nothing_twice(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        replayed(until=str(START + ONE))
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == second
    assert len(service.asked) == A_DAY


@pytest.mark.usefixtures("inside")
def test_a_stack_in_real_time_is_not_replayed(town: Town) -> None:
    card = town.state / "stack.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"clock": None}))
    with pytest.raises(Failure, match="clock: virtual") as failed:
        replayed()
    assert failed.value.code == 2


def test_a_replay_knows_no_project(town: Town) -> None:
    for path in sorted(Path(rows.__file__).parent.glob("*.*")):
        assert "flight" not in path.read_text().lower(), path


@pytest.fixture(autouse=True)
def nothing_left(town: Town) -> Iterator[None]:
    yield
    town.journal.close()
