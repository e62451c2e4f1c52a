"""A stack with a past, and the command line that speaks to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from yard import Speaks, Yard


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Yard(tmp_path)


@pytest.fixture
def lived(yard: Yard) -> Yard:
    """A year: 1 was replaced by 2, 3 was refused, 4 failed, 5 was taken back, 6 is in canary, 7 runs."""
    first, second = yard.made(1, "there is no champion"), yard.made(2, "metric: auc 0.66")
    yard.release(1, "the first model")
    yard.gate(second, passed=True)
    yard.release(2, "version 2 is promoted", candidate=second, outcome="promoted")
    yard.gate(yard.made(3), passed=False)
    yard.run(4, status="failed", reason="the data has no rows")
    fifth = yard.made(5)
    yard.gate(fifth, passed=True)
    yard.release(5, "version 5 is promoted", candidate=fifth, outcome="promoted")
    yard.release(2, "taken back by a person", candidate=fifth, outcome="rolled_back")
    sixth = yard.made(6)
    yard.gate(sixth, passed=True)
    yard.rolling(2, 6, sixth)
    yard.run(7, "schedule")
    assert first.endswith("0001-abcdef01")
    return yard


@pytest.fixture
def speak(capsys: pytest.CaptureFixture[str]) -> Speaks:
    """`stackyard ARGUMENTS`, in this process: exit code, standard output, standard error."""
    from stackyard.cli.app import app
    from stackyard.cli.failures import Failure, report

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            app(list(arguments), standalone_mode=False)
        except Failure as failure:
            code = report(failure)
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
