"""The house stays in order: rooms are places and not packages, and nothing of one machine or site gets into it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STANDARD_NAMES = sys.stdlib_module_names - {"__main__"}
# Put together from parts, so that this file does not match itself.
REGISTRY_HOSTS = re.compile(
    "|".join(
        re.escape(host + end)
        for host, end in [
            ("pypi.", "org"),
            ("pythonhosted.", "org"),
            ("proxy.golang.", "org"),
            ("sum.golang.", "org"),
            ("registry.npmjs.", "org"),
            ("docker.", "io"),
            ("quay.", "io"),
            ("ghcr.", "io"),
            ("public.ecr.", "aws"),
            ("gcr.", "io"),
        ]
    )
)
# This checkout's own place, and what looks like somebody's home.
MACHINE_PATHS = re.compile(
    re.escape(str(ROOT) + "/")
    + "|(?<![\\w.$}])/(?:"
    + "|".join(["hom" + "e/\\w", "roo" + "t/", "Use" + "rs/\\w"])
    + ")"
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str:
    data = path.read_bytes()
    return "" if b"\0" in data[:8000] else data.decode(errors="replace")


@pytest.mark.parametrize("room", ["infra", "platform"])
def test_a_room_is_a_place_and_not_a_package(room: str) -> None:
    assert not (ROOT / room / "__init__.py").exists()


@pytest.mark.parametrize("room", ["infra", "platform"])
def test_no_loose_module_in_a_room_takes_the_name_of_a_standard_one(room: str) -> None:
    loose = {path.stem for path in (ROOT / room).iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not loose & STANDARD_NAMES


def test_what_runs_does_not_know_the_example() -> None:
    sources = [path for path in tracked() if path.is_relative_to(ROOT / "platform" / "stackyard")]
    assert sources
    assert [str(path) for path in sources if "flight" in (str(path) + text_of(path)).lower()] == []


@pytest.mark.parametrize("pattern", [REGISTRY_HOSTS, MACHINE_PATHS], ids=["registry-host", "path-of-one-machine"])
def test_no_tracked_file_names_a_registry_or_a_path_of_one_machine(pattern: re.Pattern[str]) -> None:
    found = [f"{path.relative_to(ROOT)}: {hit[0]}" for path in tracked() if (hit := pattern.search(text_of(path)))]
    # A test may make up a home to speak of.
    found = [line for line in found if not (line.startswith("tests/") and "/home/" in line)]
    assert found == []


def test_every_package_of_the_lock_has_hashes_and_none_an_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    packages = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert len(packages) > 100
    assert "://" not in text
    assert [package.splitlines()[0] for package in packages if "--hash=sha256:" not in package] == []


def test_the_tools_import_nothing_of_the_product_nor_the_product_the_tools() -> None:
    imported = {
        path: set(re.findall(r"^\s*(?:from|import) (\w+)", text_of(path), re.MULTILINE))
        for path in tracked()
        if path.suffix == ".py"
    }
    tools = {path: names for path, names in imported.items() if path.is_relative_to(ROOT / "tools")}
    product = {
        path: names
        for path, names in imported.items()
        if path.is_relative_to(ROOT / "platform") or path.is_relative_to(ROOT / "infra")
    }
    assert tools
    assert product
    assert [str(path) for path, names in tools.items() if names & {"stackyard", "stackyard_infra"}] == []
    assert [str(path) for path, names in product.items() if names & {"machine", "language_host"}] == []


def test_what_runs_before_set_up_needs_the_standard_library_only() -> None:
    names = {
        name
        for path in (ROOT / "tools" / "machine").glob("*.py")
        for name in re.findall(r"^\s*(?:from|import) (\w+)", text_of(path), re.MULTILINE)
    }
    assert names <= sys.stdlib_module_names | {"machine"}
