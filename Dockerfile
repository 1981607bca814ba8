# The image of one service: docker build --build-arg SERVICE=orders -t waybill/orders .
#
# Services that need the same packages share the layer that holds them, and on the same base the same sources make
# the same layers, byte for byte: nothing in them depends on when, where or with which umask they were built. The base
# itself is a tag, which moves: --build-arg PYTHON=python@sha256:… holds it. Where it lacks `strip`, that comes from
# Debian as it is on the day. Bytecode is compiled beforehand, as a read-only file system keeps none, and half of the
# extension modules would be debug symbols.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS manifests
WORKDIR /app
COPY . .
RUN find . -type f ! -name pyproject.toml ! -name uv.lock -delete && find . -depth -type d -empty -delete

FROM ${PYTHON} AS packages
ARG UV_VERSION=0.13.9
ARG SOURCE_DATE_EPOCH=0
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_CACHE_DIR=/var/cache/uv PYTHONHASHSEED=0
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore uv==${UV_VERSION} \
 && { command -v strip || { apt-get update && apt-get install --yes --no-install-recommends binutils; }; }
WORKDIR /app
COPY --from=manifests /app ./
ARG SERVICE
RUN --mount=type=cache,target=/var/cache/uv \
    uv sync --locked --no-dev --no-install-workspace --package "${SERVICE}" \
 && find .venv -name '*.so' -exec strip --strip-unneeded {} + \
 && python -m compileall -q --invalidation-mode unchecked-hash /app/.venv \
 && mkdir -p /image/app && mv .venv /image/app && chmod -R u=rwX,go=rX /image \
 && find /image -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM ${PYTHON} AS sources
ARG SOURCE_DATE_EPOCH=0
ENV PYTHONHASHSEED=0
WORKDIR /checkout
COPY packages packages
COPY services services
ARG SERVICE
# `src` and `migrations` lie beside each other, as in the checkout.
RUN mkdir -p /app/src \
 && cp -r packages/contracts/src/contracts packages/chassis/src/chassis ./*/"${SERVICE}"/src/"${SERVICE}" /app/src \
 && if [ -d "services/${SERVICE}/migrations" ]; then cp -r "services/${SERVICE}/migrations" /app; fi \
 && find /app -name __pycache__ -prune -exec rm -r {} + \
 && python -m compileall -q --invalidation-mode unchecked-hash /app \
 && mkdir /image && mv /app /image && chmod -R u=rwX,go=rX /image \
 && find /image -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM ${PYTHON}
COPY --from=packages /image /
COPY --from=sources /image /
WORKDIR /app
ARG SERVICE
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONPATH=/app/src \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    UVICORN_APP=${SERVICE}.app:app
USER 65532:65532
CMD ["python", "-m", "uvicorn"]
