# One of Dapr's programs, where its chart looks for it.
FROM docker.io/library/python:3.11-slim-bookworm
ARG PROGRAM
COPY --chmod=755 $PROGRAM /$PROGRAM
USER 65532
