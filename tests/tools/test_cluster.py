"""What `make cluster` decides and writes, without root and without starting anything."""

from __future__ import annotations

import csv
import ipaddress
import json
import os
import re
import shlex
import tarfile
from pathlib import Path

import pytest

from cluster import (
    addresses,
    archives,
    binaries,
    cgroups,
    commands,
    daemons,
    folders,
    images,
    kwok,
    lock,
    node,
    processes,
    profiles,
    rendering,
    roots,
    status,
    steps,
)
from cluster.addresses import Taken
from machine import places, say

WHERE = daemons.Places("/etc/it", "/keys", "/data", {name: f"/bin/{name}" for name in lock.read().modules})
PORTS = daemons.Ports("10.245.255.254")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def a_range(text: str, what: str = "route by tun0") -> Taken:
    return Taken(ipaddress.ip_network(text), what)


# Addresses.


@pytest.mark.parametrize("block", [addresses.DEFAULT, *addresses._OTHERS, "10.64.0.0/12", "192.168.16.0/20"])
def test_a_block_is_cut_into_ranges_that_do_not_meet(block: str) -> None:
    found = addresses.cut(block)
    parts = [ipaddress.ip_network(text) for text in (found.pods, found.services)]
    parts.append(ipaddress.ip_network(f"{found.node}/{found.link}", strict=False))
    assert not any(one.overlaps(other) for one in parts for other in parts if one is not other)
    assert all(one.subnet_of(ipaddress.ip_network(block)) for one in parts)  # type: ignore[arg-type]
    assert ipaddress.ip_address(found.machine) in parts[2] and found.machine != found.node


@pytest.mark.parametrize(
    ("block", "words"),
    [
        pytest.param("nonsense", "is not an IPv4 block", id="no-block"),
        pytest.param("10.1.2.3/16", "is not an IPv4 block", id="bits-beyond-the-prefix"),
        pytest.param("fd00::/16", "is not an IPv4 block", id="version-6"),
        pytest.param("10.0.0.0/8", "must be between", id="too-wide"),
        pytest.param("10.0.0.0/24", "must be between", id="too-narrow"),
        pytest.param("8.8.0.0/16", "belongs to somebody", id="public"),
    ],
)
def test_a_block_that_cannot_be_used_is_refused_in_one_line(
    block: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        addresses.choose(block, [])
    said = capsys.readouterr().err
    assert stopped.value.code == say.UNABLE and words in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("taken", "hit"),
    [
        pytest.param("10.0.0.0/8", True, id="a-company-behind-a-vpn"),
        pytest.param("10.245.3.0/24", True, id="a-part-of-it"),
        pytest.param("10.245.9.9/32", True, id="one-address-of-it"),
        pytest.param("10.244.0.0/16", False, id="its-neighbour"),
        pytest.param("0.0.0.0/0", False, id="the-default-route"),
        pytest.param("0.0.0.0/1", False, id="half-of-a-vpns-default"),
        pytest.param("fd00::/8", False, id="version-6"),
    ],
)
def test_a_range_of_this_machine_is_in_the_way_or_not(taken: str, hit: bool) -> None:
    assert bool(addresses.conflicts(addresses.DEFAULT, [a_range(taken)])) is hit


def test_a_taken_block_is_refused_with_what_takes_it_and_a_free_one(capsys: pytest.CaptureFixture[str]) -> None:
    taken = [a_range("10.0.0.0/8"), a_range("172.16.0.0/12", "interface docker0")]
    with pytest.raises(SystemExit) as stopped:
        addresses.choose(None, taken)
    said = capsys.readouterr().err
    assert stopped.value.code == say.UNABLE
    assert "10.0.0.0/8 (route by tun0)" in said and "ARGS='--addresses 192.168.192.0/20'" in said
    assert "docker0" not in said
    assert addresses.free(taken) == "192.168.192.0/20"


