"""The daemons of a cluster and their command lines: functions of where things lie and which addresses they take."""

from __future__ import annotations

from typing import NamedTuple

from cluster.addresses import Addresses

NODE = "stackyard-node"
"""The node's name."""

USERS = {
    "admin": ("system:masters",),
    "system:kube-controller-manager": (),
    "system:kube-scheduler": (),
    "system:kube-proxy": (),
    f"system:node:{NODE}": ("system:nodes",),
    "stackyard:coredns": (),
    "stackyard:kuberay": (),
    "stackyard:kwok": (),
    "stackyard:volumes": (),
}
"""Who may speak to the API server, and their groups. Each has a random token of its own; what it may do, RBAC says."""


class Places(NamedTuple):
    """Folders as the daemons see them."""

    settings: str
    credentials: str
    data: str
    programs: dict[str, str]
    """Module name -> folder of its programs."""

    def kubeconfig(self, user: str) -> str:
        """A user's."""
        return f"{self.credentials}/{file_of(user)}"


class Ports(NamedTuple):
    """Where the control plane listens; `host` is the API server's address, the rest is on loopback."""

    host: str
    api: int = 6443
    etcd: int = 2379
    etcd_peers: int = 2380
    controllers: int = 10257
    scheduler: int = 10259


class Daemon(NamedTuple):
    """A name, under which its log is found, and its command line."""

    name: str
    command: list[str]


def file_of(user: str) -> str:
    """The file name of a user's kubeconfig."""
    return user.replace(":", "-") + ".kubeconfig"


def control_plane(where: Places, ports: Ports, services: str) -> list[Daemon]:
    """etcd, API server, controllers, scheduler: TLS everywhere, RBAC, nobody anonymous."""
    kubernetes = where.programs["kubernetes"]
    return [
        Daemon("etcd", _etcd(where, ports)),
        Daemon("kube-apiserver", _api_server(where, ports, services)),
        Daemon(
            "kube-controller-manager",
            [
                f"{kubernetes}/kube-controller-manager",
                *_as(where, "system:kube-controller-manager"),
                "--bind-address=127.0.0.1",
                f"--secure-port={ports.controllers}",
                f"--root-ca-file={where.credentials}/ca.crt",
                f"--service-account-private-key-file={where.credentials}/accounts.key",
                "--use-service-account-credentials",
                "--leader-elect=false",
            ],
        ),
        Daemon(
            "kube-scheduler",
            [
                f"{kubernetes}/kube-scheduler",
                *_as(where, "system:kube-scheduler"),
                "--bind-address=127.0.0.1",
                f"--secure-port={ports.scheduler}",
                "--leader-elect=false",
            ],
        ),
    ]


def node(where: Places) -> list[Daemon]:
    """What makes a node of a machine: containers, kubelet, Services, names, volumes."""
    kubernetes = where.programs["kubernetes"]
    return [
        Daemon("containerd", ["/usr/bin/containerd", "--config", f"{where.settings}/containerd.toml"]),
        Daemon(
            "kubelet",
            [
                f"{kubernetes}/kubelet",
                f"--config={where.settings}/kubelet.yaml",
                f"--kubeconfig={where.kubeconfig(f'system:node:{NODE}')}",
                f"--hostname-override={NODE}",
                f"--root-dir={where.data}/kubelet",
            ],
        ),
        Daemon("kube-proxy", [f"{kubernetes}/kube-proxy", f"--config={where.settings}/kube-proxy.yaml"]),
        Daemon("coredns", [f"{where.programs['coredns']}/coredns", "-conf", f"{where.settings}/Corefile"]),
        Daemon(
            "volumes",
            [f"{where.programs['own']}/volumes", where.kubeconfig("stackyard:volumes"), f"{where.data}/volumes", NODE],
        ),
    ]


def kuberay(where: Places, host: str, port: int) -> Daemon:
    """The operator, as a daemon beside the others: a drained node does not take it along."""
    return Daemon(
        "kuberay-operator",
        [
            f"{where.programs['kuberay']}/kuberay",
            f"--kubeconfig={where.kubeconfig('stackyard:kuberay')}",
            "--enable-leader-election=false",
            "--metrics-addr=127.0.0.1:0",
            f"--health-probe-bind-address={host}:{port}",
        ],
    )


