"""The world that a cluster lives in: its own network, mounts, processes and host name.

Nothing in it has a way out, and it ends with its first process. Three things of the machine are
shared all the same: its kernel's settings, which are shown to the kubelet as it would set them; the
cgroups, which `end` clears away; and its files, of which those that the programs of a node write
outside of the state are hidden, or told to be within it.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from waybill import leftovers
from waybill.errors import PlatformError
from waybill.processes import tied
from waybill.project import Project

STATE = Path(".waybill/cluster")
"""Within a checkout, as seen from outside of the cluster."""

NODE = "node"
NODE_ADDRESS = "10.240.0.10"
NODE_INTERFACE = "node0"
CLUSTER_DNS = "10.96.0.10"
SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/24"

_CGROUPS = Path("/sys/fs/cgroup")

_HIDDEN = ("/run", "/var/log", "/var/lib/calico", "/var/lib/cni", "/var/lib/kubelet")
_DEFAULTS = (
    *("/etc/calico", "/etc/cni", "/opt/cni", "/opt/containerd", "/usr/libexec/kubernetes"),
    *("/var/lib/calico", "/var/lib/cni", "/var/lib/containerd", "/var/lib/etcd"),
    "/var/lib/kubelet",
)
"""Where those programs write unless they are kept from it."""
_UNTOUCHED = "untouched"

_MOUNTS = Path("/proc/self/mounts")
_CGROUPS_SECONDS = 5
_PAUSE_SECONDS = 0.05

_TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""What the kubelet insists on, and would change for the whole machine."""


def enter(project: Project) -> list[str]:
    """The start of a command line that opens the namespaces of a new cluster."""
    variables = leftovers.marks(project) | environment(project)
    return [
        *("unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork"),
        *("--kill-child=KILL", "--mount-proc", "--propagation", "private", "--"),
        *("env", *(f"{name}={value}" for name, value in variables.items())),
    ]


def environment(project: Project) -> dict[str, str]:
    """What leads kubectl to the cluster, inside."""
    state = Project(project.root).state
    return {
        "KUBECONFIG": str(state / "pki" / "admin.kubeconfig"),
        "KUBECACHEDIR": str(state / "kubectl"),
    }


def join(pid: int, folder: Path) -> list[str]:
    """The start of a command line that runs in the namespaces of a process, in `folder`.

    nsenter stands between it and us, and passes nothing on: what runs inside ends with it, and it
    ends with us. But Ctrl-C reaches all three, and is for what runs inside to answer.
    """
    options = ("--net", "--mount", "--pid", "--uts", "--ipc")
    enter = ("nsenter", "--target", str(pid), *options, f"--wdns={folder}", "--")
    deaf, hearing = ("env", "--ignore-signal=INT"), ("env", "--default-signal=INT")
    return [*tied(), *deaf, *enter, *hearing, *tied()]


def furnish(project: Project) -> None:
    """Done once, inside: files, network and settings as a node of a cluster wants them.

    From here on the cluster's state is seen where that of a platform of `waybill up` would be.
    """
    _mount("--bind", str(project.root / STATE), str(project.state))
    note_untouched(project.state)
    for folder in _HIDDEN:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "tmpfs", folder)
    Path("/run/calico").mkdir()  # there one of its programs tells the other what it has done
    _make_cgroups(project)
    _pin_tunables(project.state / "tunables")
    _replace("/etc/hosts", f"127.0.0.1 localhost\n{NODE_ADDRESS} {NODE}\n", project)
    _replace("/etc/resolv.conf", _RESOLVER, project)
    _mount("--make-rshared", "/")  # or the containers would not see the kubelet's volumes
    _network()


_RESOLVER = f"""\
nameserver {CLUSTER_DNS}
search svc.cluster.local cluster.local
options ndots:5
"""


