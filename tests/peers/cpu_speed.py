"""Prefill and decode on this CPU, ours and other engines in turns: medians, and ratios to ours.

    python3 tests/peers/cpu_speed.py --model FILE.gguf --folder FOLDER --llamacpp PYTHON --vllm PYTHON [--threads 2]

FILE is what lmrun, llama.cpp and mistral.rs read; FOLDER holds the same weights in bf16 as Hugging Face lays them out, for vLLM
and Transformers. --llamacpp, --mistralrs, --vllm and --transformers name Python interpreters that have llama-cpp-python,
mistralrs, vLLM and Transformers; an engine that is not named is not measured. --requantised FILE gives llama.cpp a second
file: the same weights in Q4_0, its fastest format.

Every engine is loaded once and then measured round by round, so that a machine whose speed drifts favours nobody; who waits
for its turn is stopped, since some engines' threads go on spinning. Figures are tokens a second: one prompt of 512 or 2,048
tokens, and 32 steps of 1 or 16 sequences after 128 tokens each. Run it on an idle machine: threads that spin collapse beside
other work.
"""

import argparse
import atexit
import ctypes
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

PREFILL, DECODE, N_PROMPT, N_STEPS = (512, 2048), (1, 16), 128, 32
FIGURES = [f"prefill {n}" for n in PREFILL] + [f"decode {n}" for n in DECODE]


def tokens(n):
    return [random.randrange(200, 48000) for _ in range(n)]


class LlamaCpp:
    def __init__(self, path, threads):
        import llama_cpp

        self.c = llama_cpp
        llama_cpp.llama_backend_init()
        self.log = llama_cpp.llama_log_callback(lambda level, text, user: None)
        llama_cpp.llama_log_set(self.log, ctypes.c_void_p(0))
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = 16384, 2048, 512, 64
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.batch = llama_cpp.llama_batch_init(4096, 0, 1)

    def clear(self):
        self.c.llama_memory_clear(self.c.llama_get_memory(self.context), True)

    def step(self, rows):
        """Rows of (token, position, sequence); logits of the last of each sequence."""
        batch = self.batch
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = i + 1 == len(rows) or rows[i + 1][2] != sequence
        batch.n_tokens = len(rows)
        if self.c.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        self.c.llama_get_logits_ith(self.context, len(rows) - 1)

    def prefill(self, n):
        self.clear()
        rows = [(token, i, 0) for i, token in enumerate(tokens(n))]
        started = time.perf_counter()
        self.step(rows)
        return n / (time.perf_counter() - started)

    def decode(self, n):
        self.clear()
        for sequence in range(n):
            self.step([(token, i, sequence) for i, token in enumerate(tokens(N_PROMPT))])
        started = time.perf_counter()
        for step in range(N_STEPS):
            self.step([(token, N_PROMPT + step, i) for i, token in enumerate(tokens(n))])
        return n * N_STEPS / (time.perf_counter() - started)


class Generating:
    """An engine that only generates: the time of a decode is that of 33 tokens less that of one."""

    def prefill(self, n):
        return n / self.seconds(1, n, 1)

    def decode(self, n):
        first = self.seconds(n, N_PROMPT, 1)
        return n * N_STEPS / (self.seconds(n, N_PROMPT, 1 + N_STEPS) - first)


class Vllm(Generating):
    def __init__(self, path, threads):
        os.environ.update(
            HF_HUB_OFFLINE="1",
            OMP_NUM_THREADS=str(threads),
            VLLM_CPU_KVCACHE_SPACE="2",
            VLLM_CPU_OMP_THREADS_BIND=f"0-{threads - 1}",
            VLLM_ENABLE_V1_MULTIPROCESSING="0",
        )
        import vllm

        self.params = vllm.SamplingParams
        self.model = vllm.LLM(
            model=path,
            dtype="bfloat16",
            max_model_len=4096,
            enable_prefix_caching=False,
            disable_log_stats=True,
        )

    def seconds(self, n, n_prompt, n_written):
        prompts = [{"prompt_token_ids": tokens(n_prompt)} for _ in range(n)]
        params = self.params(max_tokens=n_written, min_tokens=n_written, ignore_eos=True, temperature=0)
        started = time.perf_counter()
        self.model.generate(prompts, params, use_tqdm=False)
        return time.perf_counter() - started


class Transformers(Generating):
    def __init__(self, path, threads):
        import torch
        import transformers

        self.torch = torch
        torch.set_num_threads(threads)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)

    def seconds(self, n, n_prompt, n_written):
        ids = self.torch.tensor([tokens(n_prompt) for _ in range(n)])
        started = time.perf_counter()
        self.model.generate(
            ids,
            attention_mask=self.torch.ones_like(ids),
            max_new_tokens=n_written,
            min_new_tokens=n_written,
            do_sample=False,
            pad_token_id=2,
        )
        return time.perf_counter() - started


