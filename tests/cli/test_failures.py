"""The command line answers mistakes with one sentence and the right exit code."""

import subprocess
import sys
from pathlib import Path

import pytest


def _stackyard(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "stackyard"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["status"], 1, "no Pulumi.yaml here or above", id="outside a checkout"),
        pytest.param(["fly"], 2, "No such command", id="unknown verb"),
        pytest.param(["score"], 2, "exactly one", id="nothing to score"),
    ],
)
def test_mistakes_are_one_sentence_without_a_traceback(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    done = _stackyard(tmp_path, *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert said in done.stderr


def test_a_stack_that_is_not_up_says_how_to_raise_it(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").touch()
    done = _stackyard(tmp_path, "status", "-s", "lab")
    assert done.returncode == 1
    assert done.stderr.strip() == "stackyard: stack lab is not up: `make up`, or `pulumi up -s lab`"
