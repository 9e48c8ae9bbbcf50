# The environment of requirements.lock, for any checkout of this repository, which is mounted at /checkout:
#   docker build --tag mlegfn .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/checkout" mlegfn                  # on the CPU
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/checkout" mlegfn \
#     mlegfn reproduce --scale cifar10_hour                                                      # on GPUs
# The checkout's own src comes first in PYTHONPATH; the image's copy only serves the installation.
# By tag and not by digest: a digest would pin the security updates away, and what decides about results, Python's
# packages, torch's CUDA libraries among them, is pinned by hash in requirements.lock.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/mlegfn
COPY Makefile pyproject.toml README.md requirements.in requirements.lock ./
COPY src ./src
RUN make install && rm -rf ~/.cache

# For `--gpus`; without a GPU the same torch computes on the CPU.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PATH=/opt/mlegfn/.venv/bin:$PATH \
    PYTHONPATH=src \
    HOME=/home/mlegfn

# Anybody may be the user (--user), so anybody may write where tools keep their caches.
RUN useradd --create-home mlegfn && chmod 1777 /home/mlegfn \
    && git config --system --add safe.directory /checkout
USER mlegfn
WORKDIR /checkout
CMD ["mlegfn", "reproduce"]
