"""Where Pulumi keeps a stack's state, as far as the provider is told: a cluster remembers it, so that who finds the
cluster later can ask whether its stack still exists.

The engine hands its environment to providers. What only `pulumi login` knows stays unknown: it lies among a person's
credentials, which nobody here opens.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml


def backend_url(checkout: Path, environment: Mapping[str, str] | None = None) -> str | None:
    """The backend's URL: of the environment, else of the checkout's Pulumi.yaml; None where neither says it."""
    told = (os.environ if environment is None else environment).get("PULUMI_BACKEND_URL")
    return told or _of_project(checkout / "Pulumi.yaml")


def _of_project(file: Path) -> str | None:
    try:
        backend = (yaml.safe_load(file.read_text()) or {}).get("backend")
    except (OSError, ValueError, yaml.YAMLError, AttributeError):
        return None
    url = backend.get("url") if isinstance(backend, dict) else None
    return url if isinstance(url, str) else None
