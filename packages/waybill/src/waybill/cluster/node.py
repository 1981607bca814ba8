"""The processes that make a node and its control plane, and how each is told to behave."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from waybill.cluster import certificates
from waybill.cluster.kubectl import Kubectl
from waybill.cluster.namespaces import (
    CLUSTER_DNS,
    NODE,
    NODE_ADDRESS,
    NODE_INTERFACE,
    PODS,
    SERVICES,
    cgroup,
)
from waybill.cluster.programs import Programs
from waybill.ports import HOST
from waybill.processes import Command, Supervised
from waybill.project import Project
from waybill.waiting import Condition, all_listen, answers

API_PORT = 6443
PAUSE_IMAGE = "localhost/waybill/pause:local"
CONTAINERD = "/run/containerd/containerd.sock"
STORE = Path("containerd")
"""Within the state: where containerd keeps its images, and what it makes of them."""

_API_SERVICE = "10.96.0.1"
_ETCD = f"http://{HOST}:12379"
_ETCD_PEER = f"http://{HOST}:12380"
_METRICS_PORT = 4443
_POLICIES_HEALTH_PORT = 9099
_VOLUMES = 4
_PLUGINS = "network-plugins"
_FILES = Path(__file__).parent / "node_files"


class Node:
    def __init__(self, project: Project, programs: Programs) -> None:
        self._project = project
        self._programs = programs
        self._keys = project.state / "pki"
        self._files = project.state / "node_files"

    @property
    def kubeconfig(self) -> Path:
        return self._kubeconfig("admin")

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self._programs["kubectl"], ["--kubeconfig", str(self.kubeconfig)])

    def make_keys(self) -> None:
        certificates.make(self._keys, NODE, NODE_ADDRESS, _API_SERVICE, API_PORT)

    def etcd(self) -> Supervised:
        options = {
            "data-dir": self._project.state / "etcd",
            "listen-client-urls": _ETCD,
            "advertise-client-urls": _ETCD,
            "listen-peer-urls": _ETCD_PEER,
            "initial-advertise-peer-urls": _ETCD_PEER,
            "initial-cluster": f"default={_ETCD_PEER}",
        }
        # Nobody will ever want these data back.
        return self._process("etcd", options, answers(f"{_ETCD}/health"), ["--unsafe-no-fsync"])

    def api_server(self) -> Supervised:
        options = {
            "etcd-servers": _ETCD,
            "secure-port": API_PORT,
            "advertise-address": NODE_ADDRESS,
            "service-cluster-ip-range": SERVICES,
            "allow-privileged": "true",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "client-ca-file": self._key("ca.crt"),
            "tls-cert-file": self._key("apiserver.crt"),
            "tls-private-key-file": self._key("apiserver.key"),
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": self._key("service-accounts.pub"),
            "service-account-signing-key-file": self._key("service-accounts.key"),
            "kubelet-client-certificate": self._key("apiserver-kubelet.crt"),
            "kubelet-client-key": self._key("apiserver-kubelet.key"),
            "kubelet-certificate-authority": self._key("ca.crt"),
            "kubelet-preferred-address-types": "InternalIP",
            # The front proxy is how the API server vouches for users to metrics-server.
            "requestheader-client-ca-file": self._key("front-proxy-ca.crt"),
            "requestheader-allowed-names": "front-proxy",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-username-headers": "X-Remote-User",
            "proxy-client-cert-file": self._key("front-proxy.crt"),
            "proxy-client-key-file": self._key("front-proxy.key"),
        }
        return self._process("kube-apiserver", options, self.kubectl.answers)

    def controller_manager(self) -> Supervised:
        options = {
            **self._access("controller-manager"),
            "leader-elect": "false",
            "use-service-account-credentials": "true",
            "service-account-private-key-file": self._key("service-accounts.key"),
            "root-ca-file": self._key("ca.crt"),
            "cluster-signing-cert-file": self._key("ca.crt"),
            "cluster-signing-key-file": self._key("ca.key"),
            "service-cluster-ip-range": SERVICES,
            "flex-volume-plugin-dir": self._project.state / "volume-plugins",
            # Looked at often, or a test of scaling would take minutes.
            "horizontal-pod-autoscaler-sync-period": "5s",
        }
        return self._process("kube-controller-manager", options, all_listen(10257))

    def scheduler(self) -> Supervised:
        options = {**self._access("scheduler"), "leader-elect": "false"}
        return self._process("kube-scheduler", options, all_listen(10259))

    def containerd(self) -> Supervised:
        self._plug_in()
        self._fill_in("pods.conflist")
        configuration = self._fill_in("containerd.toml")

        async def is_up() -> bool:
            process = await asyncio.create_subprocess_exec(
                *("ctr", "--address", CONTAINERD, "version"),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            return await process.wait() == 0

        return self._process("containerd", {"config": configuration}, is_up)

    def kubelet(self) -> Supervised:
        configuration = self._fill_in("kubelet.yaml")
        options = {
            "config": configuration,
            "kubeconfig": self._kubeconfig("kubelet"),
            "root-dir": self._project.state / "kubelet",
            "cert-dir": self._project.state / "kubelet" / "pki",
            "hostname-override": NODE,
            "node-ip": NODE_ADDRESS,
            # The autoscaler sees no newer figures than the kubelet's.
            "housekeeping-interval": "5s",
        }
        return self._process("kubelet", options, answers(f"http://{HOST}:10248/healthz"))

    def proxy(self) -> Supervised:
        options = {
            "kubeconfig": self._kubeconfig("proxy"),
            "hostname-override": NODE,
            "cluster-cidr": PODS,
            "proxy-mode": "iptables",
            # Settings of the whole machine, left as they are.
            "conntrack-max-per-core": 0,
            "conntrack-tcp-timeout-established": "0s",
            "conntrack-tcp-timeout-close-wait": "0s",
            "healthz-bind-address": f"{HOST}:10256",
            "metrics-bind-address": f"{HOST}:10249",
        }
        return self._process("kube-proxy", options, answers(f"http://{HOST}:10256/livez"))

    def policies(self) -> Supervised:
        """Has the kernel drop what no NetworkPolicy lets through."""
        settings = {
            "DATASTORETYPE": "kubernetes",
            "FELIXHOSTNAME": NODE,
            "IPTABLESBACKEND": "NFT",
            # DNS and the API server stand beside the pods, on the node.
            "DEFAULTENDPOINTTOHOSTACTION": "ACCEPT",
            "MTUIFACEPATTERN": NODE_INTERFACE,
            "IPV6SUPPORT": "false",
            "USAGEREPORTINGENABLED": "false",
            "LOGSEVERITYSCREEN": "Warning",
            "LOGFILEPATH": "none",
            # Built without libbpf, which that would need.
            "DebugSkipCTLBCleanup": "true",
            "HEALTHENABLED": "true",
            "HEALTHHOST": HOST,
            "HEALTHPORT": str(_POLICIES_HEALTH_PORT),
        }
        access = {"KUBECONFIG": str(self._kubeconfig("admin"))}
        env = access | {f"FELIX_{name}": value for name, value in settings.items()}
        ready = answers(f"http://{HOST}:{_POLICIES_HEALTH_PORT}/readiness")
        return self._process("calico-felix", {}, ready, env=env)

    def dns(self) -> Supervised:
        return self._process(
            "coredns", {"conf": self._fill_in("Corefile")}, answers(f"http://{HOST}:8181/ready")
        )

    def metrics(self) -> Supervised:
        admin = self._kubeconfig("admin")
        options = {
            "kubeconfig": admin,
            "authentication-kubeconfig": admin,
            "authorization-kubeconfig": admin,
            "secure-port": _METRICS_PORT,
            "cert-dir": self._project.state / "metrics-server",
            "kubelet-preferred-address-types": "InternalIP",
            "kubelet-certificate-authority": self._key("ca.crt"),
            "metric-resolution": "10s",
            "kubelet-request-timeout": "5s",
        }
        return self._process("metrics-server", options, all_listen(_METRICS_PORT))

    async def introduce(self) -> None:
        """Makes the processes beside the API server known to the cluster, and some volumes."""
        for number in range(1, 1 + _VOLUMES):
            (self._project.state / "volumes" / str(number)).mkdir(parents=True)
        kinds = ("--filename", str(self._programs.calico_kinds))
        await self.kubectl.run("apply", "--server-side", *kinds)
        await self.kubectl.run("wait", "--for=condition=Established", *kinds)
        await self.kubectl.run("apply", "--filename", str(self._fill_in("objects.yaml")))

    async def is_ready(self) -> bool:
        node = await self.kubectl.get("node", NODE, "--ignore-not-found")
        conditions = node["status"].get("conditions", ()) if node else ()
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def _process(
        self,
        name: str,
        options: Mapping[str, Any],
        ready: Condition,
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Supervised:
        dash = "-" if name == "coredns" else "--"
        given = [part for key, value in options.items() for part in _option(dash, key, value)]
        command = Command(
            argv=[self._programs[name], *given, *flags],
            cwd=self._project.root,
            env={**os.environ, "GOMAXPROCS": "2", **(env or {})},
            log=self._project.log(name),
        )
        return Supervised(name, command, ready)

    def _plug_in(self) -> None:
        """All network plugins into the one folder that is looked into."""
        folder = self._project.state / _PLUGINS
        folder.mkdir(exist_ok=True)
        for plugin in self._programs.network_plugins:
            (folder / plugin.name).symlink_to(plugin)

    def _access(self, client: str) -> dict[str, Any]:
        kubeconfig = self._kubeconfig(client)
        return {
            "kubeconfig": kubeconfig,
            "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig,
            "bind-address": HOST,
        }

    def _key(self, name: str) -> Path:
        return self._keys / name

    def _kubeconfig(self, client: str) -> Path:
        return self._key(f"{client}.kubeconfig")

    def _fill_in(self, name: str) -> Path:
        """One of the files beside this module, with what it leaves open."""
        text = Template((_FILES / name).read_text()).substitute(
            state=self._project.state,
            keys=self._keys,
            files=self._files,
            containerd=CONTAINERD,
            store=self._project.state / STORE,
            pause=PAUSE_IMAGE,
            plugins=self._project.state / _PLUGINS,
            runc=self._programs["runc"],
            node=NODE,
            cgroup=cgroup(self._project),
            address=NODE_ADDRESS,
            pods=PODS,
            dns=CLUSTER_DNS,
            api_port=API_PORT,
            metrics_port=_METRICS_PORT,
        )
        self._files.mkdir(exist_ok=True)
        (self._files / name).write_text(text)
        return self._files / name


def _option(dash: str, name: str, value: object) -> list[str]:
    return [f"{dash}{name}", str(value)] if dash == "-" else [f"{dash}{name}={value}"]
