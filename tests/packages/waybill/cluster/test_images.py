"""Which images are built, and when again."""

import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias
from unittest.mock import Mock

import pytest
from waybill.cluster import images
from waybill.cluster.images import Image
from waybill.cluster.node import STORE
from waybill.cluster.programs import Programs
from waybill.errors import PlatformError
from waybill.processes import Command, output
from waybill.progress import Stage
from waybill.project import Project
from waybill.shop import Json


@pytest.mark.parametrize(
    ("written", "full"),
    [
        ("postgres:18", "docker.io/library/postgres:18"),
        ("waybill/orders:1.2", "docker.io/waybill/orders:1.2"),
        ("ghcr.io/acme/orders:1.2", "ghcr.io/acme/orders:1.2"),
        ("localhost/waybill/orders:dev", "localhost/waybill/orders:dev"),
        ("registry:5000/orders", "registry:5000/orders"),
    ],
)
def test_a_name_is_read_as_a_container_runtime_reads_it(written: str, full: str) -> None:
    assert images.in_full(written) == full


@pytest.fixture
def image(tmp_path: Path) -> Image:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "app.py").write_text("print(1)\n")
    sources = [tmp_path / "sources"]
    return Image("app:1", tmp_path / "Dockerfile", tmp_path, {"SERVICE": "orders"}, sources)


def test_an_image_is_the_same_as_long_as_nothing_that_goes_into_it_changes(image: Image) -> None:
    before = image.fingerprint()
    (image.context / "README").write_text("not copied\n")
    cache = image.context / "sources" / "__pycache__"
    cache.mkdir()
    (cache / "app.pyc").write_bytes(b"1")
    assert image.fingerprint() == before


@pytest.mark.parametrize("file", ["Dockerfile", "sources/app.py", "sources/new.py"])
def test_an_image_is_another_when_something_that_goes_into_it_changes(
    image: Image, file: str
) -> None:
    before = image.fingerprint()
    (image.context / file).write_text("something else\n")
    assert image.fingerprint() != before


def test_an_image_is_another_when_a_file_moves(image: Image) -> None:
    sources = image.context / "sources"
    before = image.fingerprint()
    (sources / "deeper").mkdir()
    (sources / "app.py").rename(sources / "deeper" / "app.py")
    assert image.fingerprint() != before


Ensure: TypeAlias = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def ensure(checkout: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ensure:
    """Builds images of the given versions, all but those that fail; which it set about."""
    begun: list[str] = []
    failing: list[str] = []

    async def build(_: object, image: Image) -> None:
        begun.append(image.name)
        if image.name in failing:
            raise PlatformError("does not build")
        add_to_layout(image.name)

    async def nothing(*_: object) -> list[str]:
        return []

    async def ensure(*fails: str, **versions: str) -> list[str]:
        made = [Image(n, tmp_path / "run.yaml", tmp_path, version=v) for n, v in versions.items()]
        monkeypatch.setattr(images, "_images", Mock(return_value=made))
        begun[:], failing[:] = [], fails
        await images.ensure(checkout, Programs({"buildah": tmp_path}), Stage(name="Images"))
        return sorted(begun)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "CERTIFICATES", tmp_path / "run.yaml")
    monkeypatch.setattr(images, "_debootstrap", nothing)
    monkeypatch.setattr(images, "_named_by", nothing)
    monkeypatch.setattr("waybill.cluster.images._Builder.build", build)
    monkeypatch.setattr("waybill.cluster.images._Builder.run", as_anybody)
    monkeypatch.setattr(images, "_UNPACK", _COPY)
    return ensure


_COPY = """
    cp -r "$2/." "$1"
    mkdir "$1/metadata"
    touch "$1/metadata/meta.db"
"""
"""What takes a containerd and root otherwise."""


async def as_anybody(_: object, *argv: str) -> None:
    await output(*argv[argv.index("sh") :])


def add_to_layout(name: str) -> None:
    blobs = images.layout() / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    known = hashlib.sha256(name.encode()).hexdigest()
    digest = f"sha256:{known}"
    (blobs / known).write_text(json.dumps({"config": {"digest": digest}, "layers": []}))
    (images.layout() / "oci-layout").touch()
    index = images.layout() / "index.json"
    entries: list[Json] = json.loads(index.read_text())["manifests"] if index.exists() else []
    entry = {"digest": digest, "annotations": {"org.opencontainers.image.ref.name": name}}
    others = [entry for entry in entries if entry["digest"] != digest]
    index.write_text(json.dumps({"manifests": [*others, entry]}))


async def test_only_what_has_changed_is_built(ensure: Ensure) -> None:
    assert await ensure(a="1", b="1") == ["a", "b"]
    assert await ensure(a="1", b="2") == ["b"]
    assert await ensure(a="1", b="2") == []


