"""What the cluster's tests see of it, and do to it."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any, TypeAlias
from uuid import uuid4

import aiohttp

from waybill.cluster.deploy import NAMESPACE
from waybill.cluster.kubectl import Kubectl
from waybill.shop import Json, Person, Refused, Shop
from waybill.waiting import until

_PAUSE_SECONDS = 0.5
_READY_SECONDS = 120
_PAGE_SIZE = 100


class Cluster:
    """The namespace that the platform runs in."""

    def __init__(self) -> None:
        self._kubectl = Kubectl("kubectl", ["--namespace", NAMESPACE])
        self.run = self._kubectl.run
        self.get = self._kubectl.get

    async def pods(self, app: str) -> list[Json]:
        """Those that are not on their way out."""
        found = await self.get("pods", "--selector", f"app.kubernetes.io/name={app}")
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    async def pod(self, app: str) -> Json:
        [pod] = await self.pods(app)
        return pod

    async def sidecar(self, app: str, path: str) -> tuple[int, Any]:
        """What a sidecar answers to a GET by its service: the status, the JSON."""
        answer = await self.inside(app, "python", "-c", _ASK_SIDECAR, path)
        status, _, body = answer.partition(" ")
        return int(status), json.loads(body)

    async def inside(self, app: str, *argv: str, container: str = "app") -> str:
        """What a command prints that runs in a container, by default the service's.

        In whichever pod is ready: of some there may be more than one.
        """
        [pod, *_] = filter(is_ready, await self.pods(app))
        name = pod["metadata"]["name"]
        return await self.run("exec", name, "--container", container, "--", *argv)

    async def kill(self, app: str, container: str) -> None:
        """`kill -9` for the first process of a container, whose pod stays."""
        pod = await self.pod(app)
        before = restarts(pod, container)
        await asyncio.to_thread(_kill, container_id(pod, container))

        async def is_back() -> bool:
            now = await self.pod(app)
            return restarts(now, container) > before and is_ready(now)

        await until(is_back, seconds=_READY_SECONDS, every=0.5)

    async def delete(self, pod: Json, *options: str) -> None:
        await self.run("delete", "pod", pod["metadata"]["name"], "--wait=false", *options)

    async def evict(self, pod: str) -> None:
        """As a drain of its node does it: by the budgets."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": NAMESPACE},
        }
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
        await self.run("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))

    async def scale(self, app: str, replicas: int) -> None:
        await self.run("scale", f"deployment/{app}", f"--replicas={replicas}")
        await self.rolled_out(f"deployment/{app}")

    async def rolled_out(self, workload: str) -> None:
        """Returns when every pod of a deployment or stateful set is new and ready."""
        timeout = f"--timeout={_READY_SECONDS}s"
        await self.run("rollout", "status", workload, timeout, seconds=_READY_SECONDS + 10)


_ASK_SIDECAR = """\
import os, sys, urllib.error, urllib.request
request = urllib.request.Request("http://127.0.0.1:3500" + sys.argv[1])
request.add_header("dapr-api-token", os.environ["DAPR_API_TOKEN"])
try:
    answer = urllib.request.urlopen(request, timeout=30)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, (answer.read() or b"null").decode())
"""


def statuses(pod: Json) -> dict[str, Json]:
    """Of all containers, a sidecar that is an init container included."""
    status = pod["status"]
    every = (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ()))
    return {container["name"]: container for container in every}


def is_ready(pod: Json) -> bool:
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True"


def restarts(pod: Json, container: str) -> int:
    return statuses(pod)[container]["restartCount"]


def container_id(pod: Json, container: str) -> str:
    return statuses(pod)[container]["containerID"].removeprefix("containerd://")


def _kill(container: str) -> None:
    ctr = ("ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)
    subprocess.run(ctr, check=True)  # noqa: S603  # in a cluster that the test owns


@dataclass
class Crowd:
    """Customers who buy without a pause. Each request is sent once: nobody insists."""

    shop: Shop
    customers: Sequence[Person]
    accepted: list[str] = field(default_factory=list[str])
    failures: list[str] = field(default_factory=list[str])

    async def buy(self, number: int) -> None:
        customer = self.customers[number % len(self.customers)]
        items = [{"sku": f"SKU-000{1 + number % 5}", "quantity": 1}]
        try:
            order = await self.shop.order(customer, items, key=str(uuid4()))
        except (Refused, aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
        else:
            self.accepted.append(order["id"])

    async def shopping(self) -> None:
        number = 0
        while True:
            await self.buy(number)
            number += 1
            await asyncio.sleep(_PAUSE_SECONDS)

    async def goes_on(self, orders: int = 3) -> None:
        """Returns when so many more have been accepted."""
        enough = len(self.accepted) + orders

        async def is_enough() -> bool:
            return len(self.accepted) >= enough

        await until(is_enough, seconds=_READY_SECONDS)

    async def all_tracked(self) -> bool:
        lists = await asyncio.gather(*map(self._orders, self.customers))
        tracked = {order["id"] for order in chain(*lists) if order["tracking_number"]}
        return tracked.issuperset(self.accepted)

    async def _orders(self, customer: Person) -> list[Json]:
        orders: list[Json] = []
        for number in count(1):
            path = f"orders?page={number}&page_size={_PAGE_SIZE}"
            page = await self.shop.ask("GET", path, person=customer)
            orders += page["items"]
            if len(page["items"]) < _PAGE_SIZE:
                break
        return orders


Shopping: TypeAlias = Callable[[], AbstractAsyncContextManager[Crowd]]


def pod_of_a_test(
    name: str, annotations: Mapping[str, str] | None = None, **container: object
) -> str:
    """A manifest that the namespace admits; by default it stays until it is deleted."""
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    unprivileged = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    app = {
        "name": "app",
        "image": "localhost/waybill/users:dev",
        "imagePullPolicy": "Never",
        "command": ["sleep", "infinity"],
        "securityContext": own,
    }
    labels = {"app.kubernetes.io/name": name}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "annotations": dict(annotations or {})},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": False,
                "securityContext": unprivileged,
                "containers": [{**app, **container}],
            },
        }
    )
