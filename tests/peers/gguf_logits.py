"""What Transformers computes, in f32, with the weights of a GGUF file.

    target/peers/bin/pip install torch transformers accelerate gguf
    target/peers/bin/python tests/peers/gguf_logits.py gemma.gguf > tests/data/gemma3-logits.json

A text of some thousand tokens, longer than a window, of which the logits of some positions are kept: those of the
most probable tokens and the largest of all; and greedy continuations of short prompts.
"""

import json
import pathlib
import sys

import torch
import transformers

N_LONG, N_GREEDY, N_KEPT = 700, 24, 12
PROMPTS = [
    [2, 818, 5279, 529, 7001, 563],  # The capital of France is
    [2, 236770, 236764, 236743, 236778, 236764, 236743, 236800, 236764],  # 1, 2, 3,
    [2, 2063, 64442, 236769, 236749, 1473, 107],  # def fibonacci(n):
]


def main():
    path = pathlib.Path(sys.argv[1])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    # Ordinary tokens in an order that repeats itself now and then.
    long = [2] + [1000 + (i * i * 37 + i // 7 * 11) % 4000 for i in range(1, N_LONG)]
    rows, greedy = [], []
    with torch.no_grad():
        logits = model(torch.tensor([long])).logits[0]
        for position in (0, 1, 100, 511, 512, 513, 600, N_LONG - 1):
            values, tokens = logits[position].topk(N_KEPT)
            values = [float(f"{x:.6g}") for x in values.tolist()]
            size = float(f"{logits[position].abs().max():.6g}")
            rows.append({"position": position, "tokens": tokens.tolist(), "logits": values, "largest": size})
        for prompt in PROMPTS:
            tokens, gap = list(prompt), float("inf")
            for _ in range(N_GREEDY):
                values, best = model(torch.tensor([tokens])).logits[0, -1].topk(2)
                tokens.append(best[0].item())
                gap = min(gap, (values[0] - values[1]).item())
            greedy.append({"tokens": tokens, "n_prompt": len(prompt), "smallest_gap": round(gap, 4)})
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    print(json.dumps({"made_with": versions, "long": long, "rows": rows, "greedy": greedy}))


if __name__ == "__main__":
    main()