def reap_until_exit(child: int) -> int:
    """The work of a first process: takes leave of orphans; the exit code of `child`."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def dissolve(project: Project) -> None:
    """Done last, by the first process: takes back what it can, should nobody call `end`."""
    if not is_first_process():
        raise RuntimeError("this would end every process of the machine")
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    _remove_cgroups(project)
    if str(project.state) in _mounts():
        _run("umount", "--lazy", str(project.state))  # with all that is mounted below it


def is_first_process() -> bool:
    return os.getpid() == 1


def end(project: Project) -> bool:
    """Kills every process of a cluster, and with its first one its namespaces; False: none ran."""
    members = list(_members(project))
    for process in members:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(members, timeout=10)
    _remove_cgroups(project)
    return bool(members)


def remains(project: Project) -> list[str]:
    """What is left of a cluster that has ended; nothing, if all is well."""
    return [
        *(f"process {process.pid}" for process in _members(project)),
        *(f"mount {place}" for place in _mounts() if place.startswith(f"{project.state}/")),
        *(f"cgroup {folder}" for folder in _cgroups(project)),
        *(f"folder {folder}" for folder in _touched(project)),
    ]


def _mounts() -> list[str]:
    """Where something is mounted; the kernel writes a space as an octal number."""
    lines = _MOUNTS.read_text().splitlines()
    return [line.split()[1].replace(r"\040", " ") for line in lines]


def note_untouched(state: Path) -> None:
    """Lists the default folders that have nothing in them at the start."""
    empty = [folder for folder in _DEFAULTS if _is_empty(Path(folder))]
    (state / _UNTOUCHED).write_text("\n".join(empty))


def _touched(project: Project) -> list[Path]:
    """Default folders with something in them that had nothing."""
    file = project.state / _UNTOUCHED
    before = file.read_text().splitlines() if file.exists() else []
    return [Path(folder) for folder in before if not _is_empty(Path(folder))]


def _is_empty(folder: Path) -> bool:
    return not folder.exists() or not any(folder.iterdir())


def _members(project: Project) -> Iterator[psutil.Process]:
    """By their mark; the kernel ends those without one, in containers, with the first process."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(leftovers.MARKER) == str(project.state):
                yield process


def first_process(project: Project) -> int:
    """The pid, as seen from outside, of the process that the namespaces stand and fall with."""
    for process in _members(project):
        with suppress(psutil.Error):
            if process.name() != "unshare" and _is_first(process.pid):
                return process.pid
    raise PlatformError("No cluster is running.", fix="waybill cluster up")


def _is_first(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("NSpid:")]
    return line.split()[-1] == "1" and len(line.split()) > 2  # noqa: PLR2004  # in two namespaces


def cgroup(project: Project) -> str:
    """The name of the cgroup, in each hierarchy, below which the kubelet makes all of its own."""
    return f"waybill-{hashlib.sha256(str(project.root).encode()).hexdigest()[:8]}"


def _hierarchies() -> list[Path]:
    """One for each kind of resource, or one for all."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _cgroups(project: Project) -> list[Path]:
    found = [hierarchy / cgroup(project) for hierarchy in _hierarchies()]
    return [path for path in found if path.is_dir()]


def _make_cgroups(project: Project) -> None:
    for hierarchy in _hierarchies():
        with suppress(OSError):  # some hold processes only: the kubelet does not ask for them
            (hierarchy / cgroup(project)).mkdir()
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if hierarchy.name == "cpuset":
                parent = (hierarchy / setting).read_text()
                (hierarchy / cgroup(project) / setting).write_text(parent)


def _remove_cgroups(project: Project) -> None:
    """The kernel may be busy with one for a moment; `remains` tells if it stays."""
    deadline = time.monotonic() + _CGROUPS_SECONDS
    _try_to_remove(_cgroups(project))
    while (left := _cgroups(project)) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
        _try_to_remove(left)


def _try_to_remove(cgroups: Iterable[Path]) -> None:
    for top in cgroups:
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()


def _pin_tunables(folder: Path) -> None:
    for name, value in _TUNABLES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        _mount("--bind", str(file), f"/proc/sys/{name}")


def _replace(name: str, content: str, project: Project) -> None:
    """Shows another file in the place of one; a link may point into the `/run` that was."""
    file = project.state / "files" / Path(name).name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    target = Path(name).resolve()
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount("--bind", str(file), str(target))


def _network() -> None:
    """The node's address is on a bridge, which has a carrier once something is plugged in."""
    _run("hostname", NODE)
    for line in f"""\
        link set lo up
        link add {NODE_INTERFACE} type bridge
        address add {NODE_ADDRESS}/24 dev {NODE_INTERFACE}
        link set {NODE_INTERFACE} up
        link add plug type veth peer name socket
        link set plug master {NODE_INTERFACE} up
        link set socket up
        route add default dev {NODE_INTERFACE}
    """.strip().splitlines():
        _run("ip", *line.split())
    if modprobe := shutil.which("modprobe"):
        # It may be part of the kernel instead.
        subprocess.run([modprobe, "overlay"], check=False, capture_output=True)  # noqa: S603  # argv is ours
    for name in ("ipv4/ip_forward", "ipv4/conf/all/route_localnet"):
        Path(f"/proc/sys/net/{name}").write_text("1\n")


def _mount(*arguments: str) -> None:
    _run("mount", *arguments)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=sys.stdout)  # noqa: S603  # argv is ours
