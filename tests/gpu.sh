#!/usr/bin/env bash
# Everything that only a GPU can show, on a machine that has one and no Rust. Prints one table; fails if a row does.
#
#     tests/gpu.sh LMRUN KERNEL_TESTS MODEL
#
# LMRUN and KERNEL_TESTS are binaries built elsewhere (`cargo build --release`; `cargo test --release -p lmrun-kernels
# --no-run`, which names its binary), MODEL is a GGUF file.
set -uo pipefail
cd "$(dirname "$0")/.."
lmrun=${1:?the lmrun binary} tests=${2:?the test binary of lmrun-kernels} model=${3:?a GGUF file}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
n_failed=0
row() { printf '%-44s %s\n' "$1" "$2"; }
# A row that passes or fails by a command, whose output is shown where it fails.
prove() {
    local what=$1 start=$SECONDS
    shift
    if "$@" >"$folder/log" 2>&1; then
        row "$what" "ok, $((SECONDS - start)) s"
    else
        row "$what" "FAILED"
        tail -n 30 "$folder/log"
        n_failed=$((n_failed + 1))
    fi
}
# The text that a program generates on a device.
text_on() { "$lmrun" run "$folder/greedy.lmp" --model "$model" --seed 1 --device "$1"; }

"$lmrun" doctor
prove "kernels against the reference" env LMRUN_TEST_GPU=1 "$tests" cuda::tests::emulated --test-threads 1

cat >"$folder/greedy.lmp" <<'P'
user "Write a long story about a fox, a river and a bridge."
assistant gen(story, max_tokens=256, temperature=0)
P
text_on cuda >"$folder/first"
prove "greedy output is the same twice" bash -c "'$lmrun' run '$folder/greedy.lmp' --model '$model' --seed 1 \
    --device cuda | cmp - '$folder/first'"
text_on cpu >"$folder/cpu"
row "greedy characters in common with the CPU" "$(cmp "$folder/first" "$folder/cpu" 2>&1 | sed 's/.*differ: //' || true)"

for example in examples/*.lmp; do
    prove "$(basename "$example")" "$lmrun" run "$example" --model "$model" --seed 1 --device cuda --json
done

prove "graphs change no text" bash -c "LMRUN_CUDA_GRAPHS=0 '$lmrun' run '$folder/greedy.lmp' --model '$model' --seed 1 \
    --device cuda | cmp - '$folder/first'"
for graphs in 0 1; do
    start=$(date +%s%N)
    LMRUN_CUDA_GRAPHS=$graphs text_on cuda >/dev/null 2>&1
    end=$(date +%s%N)
    row "256 tokens, graphs $graphs, loading included" "$(((end - start) / 1000000)) ms"
done
for device in cpu cuda; do
    start=$(date +%s%N)
    text_on "$device" >/dev/null 2>&1
    end=$(date +%s%N)
    row "256 tokens on $device, loading included" "$(((end - start) / 1000000)) ms"
done
[ "$n_failed" = 0 ]
