"""MLflow: a projection of runs and models for people to look at."""

from __future__ import annotations

from importlib.metadata import version

import pulumi

from stackyard.spec import StackSpec
from stackyard_infra.components.supervision import Supervision
from stackyard_infra.manifests import processes
from stackyard_infra.resources import Folder


class ModelRegistry(pulumi.ComponentResource):
    """MLflow and its folder. Nothing waits for it: training, gates and promotion do without."""

    def __init__(
        self, name: str, spec: StackSpec, *, supervision: Supervision, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("stackyard:local:ModelRegistry", name, None, opts)
        places, keep = supervision.places, spec.environment.store.keep
        inside = pulumi.ResourceOptions(parent=self, depends_on=[supervision.site])
        path = str(places.state / "mlflow")
        self.folder = Folder("registry-folder", site=places.site, role="registry", path=path, keep=keep, opts=inside)
        self.process = supervision.run(
            "mlflow",
            supervision.lowered(lambda ports, _addresses, _keys: processes.mlflow(places, ports)),
            parent=self,
            needs=[self.folder],
            version=f"mlflow {version('mlflow')}",
        )
        self.register_outputs({})
