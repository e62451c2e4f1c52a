"""A cluster's settings as text: functions of where things lie and which addresses they take."""

from __future__ import annotations

import base64
import json
import shlex
from typing import Any

from cluster import daemons, images
from cluster.addresses import Addresses

DNS_READY_PORT, PROXY_HEALTH_PORT, OPERATOR_PORT = 8181, 10256, 8082
"""On the node's address; only this machine and pods reach it."""


def kubeconfig(server: str, authority: str, user: str, token: str) -> str:
    """A kubeconfig (JSON is YAML) with the certificate of the authority and one user's token in it."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "stackyard",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority.encode()).decode(),
                },
            }
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "stackyard", "context": {"cluster": "stackyard", "user": user}}],
        "current-context": "stackyard",
    }
    return json.dumps(document, indent=1) + "\n"


def tokens(secrets: dict[str, str]) -> str:
    """The API server's list of tokens: token, user, id, groups."""
    rows = [f'{secrets[user]},{user},{user},"{",".join(groups)}"' for user, groups in daemons.USERS.items()]
    return "\n".join(rows) + "\n"


def daemon(one: daemons.Daemon, environment: dict[str, str]) -> str:
    """A file for the supervisor."""
    settings = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    return f"{settings}exec {shlex.join(one.command)}\n"


def node_files(where: daemons.Places, addresses: Addresses, cgroup_v1: bool) -> dict[str, str]:
    """What the node's daemons read: file name -> text."""
    return {
        "containerd.toml": _containerd(where),
        "kubelet.yaml": _pretty(_kubelet(where, addresses, cgroup_v1)),
        "kube-proxy.yaml": _pretty(_kube_proxy(where, addresses)),
        "Corefile": _corefile(where, addresses),
        "cni/10-stackyard.conflist": _pretty(_network(addresses)),
        "hosts": f"127.0.0.1 localhost\n{addresses.node} {daemons.NODE}\n",
        "resolv.conf": f"nameserver {addresses.node}\nsearch svc.cluster.local cluster.local\noptions ndots:5\n",
        # For pods kubelet adds the searches; outside the cluster there is nobody to ask.
        "resolv.pods": f"nameserver {addresses.node}\n",
    }


def roles() -> str:
    """What our own users may do, beside what Kubernetes' built-in roles give to its components."""
    reading = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    volumes = [
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["list", "create", "delete"]},
    ]
    items = [
        _role("stackyard:coredns", reading),
        _binding("stackyard:coredns", "stackyard:coredns", "stackyard:coredns"),
        _role("stackyard:volumes", volumes),
        _binding("stackyard:volumes", "stackyard:volumes", "stackyard:volumes"),
        _binding("stackyard:kubelet-client", "system:kubelet-api-admin", "stackyard:kubelet-client"),
        _binding("stackyard:kuberay", "kuberay-operator", "stackyard:kuberay"),
    ]
    return _pretty({"apiVersion": "v1", "kind": "List", "items": items})


def storage() -> str:
    """The storage class of those who name none: a folder of the node, made when the first pod wants it."""
    return _pretty(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "stackyard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "stackyard/volumes",
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete",
        }
    )


def kwok_roles() -> str:
    """What the player of nodes may do."""
    return _pretty(_binding("stackyard:kwok", "kwok-controller", "stackyard:kwok"))


def _containerd(where: daemons.Places) -> str:
    """For containerd 1.6 and later (its settings' version 2)."""
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  # Without CAP_SYS_RESOURCE, as in many containers and virtual machines, no sandbox starts otherwise.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{where.settings}/cni"
"""


def _kubelet(where: daemons.Places, addresses: Addresses, cgroup_v1: bool) -> dict[str, Any]:
    keys = where.credentials
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": addresses.node,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{keys}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{keys}/kubelet.crt",
        "tlsPrivateKeyFile": f"{keys}/kubelet.key",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [addresses.node],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{where.settings}/resolv.pods",
        # The machine's disk is shared with everything else on it, and no image can be pulled again: only memory evicts.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        "failSwapOn": False,
        "protectKernelDefaults": True,
    }
    if cgroup_v1:
        settings["failCgroupV1"] = False
    return settings


def _kube_proxy(where: daemons.Places, addresses: Addresses) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": addresses.pods,
        "clientConnection": {"kubeconfig": where.kubeconfig("system:kube-proxy")},
        "hostnameOverride": daemons.NODE,
        # Zero: these limits are the whole machine's, so leave them.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": f"{addresses.node}:{PROXY_HEALTH_PORT}",
    }


def _corefile(where: daemons.Places, addresses: Addresses) -> str:
    return f"""cluster.local:53 in-addr.arpa:53 {{
    bind {addresses.node}
    errors
    ready {addresses.node}:{DNS_READY_PORT}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {where.kubeconfig("stackyard:coredns")}
        pods insecure
        ttl 5
    }}
    cache 5
}}
"""


def _network(addresses: Addresses) -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            # As short-lived as the node's network itself.
            "dataDir": "/run/cni",
            "ranges": [[{"subnet": addresses.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "1.0.0", "name": "stackyard", "plugins": [bridge]}


def _role(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    rbac = "rbac.authorization.k8s.io/v1"
    return {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}


def _binding(name: str, role: str, user: str) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


def _pretty(document: dict[str, Any]) -> str:
    """JSON, which is YAML."""
    return json.dumps(document, indent=1) + "\n"
