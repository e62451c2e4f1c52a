"""The whole plan of a local stack: kept as a golden file, its rules asserted in code as well.

`STACKYARD_WRITE_GOLDEN=1 pytest tests/infra/test_local_plan.py` writes the file anew; never where CI is set.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks, rpc

from stackyard.control.settings import ControllerSettings
from stackyard.evacuation.settings import SaverSettings
from stackyard.monitoring.settings import EndpointSettings
from stackyard.serving.haproxy import render
from stackyard.serving.settings import Ports
from stackyard.serving.settings import Settings as ServingSettings
from stackyard.spec import SpecError, StackSpec, load
from stackyard_infra import program
from stackyard_infra.components import code
from stackyard_infra.manifests import leases, processes
from stackyard_infra.manifests.places import Places
from stackyard_infra.moment import now
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.workspaces import Workspace

GOLDEN = Path(__file__).with_name("golden") / "local.json"
PROJECT = """\
name: {name}
task: {{type: binary, label: late}}
data:
  source: {{python: "rows:rows"{secrets}}}
  time: at
  window: {{start: 2024-01-01, end: 2024-02-01}}
  columns:
    at: {{type: datetime, known: before}}
    distance: {{type: float, known: before}}
    late: {{type: boolean, known: after}}
features: {{function: "rows:features"}}
serving: {{replicas: {{min: 2, max: {most}}}}}
"""
Registered = dict[str, dict[str, Any]]


class Recorder(mocks.MockMonitor):
    """An engine that remembers what the program registers, and whom each resource waits for."""

    def __init__(self, answers: mocks.Mocks) -> None:
        super().__init__(answers)
        self.registered: Registered = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 (the engine's name)
        if request.type != "pulumi:pulumi:Stack":
            self.registered[request.name] = {
                "type": request.type,
                "parent": request.parent.rpartition("::")[2],
                "waits_for": sorted({urn.rpartition("::")[2] for urn in request.dependencies}),
                "inputs": rpc.deserialize_properties(request.object),
            }
        return super().RegisterResource(request)


class Provider(mocks.Mocks):
    """Answers as the provider would on a machine with nothing on it."""

    def call(self, args: mocks.MockCallArgs) -> Any:
        raise AssertionError("the program asks the engine nothing")

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        outputs: dict[str, Any] = {}
        if args.typ.endswith(":Ports"):
            outputs = {"ports": {name: 20_001 + n for n, name in enumerate(args.inputs["names"])}, "taken": []}
            outputs["addresses"] = {name: f"127.0.0.{n + 2}" for n, name in enumerate(args.inputs["clusters"])}
        if args.typ.endswith(":LeasedCluster"):
            outputs = {"instance": "INSTANCE", "healthy": True}
        if args.typ.endswith(":Keys"):
            folder = f"{args.inputs['site']['state']}/keys"
            outputs = {
                "public_keys": ["PUBLIC"],
                "signing_key": f"{folder}/release-key",
                "token_path": f"{folder}/ray-token",
                "operator_keys": ["OPERATOR"],
                "operator_key": f"{folder}/operator.key",
                "labels_token_path": f"{folder}/labels-token",
            }
        return f"{args.name}-id", {**args.inputs, **outputs}


@pytest.fixture
def stack(tmp_path: Path) -> Callable[..., StackSpec]:
    """`stack(most=4, secrets=(), store="", loop="")`: the spec of a checkout that holds nothing else.

    `store` are more lines of the stack file, `loop` more lines of project.yaml.
    """

    def made(
        *, most: int = 4, secrets: tuple[str, ...] = (), store: str = "", name: str = "toy", loop: str = ""
    ) -> StackSpec:
        checkout = tmp_path / "checkout"
        shutil.rmtree(checkout, ignore_errors=True)
        for folder in ("stacks", "examples/toy"):
            (checkout / folder).mkdir(parents=True)
        (checkout / "Pulumi.yaml").write_text("name: stackyard\n")
        wanted = f", secrets: [{', '.join(secrets)}]" if secrets else ""
        (checkout / "examples/toy/project.yaml").write_text(PROJECT.format(name=name, most=most, secrets=wanted) + loop)
        (checkout / "examples/toy/rows.py").write_text("def rows(start, end): ...\ndef features(frame): ...\n")
        (checkout / "stacks/local.yaml").write_text(f"project: ../examples/toy\ntarget: local\n{store}")
        return load(checkout / "stacks/local.yaml")

    return made


@pytest.fixture(autouse=True)
def own_loop() -> Iterator[None]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    pulumi.runtime.set_all_config({})
    asyncio.set_event_loop(None)
    loop.close()


def plan(spec: StackSpec, at: dt.datetime | None = None) -> Registered:
    """Everything that the program registers for `spec`, by name."""
    answers = Provider()
    recorder = Recorder(answers)
    mocks.set_mocks(answers, project="stackyard", stack="local", monitor=recorder)

    @pulumi.runtime.test
    def run() -> None:
        program.build(spec, at)

    run()
    return recorder.registered


def neutral(registered: Registered, spec: StackSpec) -> str:
    """The plan as text, without what differs from machine to machine and from commit to commit."""
    places = Places.of(spec)
    text = json.dumps(registered, indent=1, sort_keys=True)
    for found, name in ((places.checkout, "CHECKOUT"), (places.runtime, "RUNTIME"), (places.stack_id, "STACK-ID")):
        text = text.replace(str(found), name)
    text = re.sub(r'"version": "[0-9a-f]{12}"', '"version": "CODE"', text)
    return re.sub(r'"version": "(\S+) [\d.]+( [0-9a-f]{12})?"', r'"version": "\1"', text) + "\n"


def settings(registered: Registered, name: str) -> dict[str, Any]:
    return json.loads(registered[name]["inputs"]["files"]["settings.json"])


def test_the_plan_of_a_local_stack_is_the_one_we_know(stack: Callable[..., StackSpec]):
    spec = stack()
    text = neutral(plan(spec), spec)
    if os.environ.get("STACKYARD_WRITE_GOLDEN"):
        assert not os.environ.get("CI"), "a golden file is made by a person who reads the difference, never by CI"
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "the plan changed; if that is meant: STACKYARD_WRITE_GOLDEN=1, and read the diff"


def test_everything_is_made_after_the_site_and_so_deleted_before_it(stack: Callable[..., StackSpec]):
    registered = plan(stack())
    for name, resource in registered.items():
        if resource["type"].startswith("stackyard:index:") and name != "site":
            seen, todo = set(), {name}
            while todo:
                one = todo.pop()
                seen.add(one)
                todo |= set(registered[one]["waits_for"]) - seen
            assert "site" in seen, f"{name} may outlive the site"


def test_every_process_waits_for_the_supervisor_and_for_no_other_process(stack: Callable[..., StackSpec]):
    registered = plan(stack())
    running = {name for name, resource in registered.items() if resource["type"].endswith(":Process")}
    assert running == {"mlflow", "controller", "serving", "haproxy", "metrics"}
    for name in running:
        assert "supervisor" in registered[name]["waits_for"]
        assert not running & set(registered[name]["waits_for"])


def test_a_change_of_replica_counts_changes_one_process(stack: Callable[..., StackSpec]):
    before, after = plan(stack(most=4)), plan(stack(most=6))
    assert [name for name in before if before[name] != after[name]] == ["serving"]
    assert before["serving"]["inputs"]["reload"] == "hup"
    same = {"files"} ^ before["serving"]["inputs"].keys()
    assert all(before["serving"]["inputs"][key] == after["serving"]["inputs"][key] for key in same)


def test_everything_listens_and_is_asked_on_loopback(stack: Callable[..., StackSpec]):
    text = json.dumps(plan(stack()))
    assert "0.0.0.0" not in text
    assert "--host" in text
    assert set(re.findall(r"http://([\w.]+)", text)) == {"127.0.0.1"}


def test_ports_are_used_once(stack: Callable[..., StackSpec]):
    registered = plan(stack())
    names = registered["ports"]["inputs"]["names"]
    assert len(names) == len(set(names))
    serving = settings(registered, "serving")
    used = [*serving["ports"].values(), *serving["replica_ports"], settings(registered, "metrics")["port"]]
    used += [settings(registered, "haproxy")["port"], settings(registered, "haproxy")["metrics_port"]]
    assert len(used) == len(set(used)) == len(names) - 1, "each port but MLflow's is in one settings file"


def test_there_are_ports_for_twice_the_most_replicas_that_the_spec_allows(stack: Callable[..., StackSpec]):
    stack(most=processes.REPLICA_PORTS // 2)
    with pytest.raises(SpecError, match=r"replicas\.max"):
        stack(most=processes.REPLICA_PORTS // 2 + 1)


def test_every_process_can_read_the_settings_it_is_given(stack: Callable[..., StackSpec], tmp_path: Path):
    registered = plan(stack())
    ControllerSettings.model_validate(settings(registered, "controller"))
    EndpointSettings.model_validate(settings(registered, "metrics"))
    serving = settings(registered, "serving")
    assert set(ServingSettings.model_validate(serving).model_dump()) >= set(serving), "a name that nobody reads"
    assert set(serving["ports"]) <= set(Ports.model_fields)
    proxy = settings(registered, "haproxy")
    assert "frontend" in render(socket=Path(proxy.pop("socket")), **proxy)


def test_nothing_of_pulumi_is_in_an_environment_and_nothing_phones_home(stack: Callable[..., StackSpec]):
    registered = plan(stack())
    environment = registered["supervisor"]["inputs"]["environment"]
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["DO_NOT_TRACK"] == "1"
    assert "PULUMI" not in json.dumps(registered)


def test_the_controller_knows_nothing_of_serving(stack: Callable[..., StackSpec]):
    assert "serving" not in settings(plan(stack()), "controller")["project"]


LOOP = {
    "monitoring": "monitoring: {drop: 0.1}\n",
    "retraining": "retraining: {mode: propose}\n",
    "gates": "gates: {margin: 0.02}\n",
    "rollout": "rollout: {stages: []}\n",
    "alerts": "alerts: {daily: 3}\n",
}


@pytest.mark.parametrize("section", LOOP)
def test_a_change_of_the_closed_loop_restarts_the_controller_alone(stack: Callable[..., StackSpec], section: str):
    before, after = plan(stack()), plan(stack(loop=LOOP[section]))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"controller", "card"}  # the card is a file and no process
    assert settings(after, "controller")["project"][section] != settings(before, "controller")["project"][section]


def test_a_virtual_clock_begins_where_the_first_models_data_ends_and_everyone_reads_it(
    stack: Callable[..., StackSpec],
):
    registered = plan(stack(store="clock: virtual\n"))
    clock = registered["clock"]["inputs"]
    assert (clock["start"], clock["keep"]) == ("2024-02-01T00:00:00+00:00", True)
    card = json.loads(registered["card"]["inputs"]["content"])
    told = [settings(registered, name)["clock"] for name in ("controller", "serving")]
    assert [*told, card["clock"]] == [clock["path"]] * 3
    assert all("clock" in registered[name]["waits_for"] for name in ("controller", "serving"))


def test_where_trouble_is_told_is_a_secret_of_the_controller_too(stack: Callable[..., StackSpec]):
    loop = "alerts: {owners: {model: [MODEL_OWNER]}, webhooks: {deploys: HOOK}}\n"
    with pytest.raises(pulumi.RunError, match=r"alerts: HOOK: is not set[^\0]*alerts: MODEL_OWNER: is not set"):
        plan(stack(loop=loop))
    values = {"stackyard:MODEL_OWNER": "c4n4ry-1", "stackyard:HOOK": "c4n4ry-2"}
    pulumi.runtime.set_all_config(values, list(values))
    registered = plan(stack(loop=loop))
    assert [name for name, resource in registered.items() if "c4n4ry" in json.dumps(resource)] == ["controller"]
    told = settings(registered, "controller")
    assert told["alert_secrets"] == ["HOOK", "MODEL_OWNER"]
    assert told["secrets_folder"] is not None


def test_a_secret_goes_to_the_controller_alone_and_only_as_a_secret(stack: Callable[..., StackSpec]):
    pulumi.runtime.set_all_config({"stackyard:TOKEN": "c4n4ry"}, ["stackyard:TOKEN"])
    registered = plan(stack(secrets=("TOKEN",)))
    assert [name for name, resource in registered.items() if "c4n4ry" in json.dumps(resource)] == ["controller"]
    secret = registered["controller"]["inputs"].pop("secrets")
    assert secret["value"] == {"TOKEN": "c4n4ry"}
    assert rpc._special_secret_sig in secret.values()
    assert "c4n4ry" not in json.dumps(registered["controller"])


def test_a_secret_that_is_not_set_is_one_line_with_its_command(stack: Callable[..., StackSpec]):
    with pytest.raises(pulumi.RunError, match=r"local.yaml.*TOKEN: is not set; pulumi config set --secret TOKEN"):
        plan(stack(secrets=("TOKEN",)))


def test_the_store_may_lie_elsewhere_and_need_not_be_kept(stack: Callable[..., StackSpec], tmp_path: Path):
    registered = plan(stack(store="store: {path: ../../elsewhere, keep: false}\n"))
    assert registered["artifacts"]["inputs"]["path"] == str(tmp_path / "elsewhere")
    assert not any(registered[name]["inputs"]["keep"] for name in ("artifacts", "database", "registry-folder", "keys"))


LENT = "clusters: {lab: {owner: ada, workers: 2, notebook: false, lease: {end: 2024-05-31}}}\n"
BEFORE = dt.datetime(2024, 5, 31, 23, tzinfo=dt.UTC)


def test_a_leased_cluster_adds_itself_and_its_gate_and_changes_nothing_that_runs(stack: Callable[..., StackSpec]):
    before, spec = plan(stack()), stack(store=LENT)
    after = plan(spec, at=BEFORE)
    assert after.keys() - before.keys() == {"lease-lab", "cluster-lab", "gate-lab"}
    assert {name for name in before if before[name] != after[name]} == {"ports", "card", "ledger"}
    assert before["ports"]["inputs"]["names"] == after["ports"]["inputs"]["names"][: len(processes.PORTS)]
    gate = after["gate-lab"]
    assert set(gate["inputs"]) == {"site", "cluster", "instance", "store"}
    assert gate["inputs"]["instance"] == "INSTANCE", "bound by property, so deleted first"
    assert "cluster-lab" in gate["waits_for"]
    assert {"site", "supervisor", "artifacts", "ports"} <= set(after["cluster-lab"]["waits_for"])


def test_what_may_write_in_a_workspace_carries_the_clusters_tag_and_its_own_token(stack: Callable[..., StackSpec]):
    spec = stack(store=LENT)
    places = Places.of(spec)
    running = plan(spec, at=BEFORE)["cluster-lab"]["inputs"]["processes"]
    names = [each["name"] for each in running]
    assert names == ["lease-lab-saver", "lease-lab-head", "lease-lab-worker-0", "lease-lab-worker-1"]
    saver, *writers = running
    for each in writers:
        assert each["environment"]["STACKYARD_CLUSTER"] == f"{places.stack_id}/lab"
        assert each["environment"]["RAY_AUTH_TOKEN_PATH"] == str(places.state / "leases/lab/ray-token")
    assert "STACKYARD_CLUSTER" not in saver["environment"], "who saves is not frozen"
    ports = [word for each in running for word in each["command"] if re.fullmatch(r"--[a-z-]*port=\d+", word)]
    numbers = [word.partition("=")[2] for word in ports]
    assert len(numbers) == len(set(numbers)) == 9 + 2 * len(leases.NODE_PORTS)


def test_what_runs_and_listens_is_expected_of_the_stack_and_of_each_leased_cluster(stack: Callable[..., StackSpec]):
    registered = plan(stack(store=LENT.replace("lease:", "budget: {hourly_price: 3}, lease:")), at=BEFORE)
    whole = registered["ledger"]["inputs"]["ledger"]
    running = {name for name, resource in registered.items() if resource["type"].endswith(":Process")}
    assert set(whole["processes"]) == {"supervisor", *running}
    assert {each["name"] for each in whole["ports"]} == set(registered["ports"]["inputs"]["names"])
    assert {each["name"] for each in whole["addresses"]} == {"serving", "training", "lease-lab"}
    assert "ledger" in registered["supervisor"]["waits_for"], "known before anything runs"
    kept = {each["path"] for each in whole["kept"]}
    assert {registered[name]["inputs"]["path"] for name in ("artifacts", "database", "registry-folder")} <= kept
    part = registered["cluster-lab"]["inputs"]["ledger"]
    assert all(each["name"].startswith("lease-lab-") for each in part["ports"])
    assert len(part["ports"]) == len(processes.RAY_PORTS) + 2 * len(leases.NODE_PORTS)
    assert [each["name"] for each in part["addresses"]] == ["lease-lab"]
    assert part["hourly_price"] == 3
    assert part["prefixes"] == ["workspaces/lab/", "receipts/lab/", "discards/lab/"]
    nothing = plan(stack(store="store: {keep: false}\n"))["ledger"]["inputs"]["ledger"]
    assert [each["what"] for each in nothing["kept"]] == ["logs"]


def test_the_saver_can_read_the_settings_that_it_is_given(stack: Callable[..., StackSpec], tmp_path: Path):
    spec = stack(store=LENT.replace("lease:", "save: {every: 1m, encrypt: true, exclude: ['*.tmp']}, lease:"))
    inputs = plan(spec, at=BEFORE)["cluster-lab"]["inputs"]
    here = Workspace(Site.of(inputs), "lab")
    here.adopt()
    here.describe(inputs["evacuation"], [], inputs["lease"])
    told = SaverSettings.model_validate_json(here.settings.read_text())
    assert (told.cluster, told.generation, told.every, told.exclude) == ("lab", 0, 60.0, ("*.tmp",))
    assert told.workspace == here.path
    for key in (told.receipt_key, told.encrypt_key):
        assert key is not None and (len(key.read_bytes()), key.stat().st_mode & 0o777) == (32, 0o600)


def test_a_lease_that_is_over_registers_nothing(stack: Callable[..., StackSpec]):
    with pytest.raises(SpecError, match=r"local.yaml:3: clusters.lab.lease.end: .*is in the past"):
        plan(stack(store=LENT), at=BEFORE + dt.timedelta(hours=1))


def test_leases_end_by_the_stacks_own_clock(stack: Callable[..., StackSpec]):
    spec = stack(store="clock: virtual\n")
    assert now(spec).isoformat() == "2024-02-01T00:00:00+00:00", "where it will begin"
    clock = Path(Places.of(spec).clock)
    clock.parent.mkdir(parents=True)
    clock.write_text("2024-03-05T06:00:00+00:00\n")
    assert now(spec).isoformat() == "2024-03-05T06:00:00+00:00"
    assert abs(now(stack()) - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


def test_two_stacks_and_two_checkouts_have_ids_of_their_own(stack: Callable[..., StackSpec], tmp_path: Path):
    spec = stack()
    other = StackSpec(**{**vars(spec), "name": "dev"})
    moved = StackSpec(**{**vars(spec), "checkout": tmp_path / "other"})
    ids = {Places.of(each).stack_id for each in (spec, other, moved)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"[0-9a-f]{8}", each) for each in ids)


def test_a_process_restarts_after_an_upgrade_of_its_own_code_and_not_of_others(tmp_path: Path):
    for area in ("spec", "serving", "control"):
        (tmp_path / area).mkdir()
        (tmp_path / area / "a.py").write_text(area)
    before = {area: code.digest(area, platform=tmp_path) for area in ("serving", "control")}
    (tmp_path / "serving/a.py").write_text("new")
    assert code.digest("control", platform=tmp_path) == before["control"]
    assert code.digest("serving", platform=tmp_path) != before["serving"]
    (tmp_path / "spec/a.py").write_text("new")
    assert code.digest("control", platform=tmp_path) != before["control"]