def test_when_every_block_of_ours_is_taken_the_remedy_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    taken = [a_range(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")]
    with pytest.raises(SystemExit):
        addresses.choose(None, taken)
    assert "--addresses BLOCK" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(
            addresses.routes(
                [
                    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
                    {"dst": "10.8.0.0/24", "dev": "tun0"},
                    {"dst": "10.9.0.1", "dev": "wg0", "table": "51820"},
                    {"type": "blackhole", "dst": "10.7.0.0/16"},
                    {"type": "local", "dst": "127.0.0.0/8", "dev": "lo", "table": "local"},
                    {"type": "multicast", "dst": "ff00::/8", "dev": "eth0"},
                ]
            ),
            ["10.8.0.0/24: route by tun0", "10.9.0.1/32: route by wg0 in table 51820", "10.7.0.0/16: blackhole route"],
            id="routes",
        ),
        pytest.param(
            addresses.interfaces(
                [
                    {"ifname": "docker0", "addr_info": [{"local": "172.17.0.1", "prefixlen": 16}]},
                    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
                    {"ifname": "down0", "addr_info": []},
                ]
            ),
            ["172.17.0.0/16: interface docker0"],
            id="interfaces",
        ),
        pytest.param(
            addresses.policies("src 192.168.1.0/24 dst 10.30.0.0/16 \n\tdir out priority 375423\n"),
            ["10.30.0.0/16: IPsec policy"],
            id="ipsec",
        ),
        pytest.param(
            addresses.peers("wg0\tkey=\t10.66.0.0/16 fd00::/64\nwg0\tother=\t(none)\n"),
            ["10.66.0.0/16: WireGuard peer of wg0", "fd00::/64: WireGuard peer of wg0"],
            id="wireguard",
        ),
        pytest.param(
            addresses.named("nameserver 10.1.1.1\nnameserver fe80::1%eth0\n", {"HTTPS_PROXY": "http://10.2.2.2:80"}),
            ["10.1.1.1/32: name server", "fe80::1/128: name server", "10.2.2.2/32: proxy of HTTPS_PROXY"],
            id="resolvers-and-proxies",
        ),
    ],
)
def test_what_the_machine_says_of_its_addresses_is_read(found: list[Taken], expected: list[str]) -> None:
    assert [f"{one.network}: {one.what}" for one in found] == expected


# Refusals.


def test_a_node_without_root_is_refused_with_what_else_will_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as stopped:
        commands.main([])
    said = capsys.readouterr().err
    assert stopped.value.code == say.UNABLE and said.count("\n") == 1
    assert all(word in said for word in ("root", "kind", "k3s", "kwok", "kubeconfig"))


def test_a_machine_without_apt_is_refused_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        roots.make(tmp_path)
    said = capsys.readouterr().err
    assert stopped.value.code == say.UNABLE and "no apt" in said and "k3s" in said


