"""The real JupyterLab of a leased cluster: who may in, where its kernels are, what stays of it.

Slow (a Jupyter server with kernels; in the second test a Ray head and a worker), and worth it: kernels and terminals
are started by Jupyter, not by us, and only the real ones show that they are found, frozen and ended.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from lab_client import LabClient
from stackyard.spec.leases import LeasedClusterSpec, SaveSpec
from stackyard_infra.manifests import leases
from stackyard_infra.manifests.environment import environment
from stackyard_infra.manifests.places import Places
from stackyard_infra.provider import tagged
from stackyard_infra.provider.evacuation import Evacuation
from stackyard_infra.provider.leases import EvacuationGateKind, LeasedClusterKind
from stackyard_infra.provider.ports import PortsKind
from stackyard_infra.provider.processes import SupervisorKind
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.workspaces import Workspace

pytestmark = pytest.mark.slow
WRITER = """
import pathlib, threading, time
def write():
    while True:
        with open("ticks.txt", "a") as file: file.write("tick\\n")
        time.sleep(0.01)
threading.Thread(target=write, daemon=True).start()
"""
SURROUNDINGS = """
import json, os, socket
names = ("STACKYARD_CLUSTER", "RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "STACKYARD_WORKSPACE")
print(json.dumps({name: os.environ[name] for name in names} | {"at": os.getcwd(), "pid": os.getpid()}))
"""
ON_RAY = """
import json, os, pathlib, ray
ray.init(log_to_driver=False)
@ray.remote(num_cpus=1)
def work():
    pathlib.Path(os.environ["STACKYARD_WORKSPACE"], "made.txt").write_text("by a worker")
    return os.environ["STACKYARD_CLUSTER"]
print(json.dumps({"tag": ray.get(work.remote(), timeout=120), "cpus": ray.cluster_resources()["CPU"]}))
ray.shutdown()
"""
TASK = "python task.py"
JOB = f"""
import time
from ray.job_submission import JobSubmissionClient
jobs = JobSubmissionClient(address)
job = jobs.submit_job(entrypoint={TASK!r})
while not jobs.get_job_status(job).is_terminal():
    time.sleep(0.2)
print(jobs.get_job_logs(job), jobs.get_job_info(job).message)
print(jobs.get_job_status(job).value)
"""


@dataclass
class Opened:
    """A cluster with a notebook, open."""

    site: dict[str, str]
    inputs: dict[str, Any]
    gate: dict[str, Any]
    here: Workspace
    port: int
    home: Path

    @property
    def token(self) -> str:
        return (self.here.folder / "notebook-token").read_text()

    @property
    def client(self) -> LabClient:
        return LabClient(f"http://127.0.0.1:{self.port}", self.token)

    def destroy(self) -> None:
        EvacuationGateKind().delete(self.gate)
        LeasedClusterKind().delete(self.inputs | {"instance": self.gate["instance"], "healthy": True})


@pytest.fixture
def opened(site: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest) -> Opened:
    """With Ray where the test is marked so; in any case with a home of its own."""
    lent = LeasedClusterSpec(owner="ada", notebook=True, save=SaveSpec.model_validate({"every": "1h"}))
    store, home, clusters = tmp_path / "store", tmp_path / "home", {"lab": lent}
    store.mkdir()
    home.mkdir()
    places = Places("test", site["stack_id"], tmp_path, Path(site["state"]), Path(site["runtime"]), store)
    chosen = PortsKind().create({"site": site, "names": leases.ports(clusters), "clusters": leases.addresses(clusters)})
    ports, addresses = chosen["ports"], chosen["addresses"]
    shared = environment(places, str(tmp_path / "the-stacks-own-token"))
    SupervisorKind().create({"site": site, "environment": shared | {"HOME": str(home)}})
    processes = leases.processes("lab", lent, places, ports, addresses, saver="1")
    if request.node.get_closest_marker("ray") is None:
        processes = [each for each in processes if each["name"].endswith(("notebook", "saver"))]
    inputs = {
        "site": site,
        "cluster": "lab",
        "store": str(store),
        "evacuation": leases.evacuation("lab", lent, places, ports, addresses),
        "processes": processes,
        "lease": {"cluster": "lab", "every": 3600.0, "owner": "ada"},
    }
    instance = LeasedClusterKind().create(inputs)["instance"]
    gate = {"site": site, "cluster": "lab", "instance": instance, "store": str(store)}
    EvacuationGateKind().create(gate)
    here = Workspace(Site.of({"site": site}), "lab")
    return Opened(site, inputs, gate, here, ports["lease-lab-notebook-http"], home)


def test_a_notebook_is_behind_its_token_is_frozen_with_its_kernels_and_goes_without_a_trace(opened: Opened):
    address, here, client = f"http://127.0.0.1:{opened.port}", opened.here, opened.client

    # Who may in, and from where.
    stranger = httpx.Client(base_url=address, trust_env=False)
    assert {stranger.get(path).status_code for path in ("/api/contents", "/api/kernels", "/api/terminals")} == {403}
    assert stranger.get("/lab").headers["location"].startswith("/login")
    assert stranger.post("/api/kernels", headers={"Authorization": "token 0"}).status_code == 403
    assert client.rest.get("/api/contents").json()["content"] == []
    listening = [
        connection.laddr
        for process in here.writers()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {(each.ip, each.port) for each in listening} == {("127.0.0.1", opened.port)}, "kernels listen on no port"

    # Nobody outside is asked for news or updates.
    assert client.rest.get("/lab/api/update").json() == {"notification": None}
    assert client.rest.get("/lab/api/news").json() == {"news": []}

    # A kernel has the cluster's surroundings, works where its notebook lies, and finds the modules beside it.
    (here.path / "prices.py").write_text("TAX = 0.19\n")
    kernel = client.kernel()
    told = json.loads(client.run(kernel, SURROUNDINGS))
    manifest = opened.inputs["processes"][-1]["environment"]
    assert told.pop("at") == str(here.path)
    assert tagged.tags_of(told.pop("pid"))[tagged.PROCESS_TAG] == "lease-lab-notebook"
    assert told == {name: manifest[name] for name in told}
    assert client.run(kernel, "import prices; print(prices.TAX)") == "0.19\n"
    shown = client.type(client.terminal(), "python -c 'import prices, sys; print(prices.TAX, sys.executable)'", "0.19 ")
    assert "ModuleNotFoundError" not in shown

    # The token is in no command line, environment, log or state but in its own private file (and Jupyter's own).
    family = here.writers()
    assert len(family) >= 3, "server, kernel, shell"
    for process in family:
        seen = Path(f"/proc/{process.pid}/environ").read_bytes() + Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert opened.token.encode() not in seen
    holders = [path for path in Path(opened.site["state"]).rglob("*") if path.is_file() and _holds(path, opened.token)]
    assert holders == [here.folder / "notebook-token"]
    for path in Path(opened.site["runtime"]).rglob("*"):
        if path.is_file() and _holds(path, opened.token):
            assert path.parent.name.startswith("n")
            assert path.parent.stat().st_mode & 0o077 == 0, "Jupyter's own, in a folder that goes with the cluster"

    # An evacuation freezes who writes; a refusal lets it go on; what people typed is saved with the workspace.
    client.run(kernel, WRITER)
    evacuation = Evacuation(here.prepare())
    assert evacuation.ask("freeze").yes
    before = (here.path / "ticks.txt").stat().st_size
    time.sleep(0.2)
    assert (here.path / "ticks.txt").stat().st_size == before
    assert evacuation.ask("thaw").yes
    assert client.run(kernel, "print('goes on')") == "goes on\n"

    opened.destroy()
    assert not (Path(opened.site["state"]) / "leases").exists()
    assert not [path for path in Path(opened.site["runtime"]).iterdir() if path.name.startswith("n")]
    assert not [process for process in family if process.is_running()]
    assert list(opened.home.iterdir()) == [], "nothing is in anybody's home"


@pytest.mark.ray
def test_a_kernel_works_on_the_ray_of_its_cluster_and_its_jobs_are_saved(opened: Opened, tmp_path: Path):
    client, evacuation = opened.client, Evacuation(opened.here.settings)
    kernel = client.kernel()
    said = client.run(kernel, ON_RAY, seconds=240)
    told = next((json.loads(line) for line in said.splitlines() if line.startswith("{")), said)  # Ray talks, too
    assert told == {"tag": f"{opened.site['stack_id']}/lab", "cpus": 1.0}
    assert (opened.here.path / "made.txt").read_text() == "by a worker"
    (opened.here.path / "helper.py").write_text("WORD = 'from a job'\n")
    (opened.here.path / "task.py").write_text("import helper\nprint(helper.WORD)\n")
    dashboard = opened.inputs["evacuation"]["extras"]["ray-jobs"]["jobs"]
    said = client.run(kernel, f"address = {dashboard!r}\n{JOB}", seconds=240)
    assert "SUCCEEDED" in said.splitlines(), said

    assert evacuation.ask("save").yes
    assert evacuation.ask("restore", "latest", str(tmp_path / "back"), f"--extras={tmp_path / 'beside'}").yes
    jobs = json.loads((tmp_path / "beside/ray-jobs").read_text())
    assert [each["entrypoint"] for each in jobs if each["status"] == "SUCCEEDED" and each["submission_id"]] == [TASK]
    logs = [path.read_text() for path in (tmp_path / "beside/ray-logs").rglob("job-driver-*.log")]
    assert any("from a job" in text for text in logs)
    assert "pydantic==" in (tmp_path / "beside/environment").read_text()
    assert list((tmp_path / "beside/notebook").rglob("history.sqlite")), "what was typed"

    opened.destroy()
    left = tagged.find(opened.site["stack_id"])
    assert {tagged.tags_of(process.pid).get(tagged.PROCESS_TAG) for process in left} == {"supervisor"}
    assert list(opened.home.iterdir()) == []


def _holds(path: Path, text: str) -> bool:
    return os.access(path, os.R_OK) and text.encode() in path.read_bytes()
