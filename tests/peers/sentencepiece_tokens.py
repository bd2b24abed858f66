"""What the SentencePiece library makes of texts with the vocabulary of a GGUF file.

    target/peers/bin/pip install sentencepiece gguf protobuf
    target/peers/bin/python tests/peers/sentencepiece_tokens.py gemma.gguf [TEXTS.jsonl] > tests/data/gemma3-tokens.jsonl

Each line is `{"text", "tokens"}`. The texts are those below, or the strings of each object of TEXTS.jsonl.
"""

import json
import random
import sys

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

TEXTS = """
The quick brown fox jumps over the lazy dog.
 a leading space, two  spaces, three   spaces, a trailing one 
don't you've I'LL 3.14159 1,000,000 0x1F 2026-11-23T17:20:00Z
naïve café Ångström ß ﬁ ﬂ œuvre É é
Русский текст, ещё немного; українська їжа
日本語のテキスト、漢字かな交じり文。中文文本，简体與繁體
한국어 텍스트 العربية עברית हिन्दी ไทย Ελληνικά
😀 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ☕️ ℵ₀ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ∑∫√
fn main() { println!("{}", vec![1, 2, 3].iter().sum::<i32>()); }
<table><tr><td>cell</td></tr></table> <h1>title</h1> </unknown> <b>bold</b>
[multimodal] [toxicity] <start_of_image> <unused0> <bos> <eos> <start_of_turn>user
{"key": [1, 2.5e-3, null, true], "nested": {"a": "b\\\\c\\n"}}
▁ ▁▁ already▁spaced ▁word
supercalifragilisticexpialidocious antidisestablishmentarianism
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ababababababababababab
""".strip("\n").split("\n")
MORE = [
    "", " ", "  ", "\n", "\n\n\n\n", "\t", "\t\t\tx", " \n \n", "a\nb\r\nc\rd", "    indented\n        more\n\n\n",
    "\x00\x01\x7f", "\u200b\u200d\ufeff", "e\u0301", "\ue000\U0010ffff\U000f0000", "x" * 300, " " * 70, "\n" * 70,
]


def vocabulary(path):
    reader = gguf.GGUFReader(path)
    field = lambda name: reader.fields[f"tokenizer.ggml.{name}"].contents()
    model = sentencepiece_model_pb2.ModelProto()
    kinds = model.SentencePiece
    # GGUF's numbers are SentencePiece's own.
    for text, score, kind in zip(field("tokens"), field("scores"), field("token_type")):
        if kind == kinds.USER_DEFINED:
            text = text.replace(" ", "\u2581")
        if text == "<unk>":
            kind = kinds.UNKNOWN
        model.pieces.add(piece=text, score=score, type=kind)
    model.trainer_spec.model_type = model.trainer_spec.BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = field("add_space_prefix")
    model.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def made_up(processor):
    """Pieces and characters in any order, which stress what may be joined."""
    source = random.Random(7)
    for _ in range(120):
        parts = []
        for _ in range(source.randint(1, 12)):
            piece = processor.id_to_piece(source.randrange(processor.vocab_size()))
            parts.append(source.choice([piece.replace("\u2581", " "), source.choice(" \n\t.aé語😀"), "  ", "\n\n"]))
        yield "".join(parts)


def main():
    processor = vocabulary(sys.argv[1])
    if len(sys.argv) > 2:
        lines = map(json.loads, open(sys.argv[2], encoding="utf-8"))
        texts = [value for line in lines for value in line.values() if isinstance(value, str)]
    else:
        texts = [*TEXTS, *MORE, "\n".join(TEXTS), *made_up(processor)]
    for text in texts:
        print(json.dumps({"text": text, "tokens": processor.encode(text)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
