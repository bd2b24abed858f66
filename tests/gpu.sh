#!/usr/bin/env bash
# Everything that only a GPU can show, on a machine that has one and no Rust. Prints one table; fails if a row does.
#
#     tests/gpu.sh [--only PART] [--seconds N] [--shape S] LMRUN KERNEL_TESTS MODEL_TESTS ENGINE_TESTS [MODEL]
#
# LMRUN is the binary of `cargo build --release`, and the tests are those that
# `cargo test --release -p lmrun-kernels -p lmrun-model -p lmrun-engine --lib --no-run` names; add
# `--config profile.release.strip=true` to both where they must travel. MODEL is a GGUF file or a folder; without one, the
# product is run with a Llama of random weights, for which python3 is needed. --shape is that of the small ones (1b); with tiny,
# the large one is tiny too, to try this script.
#
# Parts, in this order: tests (kernels, decoders, engines), product (the binary beside the CPU), speed, sanitizer. No row takes
# longer than three minutes, and none begins after --seconds (570).
set -uo pipefail
usage="tests/gpu.sh [--only tests|product|speed|sanitizer] [--seconds N] [--shape tiny|1b|8b] LMRUN KERNEL_TESTS MODEL_TESTS ENGINE_TESTS [MODEL]"
only="" limit=570 shape=1b
while [[ ${1-} == --* ]]; do
    case $1 in
        --only) only=${2-} ;;
        --seconds) limit=${2-} ;;
        --shape) shape=${2-} ;;
        *) echo "usage: $usage" >&2; exit 2 ;;
    esac
    shift 2
done
[ $# = 4 ] || [ $# = 5 ] || { echo "usage: $usage" >&2; exit 2; }
for file in "$@"; do
    [ -e "$file" ] || { echo "$file is not there; usage: $usage" >&2; exit 2; }
done
# Tests run in folders of their own.
mapfile -t files < <(realpath "$@")
lmrun=${files[0]} kernel_tests=${files[1]} model_tests=${files[2]} engine_tests=${files[3]} model=${files[4]-}
cd "$(dirname "$0")/.." || exit 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
n_failed=0
row() { printf '%-52s %s\n' "$1" "$2"; }
wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }
# Runs a command, its output in a file, for as long as a row may take.
within_time() { LMRUN_TEST_GPU=1 timeout 180 "$@" >"$folder/log" 2>&1; }
# A row that passes or fails by a command, whose output is shown where it fails.
prove() {
    local what=$1 start=$SECONDS status
    shift
    [ "$SECONDS" -lt "$limit" ] || { row "$what" "left out: the time is over"; return; }
    within_time "$@"
    status=$?
    if [ $status = 0 ]; then
        row "$what" "ok, $((SECONDS - start)) s"
    else
        [ $status = 124 ] && row "$what" "FAILED: longer than three minutes" || row "$what" "FAILED"
        tail -n 30 "$folder/log"
        n_failed=$((n_failed + 1))
    fi
}
# Tests of a crate, on the card; some must have run.
tests_of='cd "$1" && "$2" "$3" --test-threads 1 | tee "$4" && ! grep -q "^test result: ok. 0 passed" "$4"'
prove_tests() { prove "$1" bash -o pipefail -c "$tests_of" tests "$2" "$3" "$4" "$folder/tests"; }

