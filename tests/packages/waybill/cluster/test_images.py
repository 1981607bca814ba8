"""Which images are built, and when again."""

from pathlib import Path

import pytest
from waybill.cluster import images
from waybill.cluster.images import Image


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
