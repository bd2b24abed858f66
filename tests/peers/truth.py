"""What llama.cpp's arithmetic does to the distribution, by the oracle and over the windows that ours is measured by.

    mkfifo oracle
    LMRUN_DATA=... LMRUN_POSITIONS=20000 LMRUN_ORACLE=oracle \\
        cargo test --release --test main -- --ignored gsm8k --nocapture &
    PYTHON tests/peers/truth.py --model FILE.gguf oracle

PYTHON has llama-cpp-python and numpy; FILE is the model that the test compares. The oracle's logits are four gigabytes for
20,000 positions, so they go through a pipe; a file does as well. Prints the mean Kullback-Leibler divergence from
the oracle, the share of positions with the same most probable token, and the perplexity of both over the same text.
"""

import argparse

import numpy

from cpu_speed import LlamaCpp


def windows(file):
    """Each window's tokens, and the oracle's logits after each of them."""
    while sizes := file.read(8):
        n_tokens, n_vocab = numpy.frombuffer(sizes, "<u4")
        tokens = numpy.frombuffer(file.read(4 * n_tokens), "<u4")
        logits = numpy.frombuffer(file.read(4 * n_tokens * n_vocab), "<f4")
        yield tokens, logits.reshape(n_tokens, n_vocab)


def logits(engine, tokens):
    """llama.cpp's logits after each token of a window, which starts with an empty context."""
    engine.clear()
    batch = engine.batch
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = int(token), i, 1
        batch.seq_id[i][0], batch.logits[i] = 0, True
    if engine.c.llama_decode(engine.context, batch) != 0:
        raise RuntimeError("llama_decode failed")
    vocabulary = engine.c.llama_model_get_vocab(engine.model)
    n_vocab = engine.c.llama_vocab_n_tokens(vocabulary)
    start = engine.c.llama_get_logits(engine.context)
    return numpy.ctypeslib.as_array(start, (len(tokens), n_vocab))


def log_softmax(rows):
    shifted = rows.astype(numpy.float64) - rows.max(axis=1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("oracle", help="what the test writes")
    options = parser.parse_args()
    engine = LlamaCpp(options.model, options.threads)
    n_positions = n_equal = n_followed = 0
    divergence, surprise = 0.0, numpy.zeros(2)
    with open(options.oracle, "rb") as file:
        for tokens, oracle in windows(file):
            truth, theirs = log_softmax(oracle), log_softmax(logits(engine, tokens))
            divergence += (numpy.exp(truth) * (truth - theirs)).sum()
            n_equal += (truth.argmax(axis=1) == theirs.argmax(axis=1)).sum()
            n_positions += len(tokens)
            following = numpy.arange(len(tokens) - 1), tokens[1:]
            surprise -= truth[following].sum(), theirs[following].sum()
            n_followed += len(tokens) - 1
    oracles, theirs = numpy.exp(surprise / n_followed)
    print(f"llama.cpp over {n_positions} positions: mean KL divergence {divergence / n_positions:.3e}, ", end="")
    print(f"equal top-1 {100 * n_equal / n_positions:.2f} %, perplexity {theirs:.4f} (oracle {oracles:.4f})")


if __name__ == "__main__":
    main()
