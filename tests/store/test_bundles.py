"""A bundle is what its digest says, or nothing at all."""

from pathlib import Path

import pytest

from stackyard.store import bundles, layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store, sha256

FILES = {"model.ubj": b"trees", "card.md": b"# a model"}
SOUND = {"sha256": sha256(b"trees"), "size": 5}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def _with_manifest(store: Store, manifest: object) -> str:
    data = canonical(manifest)
    store.create(layout.bundle_file(sha256(data), "manifest.json"), data)
    store.create(layout.bundle_file(sha256(data), "model.ubj"), b"trees")
    return sha256(data)


def test_the_same_files_and_facts_are_the_same_bundle(store: Store, tmp_path: Path) -> None:
    first = bundles.publish(store, FILES, {"model": "m"})
    assert bundles.publish(store, dict(reversed(FILES.items())), {"model": "m"}) == first
    folder = bundles.fetch(store, first, tmp_path / "cache")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES} == FILES


def test_a_file_damaged_in_the_store_is_mended_by_publishing_again(store: Store, tmp_path: Path) -> None:
    digest = bundles.publish(store, FILES, {})
    store.write(layout.bundle_file(digest, "model.ubj"), b"")
    assert bundles.publish(store, FILES, {}) == digest
    assert (bundles.fetch(store, digest, tmp_path / "cache") / "model.ubj").read_bytes() == b"trees"


def test_a_cached_bundle_that_was_altered_is_fetched_again(store: Store, tmp_path: Path) -> None:
    digest = bundles.publish(store, FILES, {})
    (bundles.fetch(store, digest, tmp_path / "cache") / "model.ubj").write_bytes(b"treez")
    assert (bundles.fetch(store, digest, tmp_path / "cache") / "model.ubj").read_bytes() == b"trees"


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        pytest.param([], "malformed", id="a list"),
        pytest.param({"kind": "bundle", "version": 1}, "malformed", id="no files"),
        pytest.param({"kind": "bundle", "version": 1, "files": None}, "malformed", id="files are null"),
        pytest.param({"kind": "bundle", "version": 1, "files": ["model.ubj"]}, "malformed", id="files are a list"),
        pytest.param({"kind": "bundle", "version": 1, "files": {"model.ubj": 5}}, "malformed", id="entry is a number"),
        pytest.param({"kind": "bundle", "version": 2, "files": {"model.ubj": SOUND}}, "understand", id="too new"),
        pytest.param({"kind": "release", "version": 1, "files": {"model.ubj": SOUND}}, "understand", id="another kind"),
        pytest.param({"kind": "bundle", "version": 1, "files": {"../model.ubj": SOUND}}, "may hold", id="traversal"),
        pytest.param({"kind": "bundle", "version": 1, "files": {"model.pkl": SOUND}}, "may hold", id="pickle"),
        pytest.param({"kind": "bundle", "version": 1, "files": {"manifest.json": SOUND}}, "may hold", id="itself"),
        pytest.param(
            {"kind": "bundle", "version": 1, "files": {"model.ubj": {**SOUND, "size": 1 << 40}}}, "size", id="huge"
        ),
        pytest.param(
            {"kind": "bundle", "version": 1, "files": {"model.ubj": {**SOUND, "sha256": "0" * 64}}},
            "not the file",
            id="another digest",
        ),
        pytest.param({"kind": "bundle", "version": 1, "files": {"card.md": SOUND}}, "lacks", id="file is absent"),
    ],
)
def test_a_manifest_that_is_odd_is_refused(store: Store, tmp_path: Path, manifest: object, said: str) -> None:
    with pytest.raises(bundles.BundleError, match=said):
        bundles.fetch(store, _with_manifest(store, manifest), tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_a_link_in_the_cache_is_not_followed(store: Store, tmp_path: Path) -> None:
    digest = bundles.publish(store, FILES, {})
    folder = bundles.fetch(store, digest, tmp_path / "cache")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"trees")
    (folder / "model.ubj").unlink()
    (folder / "model.ubj").symlink_to(elsewhere)
    with pytest.raises(bundles.BundleError):
        bundles.verify_folder(folder, digest)


@pytest.mark.parametrize("name", ["model.pkl", "a/b.json", ".hidden.json", "model", "MODEL.ubj", "x" * 60 + ".json"])
def test_a_file_that_a_bundle_may_not_hold_is_not_published(store: Store, name: str) -> None:
    with pytest.raises(bundles.BundleError, match="may hold"):
        bundles.publish(store, {name: b""}, {})


@pytest.mark.parametrize("digest", ["../precious", "", "A" * 64], ids=["traversal", "empty", "capitals"])
def test_what_is_no_digest_never_becomes_a_path(store: Store, tmp_path: Path, digest: str) -> None:
    (tmp_path / "precious").mkdir()
    with pytest.raises(bundles.BundleError, match="is not the digest of a bundle"):
        bundles.fetch(store, digest, tmp_path / "cache")
    assert (tmp_path / "precious").is_dir()
