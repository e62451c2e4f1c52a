"""The import contracts must grow with the house: a new package that no contract names would be bound by none."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PACKAGES = {f"stackyard.{path.parent.name}" for path in (ROOT / "platform" / "stackyard").glob("*/__init__.py")}
STRANGERS = {"stackyard.training", "stackyard.serving", "stackyard.monitoring", "stackyard.evacuation"}


def contract(start: str) -> dict:
    return next(found for found in CONTRACTS if found["name"].startswith(start))


def test_there_are_the_five_contracts_of_the_house_each_named_by_a_sentence() -> None:
    assert len(CONTRACTS) >= 5
    assert all(found["name"].endswith(".") and " " in found["name"] for found in CONTRACTS)


def test_infra_is_kept_from_every_package_of_the_platform_but_the_spec() -> None:
    assert set(contract("Infra touches")["forbidden_modules"]) >= PACKAGES - {"stackyard.spec"}


def test_training_serving_monitoring_and_evacuation_are_strangers_as_soon_as_they_exist() -> None:
    assert set(contract("Training, serving")["modules"]) == STRANGERS & PACKAGES
