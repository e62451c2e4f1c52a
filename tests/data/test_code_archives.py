"""What was trained is what answers: code is frozen byte for byte, checked before it is unpacked, and isolated."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stackyard.data import code
from stackyard.data.errors import DataError
from stackyard.store import layout
from stackyard.store.objects import Store


def test_equal_sources_give_equal_archives_wherever_and_whenever_they_were_written(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name in ("orders.py", "inputs.py"):  # the other order, another time
        (other / name).write_bytes((folder / name).read_bytes())
        os.utime(other / name, (1, 1))
    assert code.archive(folder) == code.archive(other)


def test_only_sources_are_frozen(folder: Path) -> None:
    for name, content in {
        "project.yaml": b"name: x",
        "inner/deep.py": b"",
        "inner/query.sql": b"",
        ".env": b"SECRET=1",
        ".git/config.py": b"",
        "__pycache__/orders.cpython-311.py": b"",
        "rows.csv": b"a\n",
        "rows.parquet": b"",
        "model.pkl": b"",
        "big.json": b"1" * (code.LARGEST_SOURCE + 1),
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(io.BytesIO(code.archive(folder)[0])) as file:
        assert file.namelist() == ["inner/deep.py", "inner/query.sql", "inputs.py", "orders.py", "project.yaml"]


def _link(folder: Path) -> None:
    (folder / "more.py").symlink_to("/etc/passwd")


def _folder_link(folder: Path) -> None:
    (folder / "shared").symlink_to("/etc")


def _huge(folder: Path) -> None:
    (folder / "huge.py").write_bytes(b"#" * (code.LARGEST_SOURCE + 1))


def _odd(folder: Path) -> None:
    (folder / "a\nb.py").write_text("")


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(_link, "symbolic link", id="linked-file"),
        pytest.param(_folder_link, "symbolic link", id="linked-folder"),
        pytest.param(_huge, "a Python file may have", id="huge-file"),
        pytest.param(_odd, "rename it", id="odd-name"),
        pytest.param(_empty, "no Python file", id="no-code"),
    ],
)
def test_a_folder_that_cannot_be_frozen_whole_is_refused(
    folder: Path, spoil: Callable[[Path], None], told: str
) -> None:
    spoil(folder)
    with pytest.raises(code.CodeError, match=told):
        code.archive(folder)


def test_unpacking_gives_the_sources_again_and_then_needs_no_store(folder: Path, store: Store, tmp_path: Path) -> None:
    digest = code.publish(store, folder)
    made = code.unpack(store, digest, tmp_path / "cache")
    assert {file.name: file.read_bytes() for file in made.iterdir()} == {
        file.name: file.read_bytes() for file in folder.iterdir()
    }
    store.delete(layout.code_archive(digest))
    assert code.unpack(store, digest, tmp_path / "cache") == made


def test_many_replicas_may_unpack_at_once(folder: Path, store: Store, tmp_path: Path) -> None:
    digest = code.publish(store, folder)
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: code.unpack(store, digest, tmp_path / "cache"), range(16)))
    assert {file.name for file in made.pop().iterdir()} == {"inputs.py", "orders.py"}
    assert sorted(file.name for file in (tmp_path / "cache").iterdir()) == [".lock", digest, f"{digest}.zip"]


@pytest.mark.parametrize("name", ["orders.py", "planted.py", "__pycache__/orders.cpython-311.pyc"])
def test_an_altered_copy_is_replaced(folder: Path, store: Store, tmp_path: Path, name: str) -> None:
    made = code.unpack(store, code.publish(store, folder), tmp_path / "cache")
    (made / name).parent.mkdir(exist_ok=True)
    (made / name).write_bytes(b"raise SystemExit")
    again = code.unpack(store, made.name, tmp_path / "cache")
    assert sorted(file.name for file in again.iterdir()) == ["inputs.py", "orders.py"]
    assert (again / "orders.py").read_bytes() == (folder / "orders.py").read_bytes()


def test_an_altered_archive_is_refused_and_frozen_again_it_is_sound(folder: Path, store: Store, tmp_path: Path) -> None:
    digest = code.publish(store, folder)
    raw = bytearray(store.read(layout.code_archive(digest)))
    raw[len(raw) // 2] ^= 1
    store.write(layout.code_archive(digest), bytes(raw))
    with pytest.raises(code.CodeError, match="altered"):
        code.unpack(store, digest, tmp_path / "cache")
    assert code.publish(store, folder) == digest
    assert code.unpack(store, digest, tmp_path / "cache").is_dir()


def _entry(name: str, mode: int = stat.S_IFREG | 0o644, kind: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr, made.compress_type, made.create_system = mode << 16, kind, 3
    return made


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(_entry("../outside.py"), id="upwards"),
        pytest.param(_entry("/tmp/outside.py"), id="absolute"),
        pytest.param(_entry("a/../../outside.py"), id="through"),
        pytest.param(_entry("a\\..\\outside.py"), id="backslashes"),
        pytest.param(_entry("linked.py", stat.S_IFLNK | 0o777), id="link"),
        pytest.param(_entry("device.py", stat.S_IFCHR | 0o644), id="device"),
        pytest.param(_entry(".hidden.py"), id="hidden"),
        pytest.param(_entry("library.so"), id="binary"),
        pytest.param(_entry("bomb.py", kind=zipfile.ZIP_DEFLATED), id="compressed"),
    ],
)
def test_an_archive_nobody_here_would_write_is_refused_though_its_digest_holds(
    store: Store, tmp_path: Path, entry: zipfile.ZipInfo
) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(entry, b"x")
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    store.create(layout.code_archive(digest), out.getvalue())
    with pytest.raises(code.CodeError, match="may not"):
        code.unpack(store, digest, tmp_path / "cache")
    assert not list(tmp_path.rglob("*outside*"))


def test_two_versions_live_side_by_side_and_leave_no_trace(tmp_path: Path) -> None:
    made = []
    for version in ("one", "two"):
        folder = tmp_path / version
        (folder / "parts").mkdir(parents=True)
        (folder / "main.py").write_text(
            "import shared_name\nfrom parts import inner\nimport parts.inner as again\n"
            "def run():\n    import late_name\n"
            "    return shared_name.VALUE, inner.VALUE, again.VALUE, late_name.VALUE\n"
        )
        for name in ("shared_name.py", "late_name.py"):
            (folder / name).write_text(f"VALUE = {version!r}\n")
        (folder / "parts" / "__init__.py").write_text("")
        (folder / "parts" / "inner.py").write_text(
            "from parts import other\nfrom . import other as near\nVALUE = near.V\n"
        )
        (folder / "parts" / "other.py").write_text(f"V = {version!r}\n")
        made.append(folder)
    path, modules = list(sys.path), set(sys.modules)
    one, two = (code.load(folder, "main:run") for folder in made)
    assert one() == ("one",) * 4
    assert two() == ("two",) * 4
    assert sys.path == path
    assert all(name.startswith("_stackyard_code_") for name in set(sys.modules) - modules)
    assert not list(tmp_path.rglob("__pycache__"))


def test_dataclasses_and_annotations_work_in_loaded_code(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(
        "from __future__ import annotations\nimport typing\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Point:\n    x: int\n    all: typing.ClassVar[int] = 3\n"
        "def run():\n    return typing.get_type_hints(Point)['x'], Point(2).x\n"
    )
    assert code.load(tmp_path, "made:run")() == (int, 2)


@pytest.mark.parametrize(
    ("source", "path", "told"),
    [
        pytest.param("", "absent:run", "there is no absent.py", id="no-module"),
        pytest.param("", "made:run", "has no function run", id="no-function"),
        pytest.param("run = 3", "made:run", "has no function run", id="no-callable"),
        pytest.param(
            "\n\nimport not_there_at_all", "made:run", r"made\.py:3: ModuleNotFoundError", id="missing-import"
        ),
        pytest.param("\n1/0", "made:run", r"made\.py:2: ZeroDivisionError", id="failing-import"),
        pytest.param("\ndef run(:", "made:run", r"made\.py:2: SyntaxError", id="no-python"),
        pytest.param("raise SystemExit(3)", "made:run", r"made\.py:1: SystemExit", id="exit"),
    ],
)
def test_code_that_cannot_be_loaded_is_told_with_its_place(tmp_path: Path, source: str, path: str, told: str) -> None:
    (tmp_path / "made.py").write_text(source)
    with pytest.raises(DataError, match=told):
        code.load(tmp_path, path)


def test_what_is_no_digest_never_becomes_a_path(tmp_path: Path) -> None:
    (tmp_path / "precious.zip").touch()
    with pytest.raises(code.CodeError, match="is not the digest of a code archive"):
        code.unpack(Store.open(tmp_path / "store"), "../precious", tmp_path / "cache")
    assert (tmp_path / "precious.zip").exists()
