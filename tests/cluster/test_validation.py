"""The API server refuses manifests that are wrong, with where and why."""

import pytest
from waybill.cluster.testing import Cluster
from waybill.errors import PlatformError

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(60)]

BROKEN = {
    "Component without metadata": (
        """
        {apiVersion: dapr.io/v1alpha1, kind: Component, metadata: {name: broken},
         spec: {type: state.redis, version: v1}}
        """,
        r"spec.metadata: Required value",
    ),
    "Configuration with a wrong type": (
        """
        {apiVersion: dapr.io/v1alpha1, kind: Configuration, metadata: {name: broken},
         spec: {tracing: {samplingRate: 1}}}
        """,
        r"samplingRate: Invalid value",
    ),
    "HTTPEndpoint without an address": (
        """
        {apiVersion: dapr.io/v1alpha1, kind: HTTPEndpoint, metadata: {name: broken}, spec: {}}
        """,
        r"spec.baseUrl: Required value",
    ),
    "Resiliency with a wrong number": (
        """
        {apiVersion: dapr.io/v1alpha1, kind: Resiliency, metadata: {name: broken},
         spec: {policies: {retries: {brief: {policy: constant, maxRetries: many}}}, targets: {}}}
        """,
        r"maxRetries: Invalid value",
    ),
    "Subscription with a misspelt field": (
        """
        {apiVersion: dapr.io/v2alpha1, kind: Subscription, metadata: {name: broken},
         spec: {pubsubname: pubsub, topic: events, routes: {default: /events}, bulkSubscribed: {}}}
        """,
        r'unknown field "spec.bulkSubscribed"',
    ),
    "Deployment whose selector misses its pods": (
        """
        {apiVersion: apps/v1, kind: Deployment, metadata: {name: broken},
         spec: {selector: {matchLabels: {app: one}},
                template: {metadata: {labels: {app: other}},
                           spec: {containers: [{name: app, image: app}]}}}}
        """,
        r"`selector` does not match template `labels`",
    ),
    "Service without ports": (
        """
        {apiVersion: v1, kind: Service, metadata: {name: broken}, spec: {selector: {app: one}}}
        """,
        r"spec.ports: Required value",
    ),
    "NetworkPolicy with a port out of range": (
        """
        {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: broken},
         spec: {podSelector: {}, ingress: [{ports: [{port: 70000}]}]}}
        """,
        r"port: Invalid value",
    ),
    "PodDisruptionBudget that says both": (
        """
        {apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: broken},
         spec: {minAvailable: 1, maxUnavailable: 1, selector: {}}}
        """,
        r"minAvailable and maxUnavailable cannot be both set",
    ),
    "HorizontalPodAutoscaler of less than nothing": (
        """
        {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: broken},
         spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: gateway},
                minReplicas: 3, maxReplicas: 1}}
        """,
        r"maxReplicas: Invalid value",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_manifest_is_refused(cluster: Cluster, what: str) -> None:
    manifest, reason = BROKEN[what]
    with pytest.raises(PlatformError, match=reason):
        await cluster.run("apply", "--dry-run=server", "--filename", "-", stdin=manifest)
