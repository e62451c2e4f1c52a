"""What every process of a local stack stands on: the site, its ports and keys, and the supervisor over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pulumi

from stackyard.spec import StackSpec
from stackyard_infra.manifests import leases, ledger
from stackyard_infra.manifests.environment import environment
from stackyard_infra.manifests.places import Places
from stackyard_infra.manifests.processes import PORTS
from stackyard_infra.resources import Keys, Ledger, Ports, Process, Site, Supervisor


class Supervision(pulumi.ComponentResource):
    """Site, ports, keys and supervisor; `run` puts a process under it."""

    def __init__(self, name: str, spec: StackSpec, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("stackyard:local:Supervision", name, None, opts)
        self.places = Places.of(spec)
        self.processes: list[str] = []
        site = self.places.site
        self.site = Site("site", site=site, opts=pulumi.ResourceOptions(parent=self))
        on_site = pulumi.ResourceOptions(parent=self, depends_on=[self.site])
        self.keys = Keys("keys", site=site, keep=spec.environment.store.keep, opts=on_site)
        lent = spec.environment.clusters
        names, clusters = [*PORTS, *leases.ports(lent)], ["serving", "training", *leases.addresses(lent)]
        self.ports = Ports("ports", site=site, names=names, clusters=clusters, opts=on_site)
        self.ledger = Ledger(
            "ledger",
            site=site,
            ledger=self.lowered(lambda ports, addresses, _: ledger.of_stack(spec, self.places, ports, addresses)),
            opts=on_site,
        )
        shared = self.keys.token_path.apply(lambda path: environment(self.places, path))
        self.supervisor = Supervisor(
            "supervisor",
            site=site,
            environment=shared,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.site, self.ports, self.ledger]),
        )
        self.register_outputs({})

    def lowered(self, manifest: Callable[[dict[str, int], dict[str, str], dict[str, Any]], Any]) -> pulumi.Output[Any]:
        """`manifest(ports, addresses, keys)` of the values chosen for this stack."""
        chosen = pulumi.Output.all(self.ports.ports, self.ports.addresses, self.keys.plain)
        return chosen.apply(lambda values: manifest(values[0], values[1], values[2]))

    def run(
        self, name: str, manifest: pulumi.Output[Any], *, parent: pulumi.Resource, needs: list[pulumi.Resource],
        version: str, reload: str = "restart", stop_timeout: int = 10,
        secrets: Mapping[str, pulumi.Input[str]] | None = None,
    ) -> Process:  # fmt: skip
        """Register the process that `manifest` describes."""
        self.processes.append(name)
        return Process(
            name,
            site=self.places.site,
            name=name,
            command=manifest["command"],
            environment=manifest["environment"],
            folder=str(self.places.state),
            files=manifest.apply(lambda plain: plain.get("files", {})),
            secrets=dict(secrets or {}),
            reload=reload,
            health=manifest["health"],
            stop_timeout=stop_timeout,
            version=version,
            opts=pulumi.ResourceOptions(
                parent=parent,
                depends_on=[self.supervisor, *needs],
                additional_secret_outputs=["secrets"],
            ),
        )