class MistralRs(Generating):
    """It takes texts and no tokens: each of these words, with a space before it, is a token of SmolLM2's vocabulary."""

    WORDS = "river stone cloud table green seven paper window signal market copper engine".split()
    ENDS = (0, 2)

    def __init__(self, path, threads):
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        os.sched_setaffinity(0, range(threads))
        import mistralrs

        self.request = mistralrs.CompletionRequest
        which = mistralrs.Which.GGUF(*os.path.split(os.path.abspath(path)))
        self.model = mistralrs.Runner(which=which, max_seqs=max(DECODE), prefix_cache_n=0)

    def seconds(self, n, n_prompt, n_written):
        never = {token: -100.0 for token in self.ENDS}

        def answer(prompt):
            request = self.request(
                prompt=prompt, model="default", max_tokens=n_written, temperature=0.0, logit_bias=never
            )
            return self.model.send_completion_request(request).usage

        prompts = ["".join(f" {word}" for word in random.choices(self.WORDS, k=n_prompt)) for _ in range(n)]
        with ThreadPoolExecutor(n) as threads:
            started = time.perf_counter()
            for usage in threads.map(answer, prompts):
                if (usage.prompt_tokens, usage.completion_tokens) != (n_prompt, n_written):
                    raise RuntimeError(f"{usage} for {n_prompt} and {n_written} tokens")
            return time.perf_counter() - started


DRIVERS = {"llamacpp": LlamaCpp, "mistralrs": MistralRs, "vllm": Vllm, "transformers": Transformers}


def drive(driver, path, threads):
    """A peer's own process: loads, says so, and answers each line it reads with a round's figures."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What the engine prints is not an answer.
    engine = DRIVERS[driver](path, threads)
    engine.prefill(64)
    print("{}", file=answers, flush=True)
    for _ in sys.stdin:
        # Wakes its threads.
        engine.prefill(64)
        engine.decode(1)
        figures = {f"prefill {n}": engine.prefill(n) for n in PREFILL}
        figures |= {f"decode {n}": engine.decode(n) for n in DECODE}
        print(json.dumps(figures), file=answers, flush=True)


class Peer:
    def __init__(self, python, driver, path, threads):
        command = [python, os.path.abspath(__file__), "--drive", driver, path, str(threads)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        atexit.register(self.end)
        self.answer()

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def end(self):
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)

    def answer(self):
        """Its next answer, after which it is stopped."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[3]} ended with code {self.process.wait()}")
        self.signal(signal.SIGSTOP)
        return json.loads(line)

    def round(self):
        self.signal(signal.SIGCONT)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()


class Ours:
    def __init__(self, lmrun, path, threads):
        lists = [",".join(map(str, numbers)) for numbers in (PREFILL, DECODE)]
        self.command = [lmrun, "bench", "engine", "--model", path, "--threads", str(threads), "--runs", "1", "--json"]
        self.command += ["--prefill", lists[0], "--decode", lists[1]]
        self.peaks = []

    def round(self):
        report = json.loads(subprocess.run(self.command, check=True, stdout=subprocess.PIPE).stdout)
        self.peaks.append(report["peak"])
        return {f"{kind} {n}": speed for kind in ("prefill", "decode") for n, speed in report[kind].items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmrun", default="target/release/lmrun")
    parser.add_argument("--model", required=True, help="the checkpoint as GGUF")
    parser.add_argument("--requantised", help="the same in llama.cpp's fastest format")
    parser.add_argument("--folder", help="the same in bf16, as a Hugging Face folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    for driver in DRIVERS:
        parser.add_argument(f"--{driver}", metavar="PYTHON")
    options = parser.parse_args()
    ours = Ours(options.lmrun, options.model, options.threads)
    engines = {"lmrun": ours}
    wanted = [
        ("llama.cpp", options.llamacpp, "llamacpp", options.model),
        ("llama.cpp, requantised", options.llamacpp, "llamacpp", options.requantised),
        ("mistral.rs", options.mistralrs, "mistralrs", options.model),
        ("vLLM, bf16", options.vllm, "vllm", options.folder),
        ("Transformers, bf16", options.transformers, "transformers", options.folder),
    ]
    for name, python, driver, path in wanted:
        if python and path:
            engines[name] = Peer(python, driver, path, options.threads)
    rounds = {name: [] for name in engines}
    for _ in range(options.rounds):
        for name, engine in engines.items():
            rounds[name].append(engine.round())
            print(name, {figure: round(speed) for figure, speed in rounds[name][-1].items()}, file=sys.stderr)
    medians = {
        name: {figure: statistics.median(one[figure] for one in of_one) for figure in FIGURES}
        for name, of_one in rounds.items()
    }
    for key in ours.peaks[0]:
        print(f"{key:12} {statistics.median(peak[key] for peak in ours.peaks):10.2f}")
    print(f"{'tokens a second':24}" + "".join(f"{figure:>20}" for figure in FIGURES))
    for name, speeds in medians.items():
        cells = (f"{speeds[figure]:11.1f} ({medians['lmrun'][figure] / speeds[figure]:5.2f}x)" for figure in FIGURES)
        print(f"{name:24}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        drive(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
