"""Reading versions out of what programs print."""

from __future__ import annotations

import pytest

from machine import versions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("go version go1.26.8 linux/amd64", (1, 26, 8), id="go"),
        pytest.param("go1.26", (1, 26, 0), id="go-without-patch"),
        pytest.param("go1.26rc1", (1, 26, -1), id="go-release-candidate"),
        pytest.param("v3.259.0\n", (3, 259, 0), id="pulumi"),
        pytest.param("v3.260.0-alpha.1", (3, 260, -1), id="pulumi-alpha"),
        pytest.param("3.259.0+dirty", (3, 259, 0), id="build-metadata"),
        pytest.param("uv 0.13.9 (abc 2026-01-01)", (0, 13, 9), id="uv"),
        pytest.param("", None, id="nothing"),
        pytest.param("command not found", None, id="no-version"),
    ],
)
def test_a_version_is_read_from_any_dress(text: str, expected: tuple[int, int, int] | None) -> None:
    assert versions.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "oldest", "expected"),
    [
        pytest.param("v3.259.0", "3.259.0", True, id="same"),
        pytest.param("v3.1000.0", "3.259.0", True, id="numbers-not-letters"),
        pytest.param("v3.99.0", "3.259.0", False, id="older"),
        pytest.param("v3.259.0-alpha", "3.259.0", False, id="pre-release"),
        pytest.param("v4.0.0", "3.259.0", True, id="next-major"),
        pytest.param("", "3.259.0", False, id="unreadable"),
    ],
)
def test_new_enough_compares_numbers_and_refuses_what_it_cannot_read(text: str, oldest: str, expected: bool) -> None:
    assert versions.at_least(text, oldest) is expected
