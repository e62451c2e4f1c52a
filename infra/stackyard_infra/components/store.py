"""Folders that outlive processes, and by default the stack."""

from __future__ import annotations

import pulumi

from stackyard.spec import StackSpec
from stackyard_infra.components.supervision import Supervision
from stackyard_infra.manifests import processes
from stackyard_infra.resources import Clock, Folder


class ArtifactStore(pulumi.ComponentResource):
    """Snapshots, bundles, Releases and logs, in a folder; the database of decisions about them; and the time, where
    it is virtual: of what is kept, it is as old."""

    def __init__(
        self, name: str, spec: StackSpec, *, supervision: Supervision, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("stackyard:local:ArtifactStore", name, None, opts)
        places, keep = supervision.places, spec.environment.store.keep
        inside = pulumi.ResourceOptions(parent=self, depends_on=[supervision.site])
        path, database = str(places.store), str(places.state / "db")
        self.folder = Folder("artifacts", site=places.site, role="artifact store", path=path, keep=keep, opts=inside)
        self.database = Folder("database", site=places.site, role="database", path=database, keep=keep, opts=inside)
        self.clock = []
        if processes.clock(spec, places) is not None:
            start = processes.start_of_time(spec)
            self.clock = [Clock("clock", site=places.site, path=places.clock, start=start, keep=keep, opts=inside)]
        self.register_outputs({})
