# trtpoets on NVIDIA's TensorRT image: builds engines for the GPU it sees, runs and measures them.
#
#   docker build -t trtpoets .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/work" trtpoets build flowers
#
# To retrain in the container too, and to have TensorFlow as the baseline:
#   docker build -t trtpoets --build-arg EXTRAS=tensorrt,train-gpu,report .
FROM nvcr.io/nvidia/tensorrt:25.06-py3

ARG EXTRAS=tensorrt
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# TensorRT's Python package belongs to the image's own Python; a venv that sees it keeps the rest apart.
# pycuda is built from source and finds CUDA by nvcc on the path.
ENV PATH=/opt/trtpoets/bin:/usr/local/cuda/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    TRTPOETS_CACHE=/var/cache/trtpoets

COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY trtpoets /src/trtpoets
RUN python3 -m venv --system-site-packages /opt/trtpoets \
 && pip install "/src[${EXTRAS}]" \
 && rm -rf /src \
 && useradd --create-home --uid 10001 poet \
 && install -d -o poet -g poet -m 1777 /work /var/cache/trtpoets

USER 10001
WORKDIR /work
ENTRYPOINT ["trtpoets"]
CMD ["doctor"]
