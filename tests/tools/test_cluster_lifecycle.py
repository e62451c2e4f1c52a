"""A real cluster on this machine, from nothing to nothing: `make test-kube`. Needs root; 5 minutes with warm caches.

It earns what no other test can say: that the pieces fit, that real Ray runs in real pods, that a kill of anything
leaves something that the same command mends, and that nothing is left behind.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import archives, folders, images, processes, profiles, roots
from machine import places

pytestmark = [pytest.mark.slow, pytest.mark.lifecycle]

COMMAND = ["sh", str(places.TOOLS / "machine.sh"), "cluster"]
FILES = (Path("/run"), Path("/var"), Path("/etc"))
PASSING = ("/run/containerd/s/", "/var/tmp/", "/var/lib/apt/", "/var/cache/", "/var/log/")  # other programs' own
TIMES: dict[str, float] = {}


def cluster(*words: str, limit: float = 1500.0) -> str:
    """Run `tools/machine.sh cluster WORDS`; its standard output."""
    began = time.monotonic()
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=limit)
    assert done.returncode == 0, done.stdout + done.stderr
    TIMES[" ".join(words) or "up"] = round(time.monotonic() - began, 1)
    return done.stdout


def kubectl(*words: str, given: Any = None) -> str:
    done = subprocess.run(
        [*COMMAND, "kubectl", *words], input=json.dumps(given) if given else None, capture_output=True, text=True
    )
    assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
    return done.stdout


def until(what: str, check: Callable[[], Any], limit: float) -> Any:
    end = time.monotonic() + limit
    while not (found := check()):
        assert time.monotonic() < end, f"{what}: not after {limit:.0f} s; {kubectl('get', 'pods,events', '-A')}"
        time.sleep(0.3)
    return found


def listing() -> dict[str, list[str]]:
    """All of this machine that a cluster could leave a trace in."""

    def lines(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()

    def below(folder: Path, only_folders: bool = False) -> list[str]:
        found = lines("find", str(folder), "-xdev", *(["-type", "d"] if only_folders else []))
        return sorted(path for path in found if not path.startswith(PASSING))

    nft = ["chroot", str(roots.target("node")), "nft", "list", "ruleset"] if roots.made("node") else ["true"]
    groups = Path("/sys/fs/cgroup").iterdir()
    home = folders.home("node")
    return {
        "mounts": sorted(line.partition(" ")[2] for line in lines("cat", "/proc/self/mountinfo")),
        "links": sorted(row["ifname"] for row in json.loads("".join(lines("ip", "-json", "link")))),
        "routes": sorted(lines("ip", "route", "show", "table", "all")),
        "rules": lines("ip", "rule"),
        "nft": lines(*nft),
        # Whoever starts a session here makes groups, too; all of ours have one of these names in them.
        "groups": sorted(
            path
            for group in groups
            for path in below(group, only_folders=True)
            if any(word in path for word in (home.name, "kubepods", "cri-containerd"))
        ),
        "settings": sorted(f"{name}={value}" for name, value in settings().items()),
        "tagged": [str(pid) for pid in processes.tagged(home.tag)],
        "files": sorted(path for folder in FILES for path in below(folder)),
        "home": below(home.folder.parent) if home.folder.parent.exists() else [],
    }


def settings() -> dict[str, str]:
    """The kernel's, those that hold still."""
    found = {}
    for folder in ("vm", "kernel", "net/ipv4/conf/all", "net/ipv4/conf/default", "net/bridge", "net/netfilter"):
        for path in Path("/proc/sys", folder).rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and not any(
                    word in str(path) for word in ("random", "ns_last_pid", "pty/nr", "count")
                ):
                    found[str(path)] = path.read_text().strip()
    found["net.ipv4.ip_forward"] = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[folders.Home]:
    """A cluster in a state folder of its own; afterwards, whatever happened, none."""
    if os.geteuid() != 0:
        pytest.fail("a node needs root: run this as root")
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        yield folders.home("node")
        subprocess.run([*COMMAND, "down"], capture_output=True)
        print(json.dumps({"seconds": TIMES}))


