# hpp in a container:
#   docker build -t headposeplus .
#   docker run --rm -v "$PWD":/work headposeplus demo demo
# A challenge with its database and TLS: compose.yaml.
# For a GPU: docker build --build-arg TORCH=pypi -t headposeplus . and docker run --gpus all ...
FROM python:3.12-slim
ARG TORCH=auto
ARG EXTRAS=miniature,serve,parquet
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/headposeplus
# First what changes seldom and takes long.
COPY Makefile requirements.lock ./
RUN UV_NO_CACHE=1 make .venv/.torch TORCH=$TORCH
COPY setup.cfg pyproject.toml README.md LICENSE data_manifest.csv ./
COPY headposeplus headposeplus
COPY baselines baselines
COPY benchmark benchmark
RUN UV_NO_CACHE=1 make .venv/.installed TORCH=$TORCH EXTRAS=$EXTRAS
ENV PATH=/opt/headposeplus/.venv/bin:$PATH
WORKDIR /work
ENTRYPOINT ["hpp"]
