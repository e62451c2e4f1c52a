"""Clusters that are lent for a while, each behind a gate that lets nothing go unsaved."""

from __future__ import annotations

import pulumi

from stackyard.spec import StackSpec
from stackyard_infra.components import code
from stackyard_infra.components.store import ArtifactStore
from stackyard_infra.components.supervision import Supervision
from stackyard_infra.manifests import leases, ledger
from stackyard_infra.manifests.processes import clock
from stackyard_infra.resources import EvacuationGate, LeasedCluster


class Lease(pulumi.ComponentResource):
    """One leased cluster and its gate, which opens it."""

    def __init__(
        self, name: str, spec: StackSpec, *, store: ArtifactStore, supervision: Supervision,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        super().__init__("stackyard:local:Lease", f"lease-{name}", None, opts)
        places, wanted = supervision.places, spec.environment.clusters[name]
        after = [supervision.site, supervision.supervisor, store.folder]
        inside = pulumi.ResourceOptions(parent=self, depends_on=after)
        self.cluster = LeasedCluster(
            f"cluster-{name}",
            site=places.site,
            cluster=name,
            store=str(places.store),
            evacuation=supervision.lowered(
                lambda ports, addresses, _: leases.evacuation(name, wanted, places, ports, addresses)
            ),
            processes=supervision.lowered(
                lambda ports, addresses, _: leases.processes(
                    name, wanted, places, ports, addresses, saver=code.digest("evacuation")
                )
            ),
            lease=supervision.lowered(
                lambda ports, addresses, _: leases.lease(name, spec.environment, ports, addresses, clock(spec, places))
            ),
            ledger=supervision.lowered(
                lambda ports, addresses, _: ledger.of_cluster(name, wanted, places, ports, addresses)
            ),
            opts=inside,
        )
        self.gate = EvacuationGate(
            f"gate-{name}",
            site=places.site,
            cluster=name,
            instance=self.cluster.instance,
            store=str(places.store),
            opts=inside,
        )
        self.register_outputs({})
