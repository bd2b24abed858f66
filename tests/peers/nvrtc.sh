#!/usr/bin/env bash
# Fetches NVIDIA's runtime compiler into target/nvrtc, where the tests of the CUDA kernels look for it. It needs no GPU.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=13.0.88
folder=target/nvrtc
[ -e "$folder/nvidia/cu13/lib/libnvrtc.so.13" ] && exit 0
mkdir -p "$folder"
python3 -m pip install --quiet --timeout 15 --retries 1 --no-deps --target "$folder" "nvidia-cuda-nvrtc==$version"
echo "NVRTC $version is in $folder"
