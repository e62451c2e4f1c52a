"""Keys and tokens are private files, made once, and refused when others can read them."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stackyard.store.keys import KeyFileError, ensure_signing_key, ensure_token, read_private


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "release"
    first = ensure_signing_key(path).private_bytes_raw()
    assert ensure_signing_key(path).private_bytes_raw() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_many_makers_agree_on_one_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: ensure_token(tmp_path / "token"), range(32)))
    assert len(tokens) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604], ids=["everybody", "group", "others"])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    ensure_token(tmp_path / "token")
    (tmp_path / "token").chmod(mode)
    with pytest.raises(KeyFileError, match="open to others"):
        read_private(tmp_path / "token")
