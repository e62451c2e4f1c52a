"""MLflow's aliases and tags follow the Releases, and all that it shows can be made again from the store."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stackyard.registry import __main__ as command
from stackyard.registry import following, mlflow_projection
from stackyard.registry.rebuild import rebuild
from stackyard.store import bundles, layout
from stackyard.store.documents import canonical, public_text
from stackyard.store.releases import Arm, Release
from yard import Yard

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def _chain(*champions: str, challenger: str | None = None) -> list[Release]:
    chain = [
        Release(model="m", number=number, champion=champion, reason="r", created="t")
        for number, champion in enumerate(champions, start=1)
    ]
    if challenger is not None:
        arm = Arm(bundle=challenger, kind="shadow", share=1.0)
        chain[-1] = chain[-1].model_copy(update={"arms": (arm,)})
    return chain


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        pytest.param([], (None, None, None), id="nothing released"),
        pytest.param(_chain(A), (A, None, None), id="the first"),
        pytest.param(_chain(A, A, challenger=B), (A, B, None), id="a challenger"),
        pytest.param(_chain(A, A, B), (B, None, A), id="promoted"),
        pytest.param(_chain(A, B, B, challenger=C), (B, C, A), id="the next challenger"),
        pytest.param(_chain(A, B, A), (A, None, B), id="rolled back"),
    ],
)
def test_aliases_say_who_answers_who_is_tried_and_who_answered_before(
    chain: list[Release], expected: tuple[str | None, ...]
) -> None:
    assert tuple(following.aliases(chain)[name] for name in ("champion", "challenger", "previous")) == expected


def test_tags_say_what_the_gates_found_and_how_the_rollout_ended() -> None:
    ended = _chain(A, B)[1].model_copy(update={"candidate": "r", "outcome": "promoted"})
    gates = {"r": {"passed": True, "reason": "all hold"}, "s": {"passed": False, "reason": "worse"}, "t": {}}
    results = {"r": {"bundle": B}, "s": {"bundle": C}}
    assert following.tags([ended], gates, results) == {
        B: {"gate": "passed", "gate_reason": "all hold", "outcome": "promoted", "release": "2"},
        C: {"gate": "refused", "gate_reason": "worse"},
    }


class FakeMlflow:
    """As much of a tracking server as a projection asks of it."""

    def __init__(self) -> None:
        self.runs: dict[str, Any] = {}
        self.versions: list[Any] = []
        self.aliases: dict[str, str] = {}
        self.calls = 0

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name)

    def search_runs(self, _: list[str], query: str, max_results: int) -> list[Any]:
        return [run for run_id, run in self.runs.items() if f"'{run_id}'" in query][:max_results]

    def create_run(self, _: str, tags: dict[str, str], run_name: str) -> Any:
        run = SimpleNamespace(info=SimpleNamespace(run_id=run_name, status="RUNNING"), tags=tags)
        self.runs[run_name] = run
        return run

    def log_batch(self, *_: Any, **__: Any) -> None:
        pass

    def set_terminated(self, run: str, status: str) -> None:
        self.runs[run].info.status = status

    def create_registered_model(self, _: str) -> None:
        pass

    def search_model_versions(self, _: str, page_token: str | None = None) -> Any:
        class Page(list[Any]):
            token: str | None = None

        start = int(page_token or 0)
        page = Page(self.versions[start : start + 1])
        page.token = str(start + 1) if start + 1 < len(self.versions) else None
        return page

    def create_model_version(self, _: str, source: str, run_id: str, tags: dict[str, str]) -> Any:
        made = SimpleNamespace(version=str(len(self.versions) + 1), tags=dict(tags), source=source)
        self.versions.append(made)
        return made

    def set_model_version_tag(self, _: str, version: str, name: str, value: str) -> None:
        self.calls += 1
        self.versions[int(version) - 1].tags[name] = value

    def get_registered_model(self, _: str) -> Any:
        return SimpleNamespace(aliases=dict(self.aliases))

    def set_registered_model_alias(self, _: str, alias: str, version: str) -> None:
        self.calls += 1
        self.aliases[alias] = version

    def delete_registered_model_alias(self, _: str, alias: str) -> None:
        self.calls += 1
        del self.aliases[alias]


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    fake = FakeMlflow()
    monkeypatch.setattr(mlflow_projection, "_client", lambda _: fake)
    return fake


@pytest.fixture
def lived(tmp_path: Path) -> Yard:
    """Two bundles; the second was promoted, a third was refused, a fourth run failed."""
    yard = Yard(tmp_path)
    made: list[str] = []
    for number in (1, 2, 3):
        facts = {"model": yard.model, "run": number}
        made.append(bundles.publish(yard.store, {"lineage.json": canonical({"seed": number})}, facts))
        yard.run(number, status="succeeded", bundle=made[-1], reason="")
    yard.run(4, status="failed", reason="no rows")
    yard.store.create(layout.run("others-0001-abcdef01", "result.json"), canonical({"run_id": "others-0001-abcdef01"}))
    yard.bundle = lambda number: made[number - 1]  # pyright: ignore[reportAttributeAccessIssue]
    second = "parcels-0002-abcdef01"
    yard.release(1)
    yard.gate(second, passed=True)
    yard.gate("parcels-0003-abcdef01", passed=False)
    yard.release(2, candidate=second, outcome="promoted")
    return yard


def test_an_empty_mlflow_is_filled_from_the_store_and_a_second_time_changes_nothing(
    lived: Yard, mlflow: FakeMlflow
) -> None:
    trusted = [public_text(lived.key.public_key())]
    assert rebuild(lived.store, "parcels", "http://mlflow", trusted) == (4, 0)
    shown = {version.tags["bundle"]: version for version in mlflow.versions}
    assert mlflow.aliases == {
        "champion": shown[lived.bundle(2)].version,
        "previous": shown[lived.bundle(1)].version,
    }
    assert shown[lived.bundle(2)].tags["outcome"] == "promoted"
    assert shown[lived.bundle(3)].tags["gate_reason"] == "the AUC is 0.02 lower than the champion's"
    assert mlflow.runs["parcels-0004-abcdef01"].info.status == "FAILED"
    before, runs = mlflow.calls, len(mlflow.runs)
    assert rebuild(lived.store, "parcels", "http://mlflow", trusted) == (4, 0)
    assert (mlflow.calls, len(mlflow.runs), len(mlflow.versions)) == (before, runs, 3)


def test_an_alias_that_stands_for_nothing_any_more_is_taken_away(lived: Yard, mlflow: FakeMlflow) -> None:
    rebuild(lived.store, "parcels", "http://mlflow", [public_text(lived.key.public_key())])
    mlflow.aliases["challenger"] = "3"
    assert mlflow_projection.follow("http://mlflow", "parcels", {"champion": lived.bundle(1), "challenger": None}, {})
    assert (mlflow.aliases["champion"], "challenger" in mlflow.aliases) == ("1", False)


def test_a_bundle_that_mlflow_does_not_show_yet_is_no_failure(mlflow: FakeMlflow) -> None:
    assert mlflow_projection.follow("http://mlflow", "parcels", {"champion": A}, {A: {"gate": "passed"}})
    assert mlflow.aliases == {}


def test_the_command_rebuilds_from_the_controllers_settings(
    lived: Yard, mlflow: FakeMlflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / ".stackyard" / "local"
    told = {"model": "parcels", "store": str(state / "store"), "signing_key": str(state / "keys" / "release-key")}
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({**told, "mlflow": "http://mlflow"}))
    assert command.main(["rebuild", str(settings)]) == 0
    assert json.loads(capsys.readouterr().out) == {"shown": 4, "missing": 0}
    settings.write_text(json.dumps(told))
    assert command.main(["rebuild", str(settings)]) == 1
    assert "'mlflow' is not set" in capsys.readouterr().err
    assert command.main(["rebuild", str(tmp_path / "absent")]) == 1
    assert command.main(["dance"]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_process_takes_both_kinds_of_projection(
    lived: Yard, mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuild(lived.store, "parcels", "http://mlflow", [public_text(lived.key.public_key())])
    asked = following.projection("http://mlflow", "parcels", _chain(lived.bundle(3)), {}, {})
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(read=lambda: json.dumps(asked)))
    assert command.main([]) == 0
    assert mlflow.aliases == {"champion": "3"}
