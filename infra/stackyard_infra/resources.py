"""The provider's resources, typed for the program: thin shapes, no behaviour (that is in `provider/`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

Texts = pulumi.Input[Mapping[str, pulumi.Input[str]]]


class Site(pulumi.CustomResource):
    """A stack's ground: made first, deleted last, and then nothing of the stack runs."""

    def __init__(self, name: str, *, site: Mapping[str, str], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("stackyard:index:Site", name, {"site": site}, opts)


class Ledger(pulumi.CustomResource):
    """What is expected of the stack while it is up, kept until a certificate says what is left of it."""

    def __init__(
        self, name: str, *, site: Mapping[str, str], ledger: pulumi.Input[Mapping[str, Any]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        super().__init__("stackyard:index:Ledger", name, {"site": site, "ledger": ledger}, opts)


class Folder(pulumi.CustomResource):
    """A folder with a `role`; with `keep` it outlives the stack."""

    path: pulumi.Output[str]

    def __init__(
        self, name: str, *, site: Mapping[str, str], role: str, path: str, keep: bool,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        super().__init__("stackyard:index:Folder", name, {"site": site, "role": role, "path": path, "keep": keep}, opts)


class Keys(pulumi.CustomResource):
    """Release key, operator key and tokens, in private files; only public halves and paths are seen."""

    public_keys: pulumi.Output[list[str]]
    signing_key: pulumi.Output[str]
    token_path: pulumi.Output[str]
    operator_keys: pulumi.Output[list[str]]
    operator_key: pulumi.Output[str]
    labels_token_path: pulumi.Output[str]

    def __init__(
        self, name: str, *, site: Mapping[str, str], keep: bool, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        outputs = dict.fromkeys(self.OUTPUTS)
        super().__init__("stackyard:index:Keys", name, {"site": site, "keep": keep} | outputs, opts)

    OUTPUTS = ("public_keys", "signing_key", "token_path", "operator_keys", "operator_key", "labels_token_path")

    @property
    def plain(self) -> pulumi.Output[dict[str, Any]]:
        """Every output by its name."""
        return pulumi.Output.all(**{name: getattr(self, name) for name in self.OUTPUTS})


class Ports(pulumi.CustomResource):
    """Free loopback ports by name, and a loopback address for each Ray cluster; chosen once."""

    ports: pulumi.Output[dict[str, int]]
    addresses: pulumi.Output[dict[str, str]]

    def __init__(
        self, name: str, *, site: Mapping[str, str], names: Sequence[str], clusters: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        outputs = {"ports": None, "addresses": None, "taken": None}
        inputs = {"site": site, "names": names, "clusters": clusters}
        super().__init__("stackyard:index:Ports", name, inputs | outputs, opts)


class Supervisor(pulumi.CustomResource):
    """The supervisord of a stack; `environment` is what all its processes share."""

    def __init__(
        self, name: str, *, site: Mapping[str, str], environment: Texts, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("stackyard:index:Supervisor", name, {"site": site, "environment": environment}, opts)


class Process(pulumi.CustomResource):
    """One supervised process.

    `reload` says how a change of `files` alone is taken up (`restart` or `hup`), `health` is a probe with a `timeout`
    in seconds (`provider/health.py`), `secrets` are private files, `version` restarts the process when it changes.
    """

    healthy: pulumi.Output[bool]

    def __init__(
        self, resource_name: str, *, site: Mapping[str, str], name: str, command: pulumi.Input[Sequence[str]],
        environment: Texts, folder: str, files: Texts, secrets: Texts, reload: str,
        health: pulumi.Input[Mapping[str, Any]],
        stop_timeout: int, version: str, opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        inputs = {
            "site": site,
            "name": name,
            "command": command,
            "environment": environment,
            "folder": folder,
            "files": files,
            "secrets": secrets,
            "reload": reload,
            "health": health,
            "stop_timeout": stop_timeout,
            "version": version,
        }
        super().__init__("stackyard:index:Process", resource_name, inputs | {"healthy": None}, opts)


class File(pulumi.CustomResource):
    """A plain file in the stack's state, `path` relative to it."""

    def __init__(
        self, name: str, *, site: Mapping[str, str], path: str, content: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        super().__init__("stackyard:index:File", name, {"site": site, "path": path, "content": content}, opts)


class Clock(pulumi.CustomResource):
    """The file of a virtual clock; made at `start` (ISO, UTC) and from then on moved by a replay alone."""

    def __init__(
        self, name: str, *, site: Mapping[str, str], path: str, start: str, keep: bool,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        inputs = {"site": site, "path": path, "start": start, "keep": keep}
        super().__init__("stackyard:index:Clock", name, inputs, opts)


class LeasedCluster(pulumi.CustomResource):
    """A workspace and what runs around it; closed until an EvacuationGate opens it.

    `evacuation`, `processes`, `lease` and `ledger` are kept beside the workspace, for those who work without the
    program.
    """

    instance: pulumi.Output[str]

    def __init__(
        self, name: str, *, site: Mapping[str, str], cluster: str, store: str,
        evacuation: pulumi.Input[Mapping[str, Any]], processes: pulumi.Input[Sequence[Any]],
        lease: pulumi.Input[Mapping[str, Any]], ledger: pulumi.Input[Mapping[str, Any]] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        inputs = {
            "site": site,
            "cluster": cluster,
            "store": store,
            "evacuation": evacuation,
            "processes": processes,
            "lease": lease,
            "ledger": {} if ledger is None else ledger,
        }
        # Two clusters of one name cannot be: the old one goes first, even where `up --replace` asks no provider.
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(delete_before_replace=True))
        super().__init__("stackyard:index:LeasedCluster", name, inputs | {"instance": None, "healthy": None}, opts)


class EvacuationGate(pulumi.CustomResource):
    """Deleted before its cluster in every order of steps, since `instance` is a property of the cluster's."""

    def __init__(
        self, name: str, *, site: Mapping[str, str], cluster: str, instance: pulumi.Input[str], store: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        inputs = {"site": site, "cluster": cluster, "instance": instance, "store": store}
        super().__init__("stackyard:index:EvacuationGate", name, inputs, opts)
