# syntax=docker/dockerfile:1
# trtpoets on NVIDIA's images. The stage `trtpoets` builds, runs and measures engines on the GPU of the host; the stage
# `serve` serves a bundle with Triton.
#
#   docker build -t trtpoets .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:$PWD" -w "$PWD" trtpoets build flowers
#   docker build -t trtpoets-serve --target serve .
#
# The guide, also for pinning by digest: docs/guides/docker.md. For a Jetson: Dockerfile.l4t.

# Both images use the same release, because an engine runs only in the TensorRT that built it.
ARG RELEASE=25.06

# Build stage: compiles pycuda, so that the final image needs no compiler.
FROM nvcr.io/nvidia/tensorrt:${RELEASE}-py3 AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Package versions are not pinned: they are the current ones of the image's Ubuntu release.
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends g++ python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
# For training too: --build-arg EXTRAS=tensorrt,train-gpu,report
ARG EXTRAS=tensorrt
# pycuda locates CUDA by nvcc on the path. The virtual environment can import the image's TensorRT; everything else is
# separate.
ENV PATH=/opt/trtpoets/bin:/usr/local/cuda/bin:$PATH \
    PIP_NO_CACHE_DIR=1
COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY trtpoets /src/trtpoets
# The constraint keeps the image's TensorRT: Triton could not run engines of another version from PyPI. If the image has
# no TensorRT, the build fails here.
RUN python3 -m venv --system-site-packages /opt/trtpoets \
 && python3 -c 'from importlib.metadata import version; print("tensorrt==" + version("tensorrt"))' > /constraints.txt \
 && pip install --constraint /constraints.txt "/src[${EXTRAS}]"

# Serves a bundle made by `trtpoets bundle NAME --for triton`, mounted at /bundle.
FROM nvcr.io/nvidia/tritonserver:${RELEASE}-py3 AS serve
# User 1000 exists in the image. Engines that ONNX Runtime builds are kept in /tmp/engines until the container is removed.
USER 1000:1000
WORKDIR /bundle
# The address on which Triton listens inside the container. Triton has no authentication: publish ports with
# -p 127.0.0.1:8000:8000.
ENV LISTEN=0.0.0.0
EXPOSE 8000 8001 8002
# Sends the golden photos through the server, and requests that must be refused. Docker accepts exit codes 0 and 1 only.
HEALTHCHECK --interval=60s --timeout=30s --start-period=10m --retries=3 \
    CMD ["sh", "-c", "python3 selftest.py || exit 1"]
CMD ["/bundle/serve"]

FROM nvcr.io/nvidia/tensorrt:${RELEASE}-py3 AS trtpoets
ENV PATH=/opt/trtpoets/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRTPOETS_CACHE=/var/cache/trtpoets
COPY --from=build /opt/trtpoets /opt/trtpoets
COPY docker-entrypoint /usr/local/bin/docker-entrypoint
# /work and the cache are writable for any user that `--user` names.
RUN useradd --create-home --uid 10001 poet \
 && install -d -o poet -g poet -m 1777 /work /var/cache/trtpoets
USER 10001
WORKDIR /work
# If a bundle for a device is mounted at /work, runs its self-test; otherwise checks that TensorRT loads and CUDA starts.
HEALTHCHECK --interval=5m --timeout=60s --start-period=2m --retries=2 \
    CMD ["docker-entrypoint", "/bin/sh", "-c", "if [ -x ./selftest ]; then ./selftest || exit 1; else python3 -c 'import tensorrt, pycuda.driver as cuda; cuda.init()'; fi"]
# Starts NVIDIA's entrypoint first, which enables forward compatibility for drivers older than the image's CUDA.
ENTRYPOINT ["docker-entrypoint"]
CMD ["doctor"]
