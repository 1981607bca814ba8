# Stands in for the official image: Debian's RabbitMQ, without the commands on PATH that insist on the system's user.
FROM docker.io/library/python:3.11-slim-bookworm
RUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends rabbitmq-server \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/lib/rabbitmq/bin:$PATH
USER 999
CMD ["rabbitmq-server"]
