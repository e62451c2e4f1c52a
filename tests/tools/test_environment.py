"""A local stack has a Pulumi of its own, whatever the user exported; any other stack has the user's, untouched."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from machine import environment, say
from machine.engine import Engine

LOGGED_IN = {
    "PATH": "/usr/bin:/bin",
    "PULUMI_ACCESS_TOKEN": "pul-secret",
    "PULUMI_BACKEND_URL": "s3://company",
    "PULUMI_HOME": "/theirs",
    "PULUMI_CONFIG_PASSPHRASE": "theirs",
    "PULUMI_CONFIG_PASSPHRASE_FILE": "/theirs/passphrase",
    "PULUMI_IGNORE_AMBIENT_PLUGINS": "1",
    "NO_PROXY": "example.com",
}


def shells() -> list:
    missing = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
    return [pytest.param("bash", id="bash"), pytest.param("zsh", id="zsh", marks=missing)]


def test_a_local_stack_uses_nothing_that_the_user_exported(checkout: Path, standing_engine: Engine) -> None:
    seen = environment.applied(environment.changes("local", standing_engine, LOGGED_IN), LOGGED_IN)
    assert seen["PULUMI_HOME"] == f"{checkout}/.stackyard/pulumi"
    assert seen["PULUMI_CONFIG_PASSPHRASE_FILE"] == f"{checkout}/.stackyard/passphrase"
    assert "%20" in seen["PULUMI_BACKEND_URL"]
    assert seen["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "1"
    gone = {"PULUMI_ACCESS_TOKEN", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_IGNORE_AMBIENT_PLUGINS"}
    assert not gone & set(seen)


def test_another_target_keeps_the_users_login_and_exports(checkout: Path, standing_engine: Engine) -> None:
    seen = environment.applied(environment.changes("dev", standing_engine, LOGGED_IN), LOGGED_IN)
    assert {name: value for name, value in seen.items() if name in LOGGED_IN and name != "PATH"} == {
        name: value for name, value in LOGGED_IN.items() if name != "PATH"
    }
    assert not {name for name in seen if name.startswith("PULUMI_")} - set(LOGGED_IN)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, "127.0.0.1,localhost,127.0.0.0/8", id="none"),
        pytest.param({"NO_PROXY": "a.b, localhost"}, "a.b,localhost,127.0.0.1,127.0.0.0/8", id="upper-case"),
        pytest.param(
            {"no_proxy": "c.d", "NO_PROXY": "a.b"}, "c.d,127.0.0.1,localhost,127.0.0.0/8", id="lower-case-wins"
        ),
    ],
)
def test_loopback_never_goes_through_a_proxy(checkout: Path, before: dict[str, str], after: str) -> None:
    seen = environment.local(before)
    assert seen["NO_PROXY"] == seen["no_proxy"] == after


def test_our_programs_come_first_and_once_however_often_it_is_applied(checkout: Path, standing_engine: Engine) -> None:
    once = environment.applied(environment.changes("local", standing_engine, LOGGED_IN), LOGGED_IN)
    twice = environment.applied(environment.changes("local", standing_engine, once), once)
    assert twice == once
    assert once["PATH"].split(":")[0] == f"{checkout}/.venv/bin"
    assert once["PATH"].endswith(":/usr/bin:/bin")


def test_a_backend_of_ones_own_choice_wins(checkout: Path, standing_engine: Engine) -> None:
    given = {"PATH": "/bin", "STACKYARD_BACKEND_URL": "file:///elsewhere"}
    assert environment.changes("local", standing_engine, given)["PULUMI_BACKEND_URL"] == "file:///elsewhere"


def test_nobody_phones_home_unless_the_user_says_so(checkout: Path, standing_engine: Engine) -> None:
    quiet = environment.tooling(standing_engine, {"PATH": "/bin", "RAY_USAGE_STATS_ENABLED": "1"})
    assert (quiet["DO_NOT_TRACK"], quiet["MLFLOW_DISABLE_TELEMETRY"]) == ("1", "true")
    assert quiet["RAY_USAGE_STATS_ENABLED"] == "1"


def test_the_passphrase_is_made_once_and_is_its_owners_alone(checkout: Path) -> None:
    environment.prepare()
    first = environment.passphrase_file().read_text()
    environment.prepare()
    assert environment.passphrase_file().read_text() == first
    assert len(first) >= 40
    assert stat.S_IMODE(environment.passphrase_file().stat().st_mode) == 0o600
    assert [file.name for file in (checkout / ".stackyard").glob(".passphrase*")] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("target: aws\n", "aws", id="bare"),
        pytest.param('a: 1\ntarget:   "local"  # here\n', "local", id="quoted"),
        pytest.param("#target: aws\ntarget: local\n", "local", id="comment-above"),
        pytest.param("x:\n  target: aws\ntarget: local\n", "local", id="nested-one-is-another"),
    ],
)
def test_the_target_is_read_from_the_stack_file(checkout: Path, text: str, expected: str) -> None:
    (checkout / "stacks" / "some.yaml").write_text(text)
    assert environment.target("some") == expected


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        pytest.param("absent", "no stacks/absent.yaml; here are: dev, local", id="no-file"),
        pytest.param("../dev", "no name for a stack", id="a-path"),
        pytest.param("empty", "no line `target: ...`", id="no-target"),
    ],
)
def test_a_stack_that_cannot_be_used_is_told_in_one_sentence(
    checkout: Path, capsys: pytest.CaptureFixture[str], stack: str, words: str
) -> None:
    if stack == "empty":
        (checkout / "stacks" / "empty.yaml").write_text("")
    with pytest.raises(say.Stop):
        environment.target(stack)
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_shell_made_for_the_local_stack_is_not_used_for_another_target(checkout: Path) -> None:
    with pytest.raises(say.Stop):
        environment.refuse_mixture("dev", {"PULUMI_HOME": f"{checkout}/.stackyard/pulumi"})
    environment.refuse_mixture("dev", {"PULUMI_HOME": "/theirs"})
    environment.refuse_mixture("local", {"PULUMI_HOME": f"{checkout}/.stackyard/pulumi"})


@pytest.mark.parametrize("shell", shells())
def test_the_shell_code_survives_odd_values_and_can_be_taken_back(shell: str) -> None:
    odd = 'it\'s $HOME `x` "y" ü\nsecond line'
    before = {"PATH": "/usr/bin:/bin", "KEPT": odd, "GONE": "was here"}
    code = environment.as_shell({"KEPT": "new", "GONE": None, "ADDED": odd}, before)
    show = 'printf "%s|%s|%s\\0" "$KEPT" "${GONE-unset}" "${ADDED-unset}"'
    script = f'{code}\n{show}\neval "$_stackyard_undo"\n{show}\nenv | grep -c _stackyard_undo'
    done = subprocess.run([shell, "-c", script], env=before, capture_output=True, text=True)
    changed, undone, exported = done.stdout.split("\0")
    assert changed == f"new|unset|{odd}"
    assert undone == f"{odd}|was here|unset"
    assert exported.strip() == "0", "what is taken back may hold a token, and must not reach child processes"


@pytest.mark.parametrize("shell", shells())
def test_activate_works_when_sourced_from_anywhere_under_strict_settings(shell: str, tmp_path: Path) -> None:
    tools = Path(environment.places.TOOLS)
    copy = tmp_path / "a folder" / "tools"
    copy.mkdir(parents=True)
    shutil.copy(tools / "activate", copy)
    (copy / "machine.sh").write_text("echo \"export ASKED='$*'\"; echo \"_stackyard_undo='unset ASKED'\"")
    script = f"set -eu; cd /; source '{copy}/activate' dev; echo $ASKED; source '{copy}/activate'; echo $ASKED"
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["env --stack dev", "env --stack local"], done.stderr


@pytest.mark.parametrize("shell", shells())
def test_activate_says_by_its_status_that_it_could_not(shell: str, tmp_path: Path) -> None:
    shutil.copy(environment.places.TOOLS / "activate", tmp_path)
    (tmp_path / "machine.sh").write_text("echo 'export HALF=1'; exit 2")
    script = f"source '{tmp_path}/activate' || echo status $?; echo ${{HALF-unset}}"
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["status 1", "unset"]
