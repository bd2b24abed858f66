#!/usr/bin/env bash
# Everything that only a GPU can show, on a machine that has one and no Rust. Prints one table; fails if a row does.
#
#     tests/gpu.sh LMRUN MODEL KERNEL_TESTS MODEL_TESTS ENGINE_TESTS
#
# LMRUN is the binary of `cargo build --release`, MODEL a GGUF file, and the others are the test binaries that
# `cargo test --release -p lmrun-kernels -p lmrun-model -p lmrun-engine --lib --no-run` names.
set -uo pipefail
usage="tests/gpu.sh LMRUN MODEL KERNEL_TESTS MODEL_TESTS ENGINE_TESTS"
[ $# = 5 ] || { echo "usage: $usage" >&2; exit 2; }
for file in "$@"; do
    [ -f "$file" ] || { echo "$file is no file; usage: $usage" >&2; exit 2; }
done
# Tests run in folders of their own.
mapfile -t files < <(realpath "$@")
lmrun=${files[0]} model=${files[1]} kernel_tests=${files[2]} model_tests=${files[3]} engine_tests=${files[4]}
cd "$(dirname "$0")/.." || exit 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
n_failed=0
row() { printf '%-52s %s\n' "$1" "$2"; }
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
# Tests of a crate, on the card; some must have run.
tests_of() {
    local crate=$1 binary=$2 filter=$3
    (cd "$crate" && LMRUN_TEST_GPU=1 "$binary" "$filter" --test-threads 1) | tee "$folder/tests" &&
        ! grep -q '^test result: ok. 0 passed' "$folder/tests"
}
run() { "$lmrun" run "$@" --model "$model" --seed 1; }
same_as() { run "${@:2}" | cmp - "$1"; }

"$lmrun" doctor
prove "kernels against the reference" tests_of kernels "$kernel_tests" cuda::tests::emulated
prove "whole decoders against oracles, bits of any cut" tests_of model "$model_tests" tests::decoding
prove "families against Transformers" tests_of model "$model_tests" tests::families
prove "whole engines, drawing there or here" tests_of engine "$engine_tests" tests::devices

# Probabilities of a choice on the CPU and on the card, in each type of keys and values that the card has.
scores() { run examples/classify.lmp --json "$@" | grep -o '"scores":{[^}]*}' | grep -oE ':[0-9.eE+-]+' | tr -d :; }
near() { paste "$1" "$2" | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > most) most = d }
    END { print "differs by " most; exit !(NR > 0 && most < 0.03) }'; }
scores --device cpu >"$folder/cpu_scores"
for kv in bf16 int8 fp8; do
    scores --device cuda --kv-type "$kv" >"$folder/scores"
    prove "scores are the CPU's, keys and values in $kv" near "$folder/cpu_scores" "$folder/scores"
done

cat >"$folder/greedy.lmp" <<'P'
user "Write a long story about a fox, a river and a bridge."
assistant gen(story, max_tokens=256, temperature=0)
P
run "$folder/greedy.lmp" --device cuda >"$folder/first"
prove "greedy output is some" test -s "$folder/first"
prove "greedy output is the same twice" same_as "$folder/first" "$folder/greedy.lmp" --device cuda
LMRUN_CUDA_GRAPHS=0 prove "graphs change no text" same_as "$folder/first" "$folder/greedy.lmp" --device cuda
run "$folder/greedy.lmp" --device cpu >"$folder/cpu"
row "greedy characters in common with the CPU" "$(cmp "$folder/first" "$folder/cpu" 2>&1 | sed 's/.*differ: //')"

for example in examples/*.lmp; do
    prove "$(basename "$example")" run "$example" --device cuda --json
done

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck synccheck; do
        prove "compute-sanitizer $tool, a short run" "$sanitizer" --tool "$tool" --error-exitcode 9 \
            "$lmrun" run examples/classify.lmp --model "$model" --seed 1 --device cuda --json
    done
else
    row "compute-sanitizer" "not here: part of the CUDA toolkit"
fi

for graphs in 0 1; do
    row "tokens a second, graphs $graphs" ""
    LMRUN_CUDA_GRAPHS=$graphs "$lmrun" bench engine --model "$model" --device cuda --threads 1 || n_failed=$((n_failed + 1))
done
row "tokens a second on the CPU" ""
"$lmrun" bench engine --model "$model" || n_failed=$((n_failed + 1))
row "rows that failed" "$n_failed"
[ "$n_failed" = 0 ]
