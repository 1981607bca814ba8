# Stands in for the official image: the Valkey that `waybill up` runs.
FROM docker.io/library/python:3.11-slim-bookworm
COPY --chmod=755 valkey-server /usr/local/bin/valkey-server
USER 999
CMD ["valkey-server"]
