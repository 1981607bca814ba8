# Holds the namespaces of a pod. Out of layers that are there anyway.
FROM docker.io/library/python:3.11-slim-bookworm
USER 65532
ENTRYPOINT ["sleep", "infinity"]
