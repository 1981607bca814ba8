"""Who may call whom, with identities that Dapr's sentry gave to pods."""

from collections.abc import AsyncGenerator

import pytest
from waybill.cluster.testing import Cluster, is_ready, pod_of_a_test
from waybill.waiting import until

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(180)]

SIDECAR = {
    "dapr.io/enabled": "true",
    "dapr.io/app-id": "stranger",
    "dapr.io/config": "waybill",
    "dapr.io/api-token-secret": "dapr-api-token",
    "dapr.io/disable-builtin-k8s-secret-store": "true",
    "dapr.io/enable-native-sidecar": "true",
    "dapr.io/sidecar-seccomp-profile-type": "RuntimeDefault",
    "dapr.io/sidecar-readiness-probe-delay-seconds": "1",
    "dapr.io/sidecar-readiness-probe-period-seconds": "2",
}
TOKEN = {
    "name": "DAPR_API_TOKEN",
    "valueFrom": {"secretKeyRef": {"name": "dapr-api-token", "key": "token"}},
}


LET_IN = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: from-stranger}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/component: service}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector:
            matchLabels: {app.kubernetes.io/name: stranger}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: stranger}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: stranger}
  policyTypes: [Egress]
  egress: [{}]
"""
"""The network alone would refuse it, and nobody would see whether Dapr does."""


@pytest.fixture(scope="module")
async def stranger(cluster: Cluster) -> AsyncGenerator[str]:
    """A pod in the same namespace, with a sidecar and an identity, that no access control knows."""
    pod = pod_of_a_test("stranger", SIDECAR, env=[TOKEN])
    await cluster.run("apply", "--filename", "-", stdin=LET_IN)
    await cluster.run("apply", "--filename", "-", stdin=pod)

    async def is_there() -> bool:
        return any(is_ready(pod) for pod in await cluster.pods("stranger"))

    await until(is_there, seconds=60)
    yield "stranger"
    await cluster.run("delete", "pod", "stranger", "--grace-period=0", "--force")
    await cluster.run("delete", "--filename", "-", stdin=LET_IN)


@pytest.mark.parametrize(
    "path", ["orders/method/internal/orders/events", "users/method/.well-known/jwks.json"]
)
async def test_a_pod_that_no_policy_names_is_refused(
    cluster: Cluster, stranger: str, path: str
) -> None:
    status, problem = await cluster.sidecar(stranger, f"/v1.0/invoke/{path}")
    assert status == 403
    assert problem["errorCode"] == "ERR_DIRECT_INVOKE"


async def test_a_pod_that_no_component_names_has_none(cluster: Cluster, stranger: str) -> None:
    _, metadata = await cluster.sidecar(stranger, "/v1.0/metadata")
    assert metadata.get("components", []) == []


async def test_a_service_may_call_only_what_its_policy_names(cluster: Cluster) -> None:
    jwks, _ = await cluster.sidecar("orders", "/v1.0/invoke/users/method/.well-known/jwks.json")
    users, _ = await cluster.sidecar("orders", "/v1.0/invoke/users/method/users")
    assert (jwks, users) == (200, 403)