def test_too_little_room_is_said_before_building(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(binaries, "_SPACE", 1 << 60)
    with pytest.raises(SystemExit) as stopped:
        binaries.build(list(lock.read().modules.values()), tmp_path)
    assert stopped.value.code == say.UNABLE and "GB are free" in capsys.readouterr().err


def test_other_addresses_for_a_running_cluster_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = folders.home("node")
    home.folder.mkdir(parents=True)
    profiles.write_record(home, {"block": "10.91.0.0/16", "made_of": "x", "allowed": []})
    monkeypatch.setattr(processes, "first_of_namespace", lambda tag: 1)
    with pytest.raises(SystemExit) as stopped:
        node.up(home, "10.169.0.0/16")
    assert stopped.value.code == say.UNABLE and "cluster-down` first" in capsys.readouterr().err


def test_a_step_that_fails_or_takes_too_long_shows_the_end_of_its_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = "for i in $(seq 100); do echo line $i; done; exit 3"
    with pytest.raises(SystemExit) as stopped:
        steps.run("trying", ["sh", "-c", script], tmp_path / "log", 60)
    said = capsys.readouterr().err
    assert stopped.value.code == steps.FAILED
    assert "line 100" in said and "line 80\n" not in said and str(tmp_path / "log") in said and "status 3" in said
    with pytest.raises(SystemExit):
        steps.run("hanging", ["sleep", "60"], tmp_path / "log", 0.1)
    assert "not done after 0 s, given up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("alive", "words"),
    [pytest.param(True, "not there after", id="too-slow"), pytest.param(False, "the cluster ended", id="dead")],
)
def test_a_wait_ends_with_the_reason(
    alive: bool, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("why\n")
    with pytest.raises(SystemExit):
        steps.until("it", lambda: False, 0.0, tmp_path / "log", lambda: alive)
    said = capsys.readouterr().err
    assert words in said and "why" in said


# The lock.


def test_the_lock_and_the_modules_name_the_same_versions() -> None:
    modules = lock.read().modules
    assert {folder.name for folder in (folders.HERE / "go").iterdir()} == set(modules)
    for module in modules.values():
        text = (module.folder / "go.mod").read_text()
        if module.version != "-":
            pattern = rf"^(?:require )?\s*{re.escape(module.module)} {re.escape(module.version)}(?: // indirect)?$"
            assert re.search(pattern, text, re.MULTILINE), module.name
            assert (module.folder / "go.sum").exists()
        assert "stackyard.invalid/" in text


def test_the_lock_and_go_mod_replace_kubernetes_own_modules_alike() -> None:
    module = lock.read().modules["kubernetes"]
    replaced = re.findall(r"=> k8s\.io/\S+ (\S+)", (module.folder / "go.mod").read_text())
    assert len(replaced) > 20 and set(replaced) == {module.version.replace("v1.", "v0.")}


def test_a_line_of_no_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="rpm is not one of"):
        lock.read("rpm node something")


def test_a_programs_place_follows_its_sources_and_its_build_names_only_pinned_things(tmp_path: Path) -> None:
    modules = lock.read().modules
    assert len({binaries.target(module) for module in modules.values()}) == len(modules)
    other = modules["etcd"]._replace(version="v9.9.9")
    assert binaries.target(other) != binaries.target(modules["etcd"])
    command = binaries.command("go", modules["kubernetes"], tmp_path)
    assert "-mod=readonly" in command and "k8s.io/kubernetes/cmd/kubelet" in command
    assert f"gitVersion={modules['kubernetes'].version}" in " ".join(command)
    assert binaries.command("go", modules["etcd"], tmp_path)[-2:] == [f"{tmp_path}/etcd", modules["etcd"].module]


# What is rendered.


def everything() -> list[daemons.Daemon]:
    found = addresses.cut(addresses.DEFAULT)
    plane = daemons.control_plane(WHERE, PORTS, found.services)
    return [*plane, *daemons.node(WHERE), daemons.kuberay(WHERE, found.node, 8082), daemons.kwok(WHERE)]


def test_the_api_server_knows_nobody_without_a_token_and_speaks_tls_to_everyone() -> None:
    [server] = [one.command for one in everything() if one.name == "kube-apiserver"]
    assert {"--anonymous-auth=false", "--authorization-mode=Node,RBAC"} <= set(server)
    text = " ".join(server)
    for flag in ("tls-cert-file", "etcd-certfile", "kubelet-client-certificate", "kubelet-certificate-authority"):
        assert f"--{flag}=/keys/" in text
    [store] = [one.command for one in everything() if one.name == "etcd"]
    assert "--client-cert-auth" in store and "--peer-client-cert-auth" in store
    assert not [word for one in everything() for word in one.command if "http://" in word or "insecure" in word]


