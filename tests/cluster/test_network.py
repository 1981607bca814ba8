"""The NetworkPolicies, as the kernel enforces them: who reaches whom, tried with every pair."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence

import pytest
from k8s.reachability import INSIDE, OUTSIDE, Edge, Pod
from waybill.cluster.testing import Cluster, pod_of_a_test
from waybill.project import Project

from k8s import reachability

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(180)]

NAME = "app.kubernetes.io/name"
STAND_INS = ("mail", "provider")
STRANGERS = [
    Pod("nobody", {NAME: "nobody"}),
    *(pod for pod in OUTSIDE if pod.name in {"edge", "stranger"}),
]
"""Pods of a test: one that no policy knows, and two in other namespaces, where one has the label
of the gateway and the other is what the gateway is open to."""

KNOCK = """\
import asyncio, json, sys

async def is_open(address, port):
    try:
        async with asyncio.timeout(2):
            await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return True  # nobody listens, but somebody answers
    except (OSError, TimeoutError):
        return False
    return True

async def knock(doors):
    return await asyncio.gather(*(is_open(address, port) for _, address, port in doors))

doors = json.loads(sys.argv[1])
opened = asyncio.run(knock(doors))
print(json.dumps([[name, port] for (name, _, port), it in zip(doors, opened) if it]))
"""


@pytest.fixture(scope="module")
async def strangers(cluster: Cluster) -> AsyncGenerator[Sequence[Pod]]:
    try:
        async with asyncio.TaskGroup() as group:
            for pod in STRANGERS:
                group.create_task(arrive(cluster, pod))
        yield STRANGERS
    finally:
        await asyncio.gather(*(leave(cluster, pod) for pod in STRANGERS))


def called(pod: Pod) -> str:
    return pod.labels.get(NAME, pod.name)


async def arrive(cluster: Cluster, pod: Pod) -> None:
    there = ("--namespace", pod.namespace)
    if pod.namespace_labels:
        metadata = {"name": pod.namespace, "labels": dict(pod.namespace_labels)}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        await cluster.run("apply", "--filename", "-", stdin=json.dumps(namespace))
    await cluster.run("apply", *there, "--filename", "-", stdin=pod_of_a_test(called(pod)))
    ready = ("--for=condition=Ready", f"pod/{called(pod)}", "--timeout=50s")
    await cluster.run("wait", *there, *ready)


async def leave(cluster: Cluster, pod: Pod) -> None:
    at_once = ("--grace-period=0", "--force", "--ignore-not-found")
    await cluster.run("delete", "--namespace", pod.namespace, "pod", called(pod), *at_once)
    if pod.namespace_labels:
        gone = ("--wait=false", "--ignore-not-found")
        await cluster.run("delete", "namespace", pod.namespace, *gone)


async def test_pods_reach_each_other_where_a_policy_opens_it_and_nowhere_else(
    platform: Project, cluster: Cluster, strangers: Sequence[Pod]
) -> None:
    """What is enforced is what is worked out from the policies: neither may be wrong alone."""
    found = await cluster.get("networkpolicies,deployments,statefulsets")
    targets = {pod.name: pod for pod in reachability.pods(found["items"])}
    pods = {name: (await cluster.pods(name))[0] for name in targets}
    addresses = {name: pod["status"]["podIP"] for name, pod in pods.items()}
    containers = {app.name: "app" for app in platform.apps} | dict.fromkeys(STAND_INS, "stand-in")
    sources = [
        *((name, pods[name]["metadata"]["name"], c, INSIDE) for name, c in containers.items()),
        *((pod.name, called(pod), "app", pod.namespace) for pod in strangers),
    ]

    async def reached(name: str, pod: str, container: str, namespace: str) -> set[Edge]:
        """The doors that open for a pod."""
        doors = json.dumps(doors_of(targets, addresses, name))
        inside = ("exec", "--namespace", namespace, pod, "--container", container, "--")
        opened = await cluster.run(*inside, "python", "-c", KNOCK, doors)
        return {Edge(name, target, port) for target, port in json.loads(opened)}

    seen = await asyncio.gather(*(reached(*source) for source in sources))

    names = {name for name, *_ in sources}
    inside = [pod for pod in strangers if pod.namespace == INSIDE]
    assert sorted(set[Edge]().union(*seen)) == sorted(
        edge
        for edge in reachability.edges(found["items"], *inside)
        if edge.source in names and edge.target in targets
    )


def doors_of(
    targets: Mapping[str, Pod], addresses: Mapping[str, str], visitor: str
) -> list[tuple[str, str, int]]:
    return [
        (pod.name, addresses[pod.name], port)
        for pod in targets.values()
        for port in pod.ports.values()
        if pod.name != visitor
    ]
