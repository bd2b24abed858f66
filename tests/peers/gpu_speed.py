"""Speed on a GPU beside what the card can do and beside Transformers, with Llamas of random weights. Prints one table.

    python3 tests/peers/gpu_speed.py LMRUN [--device cuda] [--small 1b] [--large 8b] [--seconds 400]

A row is a figure, and what is asked of it. One that cannot be measured says why, and the next is measured. Without PyTorch,
figures come without what the card can do; without Transformers, without that row. No row is begun after --seconds. The exit
status is that of the measuring: 0 also where a figure is below what is asked.

The copy rate counts bytes read and written; decoding reads each weight once a step. The matrix rate is that of a product in
bf16. Decode, prefill and what is shared are `lmrun bench engine`; ragged batches are requests to `lmrun serve`, of prompts and
answers of many lengths, and in Transformers batches of 32 of them, padded on the left.
"""

import argparse
import concurrent.futures
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.dont_write_bytecode = True
import random_llama

N_RAGGED, N_BATCH = 128, 32
ROW_LIMIT = 240


def run(command, **variables):
    """What a command prints; its complaint if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=ROW_LIMIT, env=os.environ | variables)
    if done.returncode != 0:
        raise RuntimeError(" ".join(done.stderr.split())[-300:] or f"exit status {done.returncode}")
    return done.stdout


def parameters(shape, *without):
    """Weights, those of the named tensors left out."""
    total = 0
    for name, of in random_llama.tensors(shape):
        if not any(part in name for part in without):
            total += of[0] * (of[1] if len(of) > 1 else 1)
    return total


class Card:
    """What PyTorch makes of it."""

    def __init__(self):
        import torch

        self.torch = torch
        if not torch.cuda.is_available():
            raise RuntimeError("PyTorch sees no GPU")

    def seconds(self, work, n_runs=10):
        torch = self.torch
        for _ in range(3):
            work()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(n_runs):
            work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000 / n_runs

    def copy_rate(self):
        source = self.torch.zeros(1 << 32, dtype=self.torch.uint8, device="cuda")
        target = self.torch.empty_like(source)
        rate = 2 * source.nbytes / self.seconds(lambda: target.copy_(source))
        del source, target
        self.torch.cuda.empty_cache()
        return rate

    def matrix_rate(self, n=8192):
        a, b = (self.torch.randn(n, n, dtype=self.torch.bfloat16, device="cuda") for _ in range(2))
        rate = 2 * n**3 / self.seconds(lambda: a @ b)
        del a, b
        self.torch.cuda.empty_cache()
        return rate


class Speed:
    def __init__(self, arguments, folder):
        self.lmrun, self.device, self.folder = arguments.lmrun, arguments.device, folder
        self.shapes = {size: random_llama.SHAPES[size] for size in (arguments.small, arguments.large)}
        self.small, self.large = arguments.small, arguments.large
        self.copy_rate = self.matrix_rate = self.ragged_rate = self.report = None

    def model(self, size):
        path = os.path.join(self.folder, size)
        if not os.path.exists(path):
            random_llama.write(path, self.shapes[size])
        return path

    def bench(self, size, *options, runs=3, **variables):
        command = [self.lmrun, "bench", "engine", "--model", self.model(size), "--device", self.device, "--json"]
        return json.loads(run([*command, "--runs", str(runs), *options], **variables))

    def the_card(self):
        card = Card()
        self.copy_rate, self.matrix_rate = card.copy_rate(), card.matrix_rate()
        name = card.torch.cuda.get_device_name()
        return f"{name}: copies {self.copy_rate / 1e9:.0f} GB/s, {self.matrix_rate / 1e12:.0f} TFLOP/s of bf16", ""

    def decode_with_graphs(self):
        without, with_graphs = (
            self.bench(self.small, "--decode", "1", LMRUN_CUDA_GRAPHS=graphs)["decode"]["1"] for graphs in "01"
        )
        return f"{without:.1f} tokens/s without, {with_graphs:.1f} with: {with_graphs / without:.2f} x", "1.3 x"

    def shared(self):
        n = "64:8192" if self.small != "tiny" else "4:64"
        report = self.bench(self.small, "--shared", n, runs=1)
        shared, apart = report["shared"][n], report["apart"][n]
        return f"{n}: {apart:.0f} tokens/s apart, {shared:.0f} shared: {shared / apart:.2f} x", "5 x"

    def decode_of_one(self):
        self.report = self.bench(self.large, "--decode", "1,32", "--prefill", "2048" if self.large != "tiny" else "64")
        one = self.report["decode"]["1"]
        # A row of the embedding is read, unless it is the head.
        is_tied = self.shapes[self.large][-1]
        rate = one * 2 * parameters(self.shapes[self.large], *([] if is_tied else ["embed"]))
        share = f": {rate / self.copy_rate:.1%} of the copy rate" if self.copy_rate else ""
        return f"{one:.1f} tokens/s, {rate / 1e9:.0f} GB/s{share}", "70 %"

    def figures(self):
        if self.report is None:
            raise RuntimeError("measured together with the decode of one")
        return self.report

    def decode_of_many(self):
        return f"{self.figures()['decode']['32']:.0f} tokens/s", ""

    def prefill(self):
        [(n, speed)] = self.figures()["prefill"].items()
        n_layers, _, _, n_heads, _, head_dim, _, _ = self.shapes[self.large]
        # Of a token: each weight once, and queries with keys and weights with values, of half of the positions on average.
        operations = 2 * parameters(self.shapes[self.large], "embed", "lm_head") + 2 * n_layers * n_heads * head_dim * int(n)
        rate = speed * operations
        share = f": {rate / self.matrix_rate:.1%} of the matrix rate" if self.matrix_rate else ""
        return f"{n} tokens at {speed:.0f} tokens/s, {rate / 1e12:.2f} TFLOP/s{share}", "60 %"

    def requests(self):
        """Lengths of prompts and of answers."""
        lengths = random.Random(7)
        most = (512, 256) if self.small != "tiny" else (16, 8)
        return [tuple(lengths.randrange(max(1, n // 16), n) for n in most) for _ in range(N_RAGGED)]

    def ragged(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        model = self.model(self.small)
        command = [self.lmrun, "serve", "--model", model, "--device", self.device, "--port", str(port)]
        letters = random.Random(3)
        with open(os.path.join(self.folder, "serve.log"), "w+") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                self.wait_for(f"http://127.0.0.1:{port}/ready", server, log)

                def ask(lengths):
                    n_prompt, n_answer = lengths
                    content = "".join(letters.choices("abcdefgh", k=n_prompt))
                    body = {"max_tokens": n_answer, "temperature": 0}
                    body["messages"] = [{"role": "user", "content": content}]
                    request = urllib.request.Request(
                        f"http://127.0.0.1:{port}/v1/chat/completions",
                        json.dumps(body).encode(),
                        {"content-type": "application/json"},
                    )
                    with urllib.request.urlopen(request, timeout=ROW_LIMIT) as answer:
                        return json.load(answer)["usage"]["completion_tokens"]

                ask((8, 2))
                started = time.monotonic()
                with concurrent.futures.ThreadPoolExecutor(N_RAGGED) as threads:
                    n_tokens = sum(threads.map(ask, self.requests()))
                self.ragged_rate = n_tokens / (time.monotonic() - started)
            finally:
                server.terminate()
                server.wait(30)
        return f"{N_RAGGED} requests, {n_tokens} tokens: {self.ragged_rate:.0f} tokens/s", ""

    @staticmethod
    def wait_for(address, server, log):
        until = time.monotonic() + ROW_LIMIT
        while time.monotonic() < until and server.poll() is None:
            try:
                return urllib.request.urlopen(address, timeout=5).close()
            except OSError:
                time.sleep(0.2)
        log.seek(0)
        raise RuntimeError("the server is not ready: " + " ".join(log.read().split())[-300:])

    def transformers(self):
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(self.model(self.small), dtype=torch.bfloat16).to("cuda").eval()
        requests = self.requests()

        def generate(batch):
            width, longest = max(n for n, _ in batch), max(n for _, n in batch)
            ids = torch.randint(2, 258, (len(batch), width), device="cuda")
            mask = torch.tensor([[0] * (width - n) + [1] * n for n, _ in batch], device="cuda")
            with torch.inference_mode():
                model.generate(
                    ids, attention_mask=mask, max_new_tokens=longest, min_new_tokens=longest, do_sample=False, pad_token_id=1
                )
            torch.cuda.synchronize()

        generate([(8, 4)] * N_BATCH)
        started = time.monotonic()
        for first in range(0, N_RAGGED, N_BATCH):
            generate(requests[first : first + N_BATCH])
        rate = sum(n for _, n in requests) / (time.monotonic() - started)
        ratio = f": lmrun {self.ragged_rate / rate:.1f} x" if self.ragged_rate else ""
        return f"batches of {N_BATCH}: {rate:.0f} tokens/s{ratio}", "14 x"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lmrun")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", choices=random_llama.SHAPES, default="1b")
    parser.add_argument("--large", choices=random_llama.SHAPES, default="8b")
    parser.add_argument("--seconds", type=float, default=400)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp()
    speed = Speed(arguments, folder)
    small, large = (f"{size}, bf16" for size in (arguments.small, arguments.large))
    rows = [
        ("what the card can do", speed.the_card),
        (f"graphs, {small}", speed.decode_with_graphs),
        (f"a common prefix, {small}", speed.shared),
        (f"decode of one, {large}", speed.decode_of_one),
        (f"decode of 32, {large}", speed.decode_of_many),
        (f"prefill, {large}", speed.prefill),
        (f"ragged requests, {small}", speed.ragged),
        (f"Transformers, {small}", speed.transformers),
    ]
    n_failed, started = 0, time.monotonic()
    try:
        for what, measure in rows:
            if time.monotonic() - started > arguments.seconds:
                print(f"{what:<52} left out: --seconds are over", flush=True)
                continue
            try:
                figure, asked = measure()
            except ImportError as error:
                figure, asked = f"not here: {error}", ""
            except Exception as error:  # Whatever it is, the next row may do.
                n_failed += 1
                figure, asked = f"FAILED: {type(error).__name__}: {error}", ""
            print(f"{what:<52} {figure}" + (f" (asked for: {asked})" if asked else ""), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