@pytest.mark.parametrize("v1", [True, False], ids=["cgroup-v1", "cgroup-v2"])
def test_the_kubelet_asks_who_calls_and_whether_he_may(v1: bool) -> None:
    texts = rendering.node_files(WHERE, addresses.cut(addresses.DEFAULT), v1)
    kubelet = json.loads(texts["kubelet.yaml"])
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert kubelet["authorization"] == {"mode": "Webhook"}
    assert kubelet.get("failCgroupV1") is (False if v1 else None)
    assert images.PAUSE in texts["containerd.toml"]
    assert "forward" not in texts["Corefile"]


def test_every_token_is_random_and_every_user_has_one_of_his_own() -> None:
    secrets = {user: f"secret-{number}" for number, user in enumerate(daemons.USERS)}
    rows = list(csv.reader(rendering.tokens(secrets).splitlines()))
    assert [row[1] for row in rows] == list(daemons.USERS)
    assert {row[1]: row[3] for row in rows if row[3]} == {
        "admin": "system:masters",
        f"system:node:{daemons.NODE}": "system:nodes",
    }
    assert len({row[0] for row in rows}) == len(rows)
    known = json.loads(rendering.kubeconfig("https://there:6443", "PEM", "admin", "token"))
    assert "insecure-skip-tls-verify" not in known["clusters"][0]["cluster"]


def test_no_user_of_ours_but_the_administrator_may_do_everything() -> None:
    bindings = [item for item in json.loads(rendering.roles())["items"] if item["kind"] == "ClusterRoleBinding"]
    bindings.append(json.loads(rendering.kwok_roles()))
    assert "cluster-admin" not in {item["roleRef"]["name"] for item in bindings}
    bound = {subject["name"] for item in bindings for subject in item["subjects"]}
    ours = {user for user in daemons.USERS if user.startswith("stackyard:")}
    assert bound == ours | {"stackyard:kubelet-client"}


def test_a_daemons_file_replaces_the_shell_that_reads_it() -> None:
    text = rendering.daemon(daemons.Daemon("it", ["/bin/it", "--name=a b", "it's"]), {"HOME": "/a b"})
    last = text.splitlines()[-1]
    assert shlex.split(last) == ["exec", "/bin/it", "--name=a b", "it's"]
    assert text.startswith("export HOME='/a b'\n")


def test_the_certificate_of_the_api_server_covers_the_address_that_pods_know() -> None:
    found = addresses.cut(addresses.DEFAULT)
    assert daemons.addresses_of(PORTS, found) == [PORTS.host, "127.0.0.1", "10.245.128.1"]
    assert daemons.addresses_of(daemons.Ports("127.0.0.1"), None) == ["127.0.0.1", "10.96.0.1"]


def test_fake_nodes_have_what_pods_ask_for_and_keep_others_off_the_gpus() -> None:
    nodes = {item["metadata"]["name"]: item for item in json.loads(kwok.nodes())["items"]}
    assert list(nodes) == kwok.names()
    gpus = {name for name, item in nodes.items() if "nvidia.com/gpu" in item["status"]["allocatable"]}
    assert gpus and gpus == {name for name, item in nodes.items() if item["spec"].get("taints")}


# Control groups.

V1 = """24 23 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw
25 24 0:21 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
26 24 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
27 24 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
28 24 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
29 24 0:22 /elsewhere /mnt/memory rw - cgroup cgroup rw,memory
"""


@pytest.mark.parametrize(
    ("membership", "mounts", "unified", "folders_of_it"),
    [
        pytest.param(
            "4:memory:/user/me\n3:cpu,cpuacct:/\n2:pids:/\n1:name=systemd:/s\n0::/\n",
            V1,
            False,
            ["memory/user/me/it", "cpu,cpuacct/it", "systemd/s/it", "unified/it"],
            id="version-1-below-our-own",
        ),
        pytest.param("0::/user.slice/session-3.scope\n", "", True, ["it"], id="version-2-below-the-root"),
    ],
)
def test_control_groups_are_made_where_their_version_wants_them(
    membership: str, mounts: str, unified: bool, folders_of_it: list[str]
) -> None:
    found = cgroups.plan("it", membership, mounts, unified)
    assert [str(folder.relative_to(cgroups.MOUNT)) for folder in found.folders] == folders_of_it
    assert found.version == (2 if unified else 1)


