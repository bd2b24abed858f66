#!/usr/bin/env bash
# The kernels' tests on AArch64, of which QEMU plays three machines: with I8MM, with DotProd, with neither.
#
#     tests/neon.sh [--install] [ARGUMENT OF THE TESTS ..]
#
# --install fetches from Debian what this needs: QEMU, a cross compiler, and a Rust compiler for whose standard library
# Debian has a package of arm64.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --install ]; then
    shift
    dpkg --add-architecture arm64
    apt-get update -qq
    apt-get install -y --no-install-recommends qemu-user gcc-aarch64-linux-gnu rustc-web \
        libstd-rust-web-dev:arm64 libc6:arm64 libgcc-s1:arm64
fi
export RUSTC=/usr/bin/rustc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64
for machine in max cortex-a76 cortex-a72; do
    echo "$machine"
    # Those of CUDA run C++ of this machine.
    QEMU_CPU=$machine cargo test --release --target aarch64-unknown-linux-gnu -p lmrun-kernels --lib -- --skip cuda "$@"
done