@pytest.fixture(scope="module")
def before(home: folders.Home) -> dict[str, list[str]]:
    """The machine as it was, taken before the first `up`."""
    return listing()


def test_a_taken_block_is_refused_and_nothing_is_changed(home: folders.Home, before: dict[str, list[str]]) -> None:
    taken = ["ip", "route", "{}", "blackhole", "10.245.200.0/24"]
    subprocess.run([word.format("add") for word in taken], check=True)
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True)
    finally:
        subprocess.run([word.format("delete") for word in taken], check=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "10.245.200.0/24 (blackhole route)" in done.stderr and "--addresses 10.213.0.0/16" in done.stderr
    assert not home.folder.exists()


@pytest.fixture(scope="module")
def running(home: folders.Home, before: dict[str, list[str]]) -> folders.Home:
    said = cluster()
    assert said == f"export KUBECONFIG={home.kubeconfig}\n"
    return home


def facts() -> dict[str, Any]:
    return json.loads(cluster("status", "--profile", "node", "--json"))


def test_a_cluster_is_there_and_found_again_at_once(running: folders.Home) -> None:
    first = processes.first_of_namespace(running.tag)
    cluster()
    assert processes.first_of_namespace(running.tag) == first
    found = facts()
    assert found["running"] and found["nodes"] == {"stackyard-node": True}
    assert None not in found["daemons"].values() and len(found["daemons"]) == 10
    assert "v1.36" in kubectl("version")


def test_nobody_gets_in_without_a_token_of_his_own(running: folders.Home) -> None:
    known = json.loads(running.kubeconfig.read_text())
    server = known["clusters"][0]["cluster"]["server"]
    address = server.removeprefix("https://").partition(":")[0]
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))
    pages = [f"{server}/api", f"{server}/version", f"{server}/readyz", f"https://{address}:10250/pods"]
    for page in pages:
        for headers in ({}, {"Authorization": "Bearer admintoken"}):
            with pytest.raises(urllib.error.HTTPError) as refused:
                opener.open(urllib.request.Request(page, headers=headers), timeout=10)
            assert refused.value.code == 401, page
    assert running.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert running.folder.stat().st_mode & 0o777 == 0o700
    secret = [file for file in running.credentials.iterdir() if file.suffix in (".key", ".csv", ".kubeconfig")]
    assert len(secret) > 10 and {file.stat().st_mode & 0o777 for file in secret} == {0o600}


@pytest.mark.parametrize(
    ("user", "question", "answer"),
    [
        pytest.param("stackyard:coredns", ["list", "services"], True, id="names-read-services"),
        pytest.param("stackyard:coredns", ["list", "secrets"], False, id="names-read-no-secrets"),
        pytest.param("stackyard:kuberay", ["create", "pods"], True, id="operator-makes-pods"),
        pytest.param("stackyard:kuberay", ["create", "clusterrolebindings"], False, id="operator-gives-no-rights"),
        pytest.param("stackyard:kubelet-client", ["list", "secrets"], False, id="kubelets-caller-reads-no-secrets"),
        pytest.param("somebody", ["list", "pods"], False, id="a-stranger-sees-nothing"),
    ],
)
def test_each_of_our_users_may_do_his_work_only(
    running: folders.Home, user: str, question: list[str], answer: bool
) -> None:
    # kubectl itself exits 1 for `no`.
    asked = [*COMMAND, "kubectl", "auth", "can-i", *question, "--all-namespaces", f"--as={user}"]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert (done.stdout.strip() == "yes") is answer, done.stderr


RESOURCES = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}}