def test_with_version_2_controllers_are_allowed_for_the_time_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "MOUNT", tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids hugetlb\n")
    control = tmp_path / "cgroup.subtree_control"
    control.write_text("memory pids\n")
    groups = cgroups.plan("it", "0::/\n", "", True)
    allowed = cgroups.make(groups)
    assert allowed == ["cpu", "io"] and groups.folders[0].is_dir()
    (groups.folders[0] / "kubepods" / "pod").mkdir(parents=True)
    assert cgroups.remove(groups, allowed) == []
    assert not groups.folders[0].exists() and control.read_text() == "-io"


# Images and roots.


def test_images_share_a_layer_and_a_deleted_file_is_marked(tmp_path: Path) -> None:
    low, high = tmp_path / "low", tmp_path / "high"
    for folder in (low, high):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    made = [archives.Image("a:1", (low,), {}), archives.Image("b:1", (low, high), {"User": "1"})]
    archives.write(tmp_path / "images.tar", made)
    with tarfile.open(tmp_path / "images.tar") as archive:
        names = archive.getnames()
        inside = archive.extractfile("manifest.json")
        assert inside
        [first, second] = json.load(inside)
        assert len(names) == len(set(names)) == 5
        assert second["Layers"][0] == first["Layers"][0] and len(second["Layers"]) == 2
        described = archive.extractfile(second["Config"])
        assert described
        digests = json.load(described)["rootfs"]["diff_ids"]
    assert [f"sha256:{layer.removesuffix('.tar')}" for layer in second["Layers"]] == digests


def test_the_platforms_packages_are_taken_from_the_lock_with_their_hashes() -> None:
    text = places.LOCK.read_text()
    chosen = images.selected(text, {"ray", "numpy"})
    assert chosen.count("ray==") == 1 and "numpy==" in chosen and "pulumi" not in chosen
    assert all("--hash=sha256:" in block for block in re.split(r"^(?=\S)", chosen, flags=re.MULTILINE)[1:])
    assert re.fullmatch(r"localhost/stackyard/ray:\d+\.\d+\.\d+", images.ray())


def test_of_the_stores_of_images_the_newest_two_stay() -> None:
    for age in (3, 1, 4, 2):
        store = folders.cache() / f"images-{age}"
        (store / "containerd").mkdir(parents=True)
        os.utime(store, (1e9 - age, 1e9 - age))
    images.forget_old()
    assert sorted(store.name for store in folders.cache().iterdir()) == ["images-1", "images-2"]


@pytest.mark.parametrize(
    ("targets", "release", "expected"),
    [
        pytest.param(
            "mirror://a/|bookworm-security|main|Debian\nmirror://a/|bookworm|main|Debian\n"
            "mirror://a/|bookworm|contrib|Debian\nmirror://else/|bookworm|main|Somebody\n",
            {"VERSION_CODENAME": "bookworm"},
            roots.Mirror(
                "mirror://a/", "bookworm", ("main", "contrib"), "/usr/share/keyrings/debian-archive-keyring.gpg"
            ),
            id="debian",
        ),
        pytest.param(
            "mirror://u/|noble|main|Ubuntu\nmirror://u/|noble|universe|Ubuntu\n",
            {"VERSION_CODENAME": "noble"},
            roots.Mirror(
                "mirror://u/", "noble", ("main", "universe"), "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
            ),
            id="ubuntu",
        ),
    ],
)
def test_the_mirror_is_the_machines_own(targets: str, release: dict[str, str], expected: roots.Mirror) -> None:
    assert roots.find_mirror(targets, release) == expected


def test_a_machine_whose_apt_knows_no_mirror_of_its_release_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        roots.find_mirror("mirror://x/|sid|main|Other\n", {"VERSION_CODENAME": "bookworm"})
    assert "apt-get update" in capsys.readouterr().err


