"""The first steps on a bare machine: which Python, which uv, whose package index; each refusal is one sentence."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from machine import places, say, venv


def machine_with(folder: Path, **programs: str) -> dict[str, str]:
    """A PATH with the shell's own needs and the given programs only."""
    for name in ("dirname", "sh", "cat"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


@pytest.mark.parametrize(
    ("programs", "status", "words"),
    [
        pytest.param({"uname": "echo Darwin"}, 2, "runs on Linux only", id="not-linux"),
        pytest.param(
            {"uname": "echo Linux", "python3": 'case "$*" in *version_info*) ;; *) echo "took python3: $*";; esac'},
            0,
            "took python3: -I -B",
            id="python-on-path",
        ),
    ],
)
def test_the_bootstrap_takes_a_python_or_says_why_not(
    tmp_path: Path, programs: dict[str, str], status: int, words: str
) -> None:
    done = subprocess.run(
        ["/bin/sh", str(places.TOOLS / "machine.sh"), "setup"],
        env=machine_with(tmp_path, **programs),
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert words in done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("\n") == 1


@pytest.mark.parametrize(
    ("environ", "pip", "expected"),
    [
        pytest.param({}, "", {}, id="nothing-set"),
        pytest.param({}, "global.index-url='http://a/simple'", {"UV_DEFAULT_INDEX": "http://a/simple"}, id="pip-file"),
        pytest.param(
            {"PIP_INDEX_URL": "http://b/simple"},
            "global.index-url='http://a/simple'",
            {"UV_DEFAULT_INDEX": "http://b/simple"},
            id="pip-variable-wins",
        ),
        pytest.param(
            {},
            "global.extra-index-url='http://c/simple\\nhttp://d/simple'",
            {"UV_INDEX": "http://c/simple http://d/simple"},
            id="several-extra",
        ),
        pytest.param(
            {"UV_DEFAULT_INDEX": "http://own/simple", "PIP_INDEX_URL": "http://b/simple"},
            "",
            {"UV_DEFAULT_INDEX": "http://own/simple"},
            id="uv-has-its-own",
        ),
    ],
)
def test_an_index_that_only_pip_was_told_of_is_told_to_uv_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], pip: str, expected: dict[str, str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(venv, "_output", lambda command: pip)
    given = venv.index_settings(environ)
    assert {name: value for name, value in given.items() if name in ("UV_DEFAULT_INDEX", "UV_INDEX")} == expected


def test_without_uv_and_without_pip_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(venv, "_output", lambda command: "")
    with pytest.raises(say.Stop) as stopped:
        venv.find_uv()
    assert stopped.value.code == say.UNABLE
    assert "install uv, or the package python3-pip" in capsys.readouterr().err


def test_an_old_uv_on_path_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\necho uv 0.1.0\n")
    (tmp_path / "uv").chmod(0o755)
    fetched = tmp_path / "cache" / "stackyard" / "uv-boot" / "bin" / "uv"
    fetched.parent.mkdir(parents=True)
    fetched.touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert venv.find_uv() == str(fetched)


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        pytest.param("", False, id="killed-in-the-middle"),
        pytest.param("{", False, id="half-written"),
        pytest.param('{"lock": "old", "ours": "old"}', False, id="of-an-older-lock"),
        pytest.param('{"path": "/elsewhere/.venv"}', False, id="made-in-another-place"),
    ],
)
def test_an_environment_counts_only_when_its_stamp_matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamp: str, expected: bool
) -> None:
    file = tmp_path / "stamp"
    if stamp:
        file.write_text(stamp)
    monkeypatch.setattr(venv, "_STAMP", file)
    assert venv.ready() is expected