# The libraries, where neither the system nor `lmrun` finds them: NVRTC may be part of a Python that has PyTorch.
library_of() {
    local found
    for found in "$@"; do
        [ -e "$found" ] && { realpath "$found"; return; }
    done
}
has() { "$lmrun" doctor 2>&1 | grep -q "^$1 *[0-9]"; }
if [ -z "${LMRUN_CUDA_LIBRARY-}" ] && ! has "CUDA driver"; then
    LMRUN_CUDA_LIBRARY=$(library_of /usr/local/nvidia/lib*/libcuda.so.1 /usr/lib/*/libcuda.so.1 /usr/lib64/libcuda.so.1)
    [ -n "$LMRUN_CUDA_LIBRARY" ] && export LMRUN_CUDA_LIBRARY || unset LMRUN_CUDA_LIBRARY
fi
if [ -z "${LMRUN_NVRTC_LIBRARY-}" ] && ! has NVRTC; then
    packages=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' 2>/dev/null)
    LMRUN_NVRTC_LIBRARY=$(library_of "$packages"/nvidia/*/lib/libnvrtc.so.1[23] /usr/local/cuda*/lib64/libnvrtc.so.1[23] \
        /usr/lib/*/libnvrtc.so.1[23])
    [ -n "$LMRUN_NVRTC_LIBRARY" ] && export LMRUN_NVRTC_LIBRARY || unset LMRUN_NVRTC_LIBRARY
fi
"$lmrun" doctor

if wanted tests; then
    prove_tests "kernels against the reference: rows" kernels "$kernel_tests" cuda::tests::emulated::rows
    prove_tests "products" kernels "$kernel_tests" cuda::tests::emulated::products
    prove_tests "attention" kernels "$kernel_tests" cuda::tests::emulated::attention
    prove_tests "draws" kernels "$kernel_tests" cuda::tests::emulated::samples
    prove_tests "graphs" kernels "$kernel_tests" cuda::tests::emulated::segments
    prove_tests "whole decoders against oracles, bits of any cut" model "$model_tests" tests::decoding
    prove_tests "families against Transformers" model "$model_tests" tests::families
    prove_tests "whole engines, drawing there or here" engine "$engine_tests" tests::devices
fi

if [ -z "$model" ] && { wanted product || wanted sanitizer; }; then
    model=$folder/$shape
    prove "a Llama of random weights" python3 tests/peers/random_llama.py "$model" --shape "$shape"
fi
run() { "$lmrun" run "$@" --model "$model" --seed 1; }
# For a row of `prove`, which is a process of its own.
export -f run
export lmrun model

if wanted product; then
    # Probabilities of a choice on the CPU and on the card, in each type of keys and values that the card has.
    scores() { run examples/classify.lmp --json "$@" | grep -o '"scores":{[^}]*}' | grep -oE ':[0-9.eE+-]+' | tr -d :; }
    near() { scores --device cuda --kv-type "$2" | paste "$1" - | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > most) most = d }
        END { print "differs by " most; exit !(NR > 0 && NF == 2 && most < 0.03) }'; }
    same_as() { run "${@:2}" | cmp - "$1"; }
    export -f scores near same_as
    scores --device cpu >"$folder/cpu_scores"
    for kv in bf16 f16 int8 fp8; do
        prove "scores are the CPU's, keys and values in $kv" bash -o pipefail -c 'near "$@"' near "$folder/cpu_scores" "$kv"
    done
    cat >"$folder/greedy.lmp" <<'P'
user "Write a long story about a fox, a river and a bridge."
assistant gen(story, max_tokens=256, temperature=0)
P
    prove "the GPU passes its trial" bash -c '! run "$1" --device auto 2>&1 >/dev/null | grep "^warning"' trial "$folder/greedy.lmp"
    prove "greedy output is some" bash -c 'run "$1" --device cuda >"$2" && test -s "$2"' some "$folder/greedy.lmp" "$folder/first"
    prove "greedy output is the same twice" bash -o pipefail -c 'same_as "$@"' same "$folder/first" "$folder/greedy.lmp" --device cuda
    LMRUN_CUDA_GRAPHS=0 prove "graphs change no text" \
        bash -o pipefail -c 'same_as "$@"' same "$folder/first" "$folder/greedy.lmp" --device cuda
    timeout 60 bash -c 'run "$@"' run "$folder/greedy.lmp" --device cpu >"$folder/cpu" 2>/dev/null
    row "greedy characters in common with the CPU" "$(cmp "$folder/first" "$folder/cpu" 2>&1 | sed 's/.*differ: //')"
    for example in examples/*.lmp; do
        prove "$(basename "$example")" bash -c 'run "$@"' run "$example" --device cuda --json
    done
fi

if wanted speed; then
    large=8b
    [ "$shape" = tiny ] && large=tiny
    python3 tests/peers/gpu_speed.py "$lmrun" --small "$shape" --large "$large" --seconds $((limit - SECONDS)) ||
        n_failed=$((n_failed + 1))
fi

if wanted sanitizer; then
    sanitizer=$(command -v compute-sanitizer || library_of /usr/local/cuda*/bin/compute-sanitizer)
    if [ -n "$sanitizer" ]; then
        for tool in memcheck synccheck racecheck; do
            prove "compute-sanitizer $tool, a short run" "$sanitizer" --tool "$tool" --error-exitcode 9 \
                "$lmrun" run examples/classify.lmp --model "$model" --seed 1 --device cuda --json
        done
    else
        row "compute-sanitizer" "not here: part of the CUDA toolkit"
    fi
fi
row "rows that failed" "$n_failed"
[ "$n_failed" = 0 ]