# Folders, status, down.


def test_each_profile_has_its_own_folder_name_and_tag() -> None:
    homes = [folders.home(name) for name in folders.PROFILES]
    for what in ("folder", "name", "tag", "kubeconfig"):
        assert len({getattr(home, what) for home in homes}) == len(homes)
    # The kernel's names of interfaces end at 15 bytes.
    assert all(len(home.name) <= 15 for home in homes)


def test_status_says_that_there_is_none_and_down_of_none_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        commands.main(["status"])
    assert stopped.value.code == commands.ABSENT
    assert capsys.readouterr().out.splitlines() == ["node: no cluster", "kwok: no cluster"]
    with pytest.raises(SystemExit) as stopped:
        commands.main(["down", "--profile", "kwok"])
    assert stopped.value.code == 0
    assert not folders.home("kwok").folder.exists()


@pytest.mark.parametrize("recorded", [True, False], ids=["a-cluster", "what-a-killed-down-left"])
def test_keys_and_store_stay_together_or_go_together(recorded: bool) -> None:
    home = folders.home("node")
    for folder in (home.credentials, home.data / "etcd"):
        folder.mkdir(parents=True)
        (folder / "old").touch()
    if recorded:
        profiles.write_record(home, {"block": addresses.DEFAULT})
    profiles.prepare(home, {"cni/x": "text"}, everything(), {})
    kept = [(home.credentials / "old").exists(), (home.data / "etcd" / "old").exists()]
    assert kept == [recorded, recorded]
    assert home.folder.stat().st_mode & 0o777 == 0o700
    assert (home.settings / "cni" / "x").read_text() == "text"
    assert {file.name for file in (home.settings / "daemons").iterdir()} == {one.name for one in everything()}


@pytest.mark.parametrize("running", [True, False])
def test_a_cluster_of_other_versions_goes_on_or_is_to_be_renewed(
    running: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = folders.home("node")
    home.folder.mkdir(parents=True)
    profiles.write_record(home, {"block": addresses.DEFAULT, "made_of": "something else", "kubectl": "/old/kubectl"})
    monkeypatch.setattr(processes, "first_of_namespace", lambda tag: 1 if running else None)
    monkeypatch.setattr(addresses, "of_this_machine", list)
    monkeypatch.setattr(node, "stop", lambda home: None)
    monkeypatch.setattr(node, "_start", lambda *_: pytest.fail("started"))
    if running:
        node.up(home, None)
    else:
        with pytest.raises(SystemExit):
            node.up(home, None)
    said = capsys.readouterr().err
    assert "other versions" in said and "cluster-down" in said and ("goes on" in said) is running
    assert profiles.kubectl(home) == Path("/old/kubectl")


def test_status_is_shown_with_what_is_missing() -> None:
    lines = status.shown(
        {
            "profile": "node",
            "there": True,
            "running": False,
            "kubeconfig": "/k",
            "kubectl": "/b/kubectl",
            "addresses": "10.245.0.0/16",
            "logs": "/l",
            "versions": {"etcd": "v3"},
            "memory_bytes": 1_500_000_000,
            "nodes": {"a": True, "b": False},
            "pods": 3,
            "daemons": {"etcd": 3725.0, "kubelet": None},
        }
    )
    text = "\n".join(lines)
    assert "does not answer, 1 of 2 nodes ready, 3 pods" in text and "1.5 GB" in text
    assert re.search(r"etcd +for 1 h 2 min", text) and re.search(r"kubelet +not there", text)


def test_keys_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    from cluster import credentials

    credentials.private(tmp_path / "key", "secret")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


def test_the_tools_for_a_cluster_need_the_standard_library_only() -> None:
    import sys

    names = {
        name
        for path in folders.HERE.glob("*.py")
        for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
    }
    assert names <= sys.stdlib_module_names | {"machine", "cluster"}