async def test_all_are_built_anew_on_another_base(ensure: Ensure) -> None:
    base = "docker.io/library/python:3.11-slim-bookworm"
    await ensure(a="1", **{base: "1"})
    assert await ensure(a="1", **{base: "1"}) == []
    assert await ensure(a="1", **{base: "2"}) == ["a", base]


async def test_an_image_of_a_build_that_failed_elsewhere_is_not_taken_for_its_former_self(
    ensure: Ensure,
) -> None:
    await ensure(a="1", b="1")
    with pytest.raises(PlatformError, match="does not build"):
        await ensure("a", a="2", b="2")
    assert await ensure(a="1", b="1") == ["a", "b"]


async def test_what_was_built_before_a_failure_is_not_built_again(ensure: Ensure) -> None:
    with pytest.raises(PlatformError, match="does not build"):
        await ensure("b", a="1", b="1")
    assert await ensure(a="1", b="1") == ["b"]
    index = json.loads((images.layout() / "index.json").read_text())
    assert all("io.containerd.image.name" in e["annotations"] for e in index["manifests"])


@pytest.mark.parametrize("file", ["images.json", "images/index.json"])
async def test_what_cannot_be_read_is_built_anew(ensure: Ensure, file: str) -> None:
    await ensure(a="1", b="1")
    (images.layout().parent / file).write_text('{"cut of')
    assert await ensure(a="1", b="1") == ["a", "b"]


def provided(checkout: Project) -> list[Path]:
    """The images that the cluster of a checkout gets."""
    return list((checkout.state / STORE / "blobs" / "sha256").iterdir())


def unpacked() -> list[Path]:
    """What is kept for clusters to come."""
    return [path for path in (images.layout().parent / "unpacked").iterdir() if path.is_dir()]


async def test_a_cluster_gets_the_images_unpacked(ensure: Ensure, checkout: Project) -> None:
    await ensure(a="1", b="1")
    assert [file.stat().st_nlink for file in provided(checkout)] == [2, 2]


async def test_they_are_unpacked_once(ensure: Ensure, checkout: Project) -> None:
    await ensure(a="1")
    [image] = [file.stat().st_ino for file in provided(checkout)]
    await ensure(a="1")
    assert [file.stat().st_ino for file in provided(checkout)] == [image]


async def test_a_cluster_on_another_file_system_gets_copies(
    ensure: Ensure, checkout: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TemporaryDirectory(dir="/dev/shm") as elsewhere:
        assert Path(elsewhere).stat().st_dev != checkout.root.stat().st_dev  # noqa: ASYNC240  # at once
        monkeypatch.setenv("XDG_CACHE_HOME", elsewhere)
        await ensure(a="1", b="1")
    assert [file.stat().st_nlink for file in provided(checkout)] == [1, 1]


async def test_what_one_cluster_writes_into_its_databases_no_other_reads(
    ensure: Ensure, checkout: Project
) -> None:
    await ensure(a="1")
    database = checkout.state / STORE / "metadata" / "meta.db"
    database.write_text("of a pod")
    await ensure(a="1")
    assert database.read_text() == ""


async def test_a_checkout_keeps_its_images_whatever_others_build(
    ensure: Ensure, checkout: Project
) -> None:
    await ensure(a="1", b="1")
    shutil.rmtree(images.layout())
    for folder in unpacked():
        shutil.rmtree(folder)
    assert len(provided(checkout)) == 2


async def test_an_image_that_is_gone_is_gone_from_the_checkout_too(
    ensure: Ensure, checkout: Project
) -> None:
    await ensure(a="1", b="1")
    await ensure(a="1")
    assert len(provided(checkout)) == len(unpacked()) == 1


async def test_other_certificates_make_another_root_file_system(
    ensure: Ensure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bundle in ("one", "one", "other"):
        (tmp_path / "bundle").write_text(bundle)
        monkeypatch.setattr(images, "CERTIFICATES", tmp_path / "bundle")
        await ensure(a="1")
    assert len(list(images.layout().parent.glob("rootfs-*"))) == 2


async def test_what_builds_keeps_its_caches_with_ours(
    checkout: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Command] = []

    async def take_note(command: Command, _: float) -> int:
        asked.append(command)
        return 1

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "CERTIFICATES", tmp_path / "run.yaml")
    monkeypatch.setattr(images, "run", take_note)
    with pytest.raises(PlatformError, match="failed"):
        await images.ensure(checkout, Programs({"buildah": tmp_path}), Stage(name="Images"))
    temporary = asked[0].env["TMPDIR"]
    assert os.access(temporary, os.W_OK)
    assert temporary.startswith(str(tmp_path / "cache" / "waybill"))