def kwok(where: Places) -> Daemon:
    """Plays the kubelets of all nodes there are."""
    files = f"{where.programs['kwok']}/files/kustomize/stage"
    stages = [
        *(f"{files}/node/{name}.yaml" for name in ("fast/node-initialize", "heartbeat/node-heartbeat")),
        *(f"{files}/pod/fast/{name}.yaml" for name in ("pod-ready", "pod-complete", "pod-delete")),
    ]
    return Daemon(
        "kwok",
        [
            f"{where.programs['kwok']}/kwok",
            f"--kubeconfig={where.kubeconfig('stackyard:kwok')}",
            "--v=WARN",
            "--manage-all-nodes=true",
            "--node-ip=127.0.0.1",
            "--server-address=127.0.0.1:0",
            *(f"--config={stage}" for stage in stages),
        ],
    )


def addresses_of(ports: Ports, addresses: Addresses | None) -> list[str]:
    """The API server's, for its certificate: its own, loopback, and the first Service's."""
    services = addresses.services if addresses else KWOK_SERVICES
    first = services.partition("/")[0].rpartition(".")[0] + ".1"
    return list(dict.fromkeys([ports.host, "127.0.0.1", first]))


KWOK_SERVICES = "10.96.0.0/16"
"""Services of the profile without a network: numbers only, no packet ever goes there."""


def _etcd(where: Places, ports: Ports) -> list[str]:
    keys, here = where.credentials, "https://127.0.0.1"
    return [
        f"{where.programs['etcd']}/etcd",
        f"--data-dir={where.data}/etcd",
        f"--listen-client-urls={here}:{ports.etcd}",
        f"--advertise-client-urls={here}:{ports.etcd}",
        f"--listen-peer-urls={here}:{ports.etcd_peers}",
        f"--initial-advertise-peer-urls={here}:{ports.etcd_peers}",
        f"--initial-cluster=default={here}:{ports.etcd_peers}",
        *_tls(keys, "etcd", ""),
        *_tls(keys, "etcd", "peer-"),
        # What it has written survives a kill of any process; only a power cut could lose it.
        "--unsafe-no-fsync",
    ]


def _tls(keys: str, name: str, prefix: str) -> list[str]:
    return [
        f"--{prefix}cert-file={keys}/{name}.crt",
        f"--{prefix}key-file={keys}/{name}.key",
        f"--{prefix}trusted-ca-file={keys}/{name}-ca.crt",
        f"--{prefix}client-cert-auth",
    ]


def _api_server(where: Places, ports: Ports, services: str) -> list[str]:
    keys = where.credentials
    return [
        f"{where.programs['kubernetes']}/kube-apiserver",
        f"--etcd-servers=https://127.0.0.1:{ports.etcd}",
        f"--etcd-cafile={keys}/etcd-ca.crt",
        f"--etcd-certfile={keys}/etcd-client.crt",
        f"--etcd-keyfile={keys}/etcd-client.key",
        f"--bind-address={ports.host}",
        f"--advertise-address={ports.host}",
        f"--secure-port={ports.api}",
        f"--tls-cert-file={keys}/apiserver.crt",
        f"--tls-private-key-file={keys}/apiserver.key",
        f"--token-auth-file={keys}/tokens.csv",
        f"--client-ca-file={keys}/ca.crt",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-account-key-file={keys}/accounts.pub",
        f"--service-account-signing-key-file={keys}/accounts.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={services}",
        f"--kubelet-certificate-authority={keys}/ca.crt",
        f"--kubelet-client-certificate={keys}/kubelet-client.crt",
        f"--kubelet-client-key={keys}/kubelet-client.key",
        # By name the node is not known to any resolver.
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
    ]


def _as(where: Places, user: str) -> list[str]:
    file = where.kubeconfig(user)
    return [f"--kubeconfig={file}", f"--authentication-kubeconfig={file}", f"--authorization-kubeconfig={file}"]