def ray(container: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    """A Ray cluster's spec: a head and a worker in pods of the image made from requirements.lock."""

    def group(name: str) -> dict[str, Any]:
        one = {"name": name, "image": images.ray(), "resources": RESOURCES, **(container or {})}
        return {
            "rayStartParams": {"num-cpus": "1"},
            "template": {"spec": {"containers": [one], "automountServiceAccountToken": False, **pod}},
        }

    worker = {"groupName": "workers", "replicas": 1, "minReplicas": 1, "maxReplicas": 1, **group("ray-worker")}
    version = images.ray().partition("ray:")[2]
    return {"rayVersion": version, "headGroupSpec": group("ray-head"), "workerGroupSpecs": [worker]}


def custom(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def of(kind: str, name: str) -> dict[str, Any]:
    return json.loads(kubectl("get", kind, name, "-o", "json")).get("status", {})


def test_a_ray_cluster_runs_in_real_pods(running: folders.Home) -> None:
    began = time.monotonic()
    kubectl("apply", "-f", "-", given=custom("RayCluster", "rc", ray()))
    until("the RayCluster", lambda: of("raycluster", "rc").get("state") == "ready", 180)
    TIMES["raycluster"] = round(time.monotonic() - began, 1)
    pods = json.loads(kubectl("get", "pods", "-o", "json"))["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"stackyard-node"}
    head = next(pod["metadata"]["name"] for pod in pods if "head" in pod["metadata"]["name"])
    # Logs and exec go through the kubelet, with the API server's own certificate.
    assert "uid=1000" in kubectl("exec", head, "--", "id")
    assert "Ray runtime started" in kubectl("logs", head)
    kubectl("delete", "raycluster", "rc")


def test_a_ray_job_runs_to_its_end(running: folders.Home) -> None:
    began = time.monotonic()
    script = "import ray; ray.init(); print(ray.get(ray.remote(lambda: 6 * 7).remote()), ray.cluster_resources())"
    submitter = {
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "submitter", "image": images.ray(), "resources": RESOURCES}],
        }
    }
    spec = {
        "entrypoint": f'python -c "{script}"',
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 5,
        "submitterPodTemplate": submitter,
        "rayClusterSpec": ray(),
    }
    kubectl("apply", "-f", "-", given=custom("RayJob", "rj", spec))
    done = ("Complete", "Failed")
    until("the RayJob", lambda: of("rayjob", "rj").get("jobDeploymentStatus") in done, 240)
    TIMES["rayjob"] = round(time.monotonic() - began, 1)
    assert of("rayjob", "rj")["jobStatus"] == "SUCCEEDED"
    kubectl("delete", "rayjob", "rj")


APPLICATION = """
from ray import serve
@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Hello:
    async def __call__(self, request):
        return "hello " + request.query_params.get("n", "")
app = Hello.bind()
"""


def test_a_ray_service_answers_this_machine_through_its_service(running: folders.Home) -> None:
    began = time.monotonic()
    code = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "code"},
        "data": {"hello_app.py": APPLICATION},
    }
    kubectl("apply", "-f", "-", given=code)
    container = {
        "env": [{"name": "PYTHONPATH", "value": "/app"}],
        "volumeMounts": [{"name": "app", "mountPath": "/app"}],
    }
    application = {"name": "a", "import_path": "hello_app:app", "route_prefix": "/"}
    spec = {
        "serveConfigV2": json.dumps({"applications": [application | {"deployments": [{"name": "Hello"}]}]}),
        "rayClusterConfig": ray(container, volumes=[{"name": "app", "configMap": {"name": "code"}}]),
    }
    kubectl("apply", "-f", "-", given=custom("RayService", "rs", spec))

    def ready() -> bool:
        conditions = of("rayservice", "rs").get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    until("the RayService", ready, 240)
    TIMES["rayservice"] = round(time.monotonic() - began, 1)
    address = address_of("rs-serve-svc")
    assert ipaddress.ip_address(address) in ipaddress.ip_network(facts()["addresses"])
    until("the Service", lambda: says(f"{address}:8000/?n=0", "hello 0"), 30)
    assert [number for number in range(50) if not says(f"{address}:8000/?n={number}", f"hello {number}")] == []
    kubectl("delete", "rayservice", "rs")


