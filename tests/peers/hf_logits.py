"""What Transformers computes, in f32, with small random checkpoints of every family.

    python3 -m venv target/peers && target/peers/bin/pip install torch transformers
    target/peers/bin/python tests/peers/hf_logits.py > model/src/tests/data/families.jsonl

The first line says which tokens are run and which positions and logits are kept; each other line is a family: its
`config.json`, its tensors' shapes, its logits. Weights are no part of it: both sides make them from their names.
"""

import json

import numpy
import torch
import transformers

N_TOKENS = 24
POSITIONS = [0, 7, 15, 23]
# Every so many logits of a row are kept.
STRIDE = 4
# What decoders are made of: the rest of a configuration is left out.
KEPT = """
architectures model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads
num_key_value_heads head_dim max_position_embeddings original_max_position_embeddings rms_norm_eps rope_parameters
partial_rotary_factor tie_word_embeddings attention_bias mlp_bias hidden_act hidden_activation sliding_window
use_sliding_window max_window_layers layer_types no_rope_layers query_pre_attn_scalar attn_logit_softcapping
final_logit_softcapping use_bidirectional_attention
""".split()
SHAPE = dict(
    vocab_size=261,
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=128,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
LLAMA_3 = dict(
    rope_type="llama3",
    rope_theta=10_000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
LONG = dict(
    rope_type="longrope",
    rope_theta=10_000.0,
    short_factor=[1.0, 1.1, 1.3, 1.7, 2.1, 3.0],
    long_factor=[2.0, 3.0, 5.0, 7.0, 9.0, 11.0],
    original_max_position_embeddings=32,
    partial_rotary_factor=0.75,
)
YARN = dict(
    rope_type="yarn",
    rope_theta=10_000.0,
    factor=4.0,
    original_max_position_embeddings=32,
)
FOUR_HEADS = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=16)
GEMMA = dict(hidden_activation="gelu_pytorch_tanh", head_dim=16)

FAMILIES = {
    "llama2": ("Llama", {}),
    "llama3": ("Llama", dict(rope_parameters=LLAMA_3, tie_word_embeddings=True, **FOUR_HEADS)),
    "mistral": ("Mistral", dict(sliding_window=6, **FOUR_HEADS)),
    "qwen2": ("Qwen2", dict(num_hidden_layers=3, use_sliding_window=True, sliding_window=5, max_window_layers=2)),
    "qwen3": ("Qwen3", dict(rope_parameters=YARN, **FOUR_HEADS)),
    "smollm3": ("SmolLM3", dict(num_hidden_layers=4, head_dim=16)),
    "phi3": ("Phi3", dict(sliding_window=9)),
    "phi4": (
        "Phi3",
        dict(
            rope_parameters=LONG,
            original_max_position_embeddings=32,
            partial_rotary_factor=0.75,
            tie_word_embeddings=True,
        ),
    ),
    "gemma": ("Gemma", dict(GEMMA, hidden_act="gelu_pytorch_tanh")),
    "gemma2": (
        "Gemma2",
        dict(
            GEMMA,
            query_pre_attn_scalar=24,
            sliding_window=6,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=3.0,
        ),
    ),
    "gemma3": (
        "Gemma3",
        dict(
            GEMMA,
            num_hidden_layers=6,
            query_pre_attn_scalar=16,
            sliding_window=6,
        ),
    ),
}


def random(name, shape):
    """What model/src/tests/synthetic.rs makes of a tensor's name: SplitMix64, then F16."""
    seed = 7
    for byte in name.encode():
        seed = (seed * 31 + byte) % (1 << 64)
    n_values = int(numpy.prod(shape))
    with numpy.errstate(over="ignore"):
        steps = numpy.arange(1, n_values + 1, dtype=numpy.uint64)
        z = numpy.uint64(seed) + steps * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z ^= z >> numpy.uint64(31)
    size = numpy.float32(1.0 if "norm" in name else 0.4)
    values = (z >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(1 << 23) - numpy.float32(1)
    return torch.from_numpy((size * values).astype(numpy.float16)).reshape(shape).float()


def family(name, model_name, options, tokens):
    config_name = model_name + ("TextConfig" if model_name == "Gemma3" else "Config")
    config = getattr(transformers, config_name)(**{**SHAPE, **options})
    config._attn_implementation = "eager"
    model = getattr(transformers, model_name + "ForCausalLM")(config).float().eval()
    parameters = dict(model.named_parameters())
    for parameter_name, parameter in parameters.items():
        parameter.data.copy_(random(parameter_name, parameter.shape))
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    rows = [logits[position][::STRIDE].tolist() for position in POSITIONS]
    written = json.loads(config.to_json_string(use_diff=False))
    written["architectures"] = [model_name + "ForCausalLM"]
    return {
        "family": name,
        "config": {key: value for key, value in written.items() if key in KEPT and value is not None},
        "shapes": {key: list(value.shape) for key, value in parameters.items()},
        "largest": float(f"{logits.abs().max():.6g}"),
        "logits": [[float(f"{x:.6g}") for x in row] for row in rows],
    }


def main():
    tokens = [(37 * i * i + 11 * i + 5) % SHAPE["vocab_size"] for i in range(N_TOKENS)]
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    print(json.dumps({"made_with": versions, "tokens": tokens, "positions": POSITIONS, "stride": STRIDE}))
    for name, (model_name, options) in FAMILIES.items():
        print(json.dumps(family(name, model_name, options, tokens)))


if __name__ == "__main__":
    main()
