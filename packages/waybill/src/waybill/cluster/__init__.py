"""A Kubernetes cluster of one node in namespaces of its own, and what it takes to deploy to any."""