def says(address: str, expected: str) -> bool:
    """Whether http://ADDRESS answers with `expected` somewhere in its text."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}", timeout=5) as answer:
            return expected in answer.read().decode()
    except OSError:
        return False


def address_of(service: str) -> str:
    return json.loads(kubectl("get", "service", service, "-o", "json"))["spec"]["clusterIP"]


@pytest.fixture(scope="module")
def service(running: folders.Home) -> str:
    """The address of a Service with two small pods behind it."""
    labels = {"app": "web"}
    command = ["python", "-m", "http.server", "--directory", "/etc", "8000"]
    container = {"name": "web", "image": images.BASE, "command": command}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}
    deployment = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    web = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": deployment}
    spec = {"selector": labels, "ports": [{"port": 8000}]}
    kubectl("apply", "-f", "-", given=web)
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
    kubectl("apply", "-f", "-", given=service)
    address = address_of("web")
    until("the Service", lambda: answers(address), 120)
    return address


def answers(address: str) -> bool:
    return says(f"{address}:8000/hostname", "web-")


def test_a_pod_finds_a_service_by_its_name_and_nobody_outside(service: str) -> None:
    pod = kubectl("get", "pods", "-l", "app=web", "-o", "name").split()[0]
    script = "import socket; print(socket.gethostbyname('web.default.svc.cluster.local'), socket.gethostbyname('web'))"
    assert kubectl("exec", pod, "--", "python", "-c", script).split() == [service, service]
    outside = "import socket; s = socket.socket(); s.settimeout(2); print(s.connect_ex(('192.0.2.1', 80)) != 0)"
    assert kubectl("exec", pod, "--", "python", "-c", outside).strip() == "True"


def test_a_claim_gets_a_folder_that_outlives_its_pod_and_goes_with_it(service: str, running: folders.Home) -> None:
    ask = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "work"}, "spec": ask}
    kubectl("apply", "-f", "-", given=claim)
    for step, script in (("write", "echo kept > /work/it"), ("read", "grep kept /work/it")):
        container = {
            "name": "c",
            "image": images.BASE,
            "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "work", "mountPath": "/work"}],
            "securityContext": {"runAsUser": 1000},
        }
        volume = {"name": "work", "persistentVolumeClaim": {"claimName": "work"}}
        pod = {"containers": [container], "volumes": [volume], "restartPolicy": "Never"}
        kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": step}, "spec": pod})
        phase = ["get", "pod", step, "-o", "jsonpath={.status.phase}"]
        until(step, lambda asked=phase: kubectl(*asked) in ("Succeeded", "Failed"), 90)
        assert kubectl(*phase) == "Succeeded", kubectl("logs", step)
        kubectl("delete", "pod", step)
    held = running.data / "volumes"
    assert len(list(held.iterdir())) == 1
    kubectl("delete", "pvc", "work")
    until("the folder's end", lambda: not list(held.iterdir()), 60)
    until("the volume's end", lambda: not kubectl("get", "pv", "-o", "name"), 60)


def test_an_archive_becomes_an_image(running: folders.Home, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "mine").write_text("built here")
    image = archives.Image("localhost/mine:1", (layer,), {})
    archives.write(tmp_path / "mine.tar", [image])
    cluster("load", str(tmp_path / "mine.tar"))
    container = {"name": "c", "image": "localhost/mine:1", "imagePullPolicy": "Never", "command": ["/none"]}
    spec = {"containers": [container], "restartPolicy": "Never"}
    kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine"}, "spec": spec})

    def reason() -> str:
        # It holds no program, so it cannot run; but it was found.
        states = json.loads(kubectl("get", "pod", "mine", "-o", "json"))["status"].get("containerStatuses", [{}])
        state = states[0].get("state", {})
        return (state.get("terminated") or state.get("waiting") or {}).get("message", "")

    assert "/none" in until("its end", reason, 60)
    kubectl("delete", "pod", "mine")


def test_the_other_profile_runs_beside_it_with_nodes_that_have_gpus(running: folders.Home) -> None:
    other = ["--profile", "kwok"]
    try:
        cluster(*other)
        assert facts()["running"]
        workers = ray()["workerGroupSpecs"][0]["template"]["spec"]
        workers["containers"][0]["resources"] = {"limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "8"}}
        workers["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
        spec = ray()
        spec["workerGroupSpecs"][0].update(replicas=2, maxReplicas=2, template={"spec": workers})
        given = json.dumps(custom("RayCluster", "gpu", spec))
        asked = [*COMMAND, *other, "kubectl"]
        subprocess.run([*asked, "apply", "-f", "-"], input=given, text=True, check=True, capture_output=True)

        def ready() -> bool:
            state = [*asked, "get", "raycluster", "gpu", "-o", "jsonpath={.status.state}"]
            return subprocess.run(state, capture_output=True, text=True).stdout == "ready"

        until("the RayCluster on fake GPUs", ready, 60)
        where = [*asked, "get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"]
        nodes = subprocess.run(where, capture_output=True, text=True).stdout.split()
        assert {"gpu-0", "gpu-1"} < set(nodes) and len(nodes) == 3
    finally:
        cluster("down", *other)
    assert not processes.tagged(folders.home("kwok").tag)


def daemons_of(home: folders.Home) -> dict[str, int]:
    inner = processes.by_inner_number(home.tag)
    return {file.name: inner[int(file.read_text())] for file in home.pids.iterdir()}


def kill_daemons(home: folders.Home) -> None:
    for pid in daemons_of(home).values():
        os.kill(pid, signal.SIGKILL)


def kill_first(home: folders.Home) -> None:
    first = processes.first_of_namespace(home.tag)
    assert first
    os.kill(first, signal.SIGKILL)


def kill_everything(home: folders.Home) -> None:
    assert processes.end(processes.tagged(home.tag))


def cut_the_link(home: folders.Home) -> None:
    subprocess.run(["ip", "link", "delete", home.name], check=True)


@pytest.mark.parametrize("harm", [kill_daemons, cut_the_link, kill_first, kill_everything])
def test_the_same_command_mends_it(service: str, running: folders.Home, harm: Callable[[folders.Home], None]) -> None:
    harm(running)
    began = time.monotonic()
    cluster()
    found = facts()
    assert found["running"] and None not in found["daemons"].values()
    # What was in the cluster is there again, without anybody's doing.
    until("the service", lambda: answers(service), 240)
    TIMES[f"mended after {harm.__name__}"] = round(time.monotonic() - began, 1)


def test_an_up_that_is_killed_in_the_middle_is_finished_by_the_next(running: folders.Home) -> None:
    for seconds in (0.5, 1.0, 2.0, 4.0):
        kill_everything(running)
        process = subprocess.Popen(COMMAND, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        process.wait()
    cluster()
    assert facts()["running"]


def test_nothing_is_left(running: folders.Home, before: dict[str, list[str]]) -> None:
    assert profiles.record(running)
    cluster("down")
    differences: dict[str, list[str]] = {}

    def same() -> bool:
        after = listing()
        differences.clear()
        differences.update(
            {what: sorted({*after[what]} ^ {*was}) for what, was in before.items() if after[what] != was}
        )
        return not differences

    # Other programs come and go on this machine; what is ours would stay.
    end = time.monotonic() + 30
    while not same() and time.monotonic() < end:
        time.sleep(1.0)
    assert differences == {}
    cluster("down")


def test_a_new_one_is_there_within_half_a_minute_and_ends_as_well(home: folders.Home) -> None:
    TIMES.pop("up", None)
    cluster()
    TIMES["warm up"] = TIMES.pop("up")
    cluster("down")
    assert not home.folder.exists()
