# syntax=docker/dockerfile:1
# trtpoets on NVIDIA's images: `trtpoets` builds engines for the GPU it sees, runs and measures them; `serve` serves a bundle by Triton.
#
#   docker build -t trtpoets .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:$PWD" -w "$PWD" trtpoets build flowers
#   docker build -t trtpoets-serve --target serve .
#
# More, and how to pin by digest: docs/guides/docker.md. For a Jetson: Dockerfile.l4t.

# One release for both: an engine runs only in the TensorRT that built it.
ARG RELEASE=25.06

# Builds: pycuda is compiled here, so that no compiler comes along.
FROM nvcr.io/nvidia/tensorrt:${RELEASE}-py3 AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Versions are the release's: what Ubuntu has for it today.
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends g++ python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
# `tensorrt`, or also what retrains: --build-arg EXTRAS=tensorrt,train-gpu,report
ARG EXTRAS=tensorrt
# pycuda finds CUDA by nvcc on the path. The venv sees the image's own TensorRT and keeps the rest apart.
ENV PATH=/opt/trtpoets/bin:/usr/local/cuda/bin:$PATH \
    PIP_NO_CACHE_DIR=1
COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY trtpoets /src/trtpoets
# The image's TensorRT has to stay: engines of another, from PyPI, would not be Triton's. Without one the image is the wrong one.
RUN python3 -m venv --system-site-packages /opt/trtpoets \
 && python3 -c 'from importlib.metadata import version; print("tensorrt==" + version("tensorrt"))' > /constraints.txt \
 && pip install --constraint /constraints.txt "/src[${EXTRAS}]"

# Serves a bundle made by `trtpoets bundle NAME --for triton`, mounted at /bundle.
FROM nvcr.io/nvidia/tritonserver:${RELEASE}-py3 AS serve
# The image's own user 1000. Engines that ONNX Runtime builds are kept in /tmp/engines while the container lives.
USER 1000:1000
WORKDIR /bundle
# Where Triton listens inside the container. It authenticates nobody: publish with -p 127.0.0.1:8000:8000.
ENV LISTEN=0.0.0.0
EXPOSE 8000 8001 8002
# The golden photos through the server: their scores have to be those of the bundle, and what would change the server is refused. Docker knows 0 and 1 alone.
HEALTHCHECK --interval=60s --timeout=30s --start-period=10m --retries=3 \
    CMD ["sh", "-c", "python3 selftest.py || exit 1"]
CMD ["/bundle/serve"]

FROM nvcr.io/nvidia/tensorrt:${RELEASE}-py3 AS trtpoets
ENV PATH=/opt/trtpoets/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRTPOETS_CACHE=/var/cache/trtpoets
COPY --from=build /opt/trtpoets /opt/trtpoets
COPY docker-entrypoint /usr/local/bin/docker-entrypoint
# /work and the cache take whoever `--user` names.
RUN useradd --create-home --uid 10001 poet \
 && install -d -o poet -g poet -m 1777 /work /var/cache/trtpoets
USER 10001
WORKDIR /work
# With a bundle for a Jetson at /work: its self-test. Else: TensorRT loads, and CUDA starts.
HEALTHCHECK --interval=5m --timeout=60s --start-period=2m --retries=2 \
    CMD ["docker-entrypoint", "/bin/sh", "-c", "if [ -x ./selftest ]; then ./selftest || exit 1; else python3 -c 'import tensorrt, pycuda.driver as cuda; cuda.init()'; fi"]
# NVIDIA's entrypoint comes first: it makes a driver do that is older than CUDA.
ENTRYPOINT ["docker-entrypoint"]
CMD ["doctor"]
