"""A Llama of random weights as Hugging Face lays one out, in bf16: for speed, where no checkpoint can be fetched.

    python3 tests/peers/random_llama.py FOLDER [--shape tiny|1b|8b]

The shapes are those of Llama 3.2 1B and Llama 3.1 8B. The vocabulary's tokens are bytes and two that end a turn; the other
rows of the embedding stand for nothing. Only Python itself is needed.
"""

import argparse
import json
import os
import random
import struct

# Layers, hidden, feed-forward, heads, heads of keys, elements of a head, rows of the embedding, whether that is the head.
SHAPES = {
    "tiny": (2, 64, 128, 4, 2, 16, 512, True),
    "1b": (16, 2048, 8192, 32, 8, 64, 128256, True),
    "8b": (32, 4096, 14336, 32, 8, 128, 128256, False),
}
SPECIAL = ["<|begin|>", "<|end|>"]
N_SHUFFLED = 1 << 24
ONE = b"\x80\x3f"


def config(shape):
    n_layers, hidden, ff, n_heads, n_kv_heads, head_dim, n_vocab, is_tied = shape
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_size": hidden, "intermediate_size": ff, "num_hidden_layers": n_layers, "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads, "head_dim": head_dim, "vocab_size": n_vocab, "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0, "max_position_embeddings": 131072, "hidden_act": "silu", "tie_word_embeddings": is_tied,
        "attention_bias": False, "mlp_bias": False, "bos_token_id": 0, "eos_token_id": 1,
    }


def tensors(shape):
    """Names and shapes."""
    n_layers, hidden, ff, n_heads, n_kv_heads, head_dim, n_vocab, is_tied = shape
    yield "model.embed_tokens.weight", [n_vocab, hidden]
    for layer in range(n_layers):
        for name, of in [
            ("input_layernorm", [hidden]), ("self_attn.q_proj", [n_heads * head_dim, hidden]),
            ("self_attn.k_proj", [n_kv_heads * head_dim, hidden]), ("self_attn.v_proj", [n_kv_heads * head_dim, hidden]),
            ("self_attn.o_proj", [hidden, n_heads * head_dim]), ("post_attention_layernorm", [hidden]),
            ("mlp.gate_proj", [ff, hidden]), ("mlp.up_proj", [ff, hidden]), ("mlp.down_proj", [hidden, ff]),
        ]:
            yield f"model.layers.{layer}.{name}.weight", of
    yield "model.norm.weight", [hidden]
    if not is_tied:
        yield "lm_head.weight", [n_vocab, hidden]


def shuffled():
    """Values of about 0.01 to 0.03, of either sign."""
    noise = bytearray(random.Random(1).randbytes(2 * N_SHUFFLED))
    signs = bytes(0x3C | byte & 0x80 for byte in range(256))
    noise[1::2] = noise[1::2].translate(signs)
    return bytes(noise)


def write_weights(path, shape):
    header, offset = {}, 0
    for name, of in tensors(shape):
        n_bytes = 2 * of[0] * (of[1] if len(of) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": of, "data_offsets": [offset, offset + n_bytes]}
        offset += n_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = memoryview(shuffled())
    start = 0
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for of in header.values():
            n_left = of["data_offsets"][1] - of["data_offsets"][0]
            if len(of["shape"]) == 1:
                file.write(ONE * (n_left // 2))
                continue
            # Each tensor begins elsewhere, so that no two rows of a matrix need be alike.
            start = (start + 2 * 7_654_321) % len(noise)
            while n_left > 0:
                piece = noise[start : start + n_left]
                file.write(piece)
                n_left -= len(piece)
                start = (start + len(piece)) % len(noise)


def tokenizer():
    """A token a byte, by GPT-2's characters of bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    of_byte = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    texts = SPECIAL + [of_byte[byte] for byte in range(256)]
    added = [
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, text in enumerate(SPECIAL)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "post_processor": None, "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {text: i for i, text in enumerate(texts)}, "merges": [],
        },
    }


def write(folder, shape):
    os.makedirs(folder, exist_ok=True)
    settings = {
        "bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
    }
    for name, content in [
        ("config.json", config(shape)), ("tokenizer.json", tokenizer()), ("tokenizer_config.json", settings),
        ("generation_config.json", {"bos_token_id": 0, "eos_token_id": 1}),
    ]:
        with open(os.path.join(folder, name), "w") as file:
            json.dump(content, file)
    write_weights(os.path.join(folder, "model.safetensors"), shape)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    arguments = parser.parse_args()
    write(arguments.folder, SHAPES[arguments.shape])
