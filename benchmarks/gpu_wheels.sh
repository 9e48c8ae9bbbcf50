#!/bin/sh
# Download the wheels that a bare PyTorch image lacks, to carry them to a machine without a network:
#
#     sh benchmarks/gpu_wheels.sh [FOLDER=build/wheels] [PYTHON_VERSION=3.12]
#
# Versions and hashes are those of requirements.lock. About 25 MB for Linux on x86-64. gpu.sh installs, of
# these, only what the image has not got. torch, numpy, scipy, matplotlib and pandas have to be there.
set -eu
folder=${1:-build/wheels}
version=${2:-3.12}
cd "$(dirname "$0")/.."

# What src/mlegfn and diffusers import and a PyTorch image may not have, and what these need in turn.
names="diffusers huggingface-hub safetensors regex importlib-metadata lazy-importer zipp requests certifi
charset-normalizer idna urllib3 httpx2 httpcore2 truststore anyio h11 click fsspec hf-xet packaging pyyaml pydantic
pydantic-core annotated-types typing-inspection typing-extensions ruamel-yaml filelock tqdm pillow tabulate"

wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
for name in $names; do
    # From `name==version` to the line that does not go on.
    found=$(sed -n "/^$name==/,/[^\\\\]\$/p" requirements.lock)
    test -n "$found" || { echo "gpu_wheels: requirements.lock has no $name" >&2; exit 2; }
    printf '%s\n' "$found" >> "$wanted"
done
mkdir -p "$folder"
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --dest "$folder" --no-deps \
    --only-binary :all: --require-hashes --requirement "$wanted" --implementation cp --python-version "$version" \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --platform any
du -sh "$folder"
