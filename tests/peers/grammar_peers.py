#!/usr/bin/env python3
"""What other constraint engines make of the lines that `lmrun grammar suite` reads, counted and timed alike.

    grammar_peers.py vocabulary model.gguf > tokens.tiktoken       a vocabulary both sides can use
    grammar_peers.py suite --vocabulary tokens.tiktoken FILE.jsonl...
    grammar_peers.py table --vocabulary tokens.tiktoken --reports REPORT.json... -- FILE.jsonl...

A line passes if every valid instance is accepted to its end in both spellings and every invalid one is not; the tokens are
cut greedily, each the longest that fits. Prints one JSON object with the members of `lmrun grammar suite --json`, and
`by_group`: the counts of the lines whose names begin alike, up to a `/`, which in the official suite is a keyword. A table
sets these of several engines, and lmrun's own, side by side.

The packages are installed once into a virtual environment, `target/peers` unless LMRUN_PEERS names another folder.
Times are taken around the call from Python, which adds about a microsecond to each.
"""

import argparse
import base64
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import version
from pathlib import Path

PACKAGES = {
    "llguidance": ["llguidance==1.9.1", "numpy"],
    # xgrammar brings torch, several gigabytes.
    "xgrammar": ["xgrammar==0.2.8"],
    "outlines-core": ["outlines-core==0.2.14", "numpy"],
    "gguf": ["gguf==0.19.0"],
}
SPELLINGS = [(",", ":"), (", ", ": ")]
N_FIRST = 10


def enter_environment(packages):
    """Goes on inside a virtual environment that holds the packages."""
    folder = Path(
        os.environ.get("LMRUN_PEERS", Path(__file__).resolve().parents[2] / "target" / "peers")
    )
    if Path(sys.prefix).resolve() != folder.resolve():
        if not (folder / "bin" / "python").exists():
            venv.create(folder, with_pip=True)
        python = str(folder / "bin" / "python")
        os.execv(python, [python, *sys.argv])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True, stdout=sys.stderr)


# The vocabulary.


def byte_of_character():
    """GPT-2's spelling of bytes as characters, inverted."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {chr(byte): byte for byte in plain}
    table.update({chr(256 + idx): byte for idx, byte in enumerate(others)})
    return table


def print_vocabulary(path):
    """The ordinary tokens of a GGUF file's byte-level vocabulary, in tiktoken's format: base64 and id."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    byte_of = byte_of_character()
    for token_id, (token, kind) in enumerate(zip(tokens, kinds)):
        if kind == 1:
            token_bytes = bytes(byte_of[character] for character in token)
            print(base64.b64encode(token_bytes).decode(), token_id)


class Vocabulary:
    """Token bytes, the end token after the last of them, and the greedy cut."""

    def __init__(self, path):
        ids = {}
        for line in Path(path).read_text().splitlines():
            if line:
                encoded, token_id = line.split()
                ids.setdefault(base64.b64decode(encoded), int(token_id))
        self.ids = ids
        self.longest = max(map(len, ids))
        self.eos_token_id = max(ids.values()) + 1
        self.bos_token_id = None
        self.tokens = [b""] * self.eos_token_id + [b"<|end|>"]
        for token, token_id in ids.items():
            self.tokens[token_id] = token
        self.special_token_ids = [
            token_id for token_id, token in enumerate(self.tokens) if not token
        ] + [self.eos_token_id]
        # An unused id must have some bytes, distinct from every token's.
        for token_id in self.special_token_ids[:-1]:
            self.tokens[token_id] = b"<|unused%d|>" % token_id

    def __call__(self, text):
        cut, at = [], 0
        while at < len(text):
            for length in range(min(self.longest, len(text) - at), 0, -1):
                token_id = self.ids.get(text[at : at + length])
                if token_id is not None:
                    break
            else:
                raise ValueError(f"no token for byte {text[at]}")
            cut.append(token_id)
            at += length
        return cut


# The engines. Each compiles to a matcher factory, or raises Refused or Empty.


class Refused(Exception):
    """The constraint was not compiled."""


class Empty(Exception):
    """Nothing satisfies the constraint: an answer, not a refusal."""


class EngineError(Exception):
    """Something went wrong while it ran."""


class Llguidance:
    def __init__(self, vocabulary):
        from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        self.name = f"llguidance {version('llguidance')}"
        self.matcher_type = LLMatcher
        self.fill = fill_next_token_bitmask
        self.tokenizer = LLTokenizer(TokenizerWrapper(vocabulary), slices=LLTokenizer.json_slices())
        self.bits = allocate_token_bitmask(1, self.tokenizer.vocab_size)

    def compile(self, line):
        if "schema" in line:
            grammar = self.matcher_type.grammar_from_json_schema(json.dumps(line["schema"]))
        elif "regex" in line:
            grammar = self.matcher_type.grammar_from_regex(line["regex"])
        else:
            grammar = self.matcher_type.grammar_from_lark(line["grammar"])
        matcher = self.matcher_type(self.tokenizer, grammar, log_level=0)
        if matcher.is_error():
            message = matcher.get_error()
            raise Empty() if "nsatisfiable" in message else Refused(message)
        return matcher

    def start(self, compiled):
        return compiled.deep_copy()

    def mask(self, matcher):
        self.fill(matcher, self.bits)

    def allows(self, token_id):
        return int(self.bits[0, token_id >> 5]) >> (token_id & 31) & 1 == 1

    def accept(self, matcher, token_id):
        if not matcher.consume_token(token_id):
            raise EngineError(matcher.get_error())

    def check(self, matcher):
        if matcher.is_error():
            raise EngineError(matcher.get_error())

    def is_complete(self, matcher):
        return matcher.is_accepting()


class Xgrammar:
    def __init__(self, vocabulary):
        import xgrammar

        self.xgrammar = xgrammar
        self.name = f"xgrammar {version('xgrammar')}"
        info = xgrammar.TokenizerInfo(
            vocabulary.tokens, stop_token_ids=[vocabulary.eos_token_id]
        )
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.bits = xgrammar.allocate_token_bitmask(1, len(vocabulary.tokens))

    def compile(self, line):
        try:
            if "schema" in line:
                # Strict mode would forbid names and items that the schema does not declare.
                return self.compiler.compile_json_schema(
                    json.dumps(line["schema"]), strict_mode=False
                )
            if "regex" in line:
                return self.compiler.compile_regex(line["regex"])
            return self.compiler.compile_grammar(line["grammar"])
        except Exception as error:
            message = str(error)
            raise Empty() if "cannot accept any value" in message else Refused(message)

    def start(self, compiled):
        return self.xgrammar.GrammarMatcher(compiled)

    def mask(self, matcher):
        matcher.fill_next_token_bitmask(self.bits)

    def allows(self, token_id):
        return int(self.bits[0, token_id >> 5]) >> (token_id & 31) & 1 == 1

    def accept(self, matcher, token_id):
        if not matcher.accept_token(token_id):
            raise EngineError("the mask allowed a token that is not accepted")

    def check(self, matcher):
        pass

    def is_complete(self, matcher):
        return matcher.is_completed()


class OutlinesCore:
    """A schema becomes a regex, a regex an index of every state's tokens; masks are looked up. There are no grammars."""

    def __init__(self, vocabulary):
        import numpy
        import outlines_core

        self.outlines_core = outlines_core
        self.name = f"outlines-core {version('outlines-core')}"
        ids = {token: [token_id] for token, token_id in vocabulary.ids.items()}
        self.vocabulary = outlines_core.Vocabulary(vocabulary.eos_token_id, ids)
        self.bits = numpy.zeros(len(vocabulary.tokens) // 32 + 1, dtype=numpy.uint32)

    def compile(self, line):
        try:
            if "schema" in line:
                schema = json.dumps(line["schema"])
                pattern = self.outlines_core.json_schema.build_regex_from_schema(schema)
            else:
                pattern = line["regex"]
            return self.outlines_core.Index(pattern, self.vocabulary)
        except ValueError as error:
            raise Refused(str(error))

    def start(self, compiled):
        return self.outlines_core.Guide(compiled)

    def mask(self, matcher):
        matcher.write_mask_into(self.bits.ctypes.data, self.bits.size, self.bits.itemsize)

    def allows(self, token_id):
        return int(self.bits[token_id >> 5]) >> (token_id & 31) & 1 == 1

    def accept(self, matcher, token_id):
        try:
            matcher.advance(token_id, return_tokens=False)
        except ValueError as error:
            raise EngineError(str(error))

    def check(self, matcher):
        pass

    def is_complete(self, matcher):
        return matcher.is_finished()


ENGINES = {"llguidance": Llguidance, "xgrammar": Xgrammar, "outlines-core": OutlinesCore}


# The suite.


def texts(line, data):
    if "schema" not in line:
        return [data.encode()]
    spelled = (
        json.dumps(data, ensure_ascii=False, separators=separators) for separators in SPELLINGS
    )
    return [text.encode() for text in dict.fromkeys(spelled)]


def accepts(engine, matcher, tokens, mask_us):
    """Whether the tokens are accepted and the output is then complete."""
    for token_id in tokens:
        started = time.perf_counter_ns()
        engine.mask(matcher)
        mask_us.append((time.perf_counter_ns() - started) / 1e3)
        engine.check(matcher)
        if not engine.allows(token_id):
            return False
        engine.accept(matcher, token_id)
    return engine.is_complete(matcher)


def judge(engine, compiled, line, vocabulary, mask_us):
    """`passed`, `over` or `under`; a line that is both is `under`, the graver."""
    verdict = "passed"
    for test in line["tests"]:
        for text in texts(line, test["data"]):
            accepted = accepts(engine, engine.start(compiled), vocabulary(text), mask_us)
            if accepted and not test["valid"]:
                return "under"
            if test["valid"] and not accepted:
                verdict = "over"
    return verdict


def reason_of(message):
    """The class of a refusal: its first line, numbers left out."""
    return re.sub(r"\d+", "N", message.strip().split("\n")[0])[:100]


def percentiles(samples):
    if not samples:
        return None
    ordered = sorted(samples)

    def at(share):
        # The nearest rank: the smallest sample that is no less than that share of all.
        return round(ordered[max(0, -int(-share * len(ordered) // 1) - 1)], 3)

    return {
        "n": len(ordered),
        "p50": at(0.5),
        "p95": at(0.95),
        "p99": at(0.99),
        "p999": at(0.999),
        "max": round(ordered[-1], 3),
        "mean": round(sum(ordered) / len(ordered), 3),
    }


def lines_of(paths, every):
    n_seen = 0
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for text in file:
                if text.strip():
                    if n_seen % every == 0:
                        yield json.loads(text)
                    n_seen += 1


def outcome(engine, line, vocabulary):
    """A line's verdict, what there is to say of it, and the microseconds of masks and of compiling."""
    mask_us, compile_us = [], []
    try:
        started = time.perf_counter_ns()
        compiled = engine.compile(line)
        compile_us.append((time.perf_counter_ns() - started) / 1e3)
        return judge(engine, compiled, line, vocabulary, mask_us), None, mask_us, compile_us
    except Empty:
        has_valid = any(test["valid"] for test in line["tests"])
        return "over" if has_valid else "passed", None, mask_us, compile_us
    except Refused as error:
        return "refused", str(error), mask_us, compile_us
    except EngineError as error:
        return "errors", str(error), mask_us, compile_us


def outcome_within(seconds, engine, line, vocabulary):
    """The outcome, found by a process of its own, which may take so many seconds of processor time."""
    processes = multiprocessing.get_context("fork")
    receiver, sender = processes.Pipe(duplex=False)

    def find():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        sender.send(outcome(engine, line, vocabulary))

    process = processes.Process(target=find)
    process.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        found = None
    process.join()
    if found is None:
        timed_out = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        why = f"no answer within {seconds} seconds" if timed_out else "the process came to a bad end"
        found = "refused" if timed_out else "errors", why, [], []
    return found


VERDICTS = ["passed", "over", "under", "refused", "errors"]


def run_suite(engine, lines, vocabulary, seconds):
    counts = dict.fromkeys(["schemas", *VERDICTS], 0)
    mask_us, compile_us, by_reason, by_group = [], [], {}, {}
    first = {"over": [], "under": [], "errors": []}
    for line in lines:
        counts["schemas"] += 1
        if sys.stderr.isatty():
            print(f"\r{counts['schemas']}", end="", file=sys.stderr)
        found = outcome_within(seconds, engine, line, vocabulary) if seconds else outcome(engine, line, vocabulary)
        verdict, why, line_mask_us, line_compile_us = found
        mask_us += line_mask_us
        compile_us += line_compile_us
        counts[verdict] += 1
        name = line["name"]
        group, slash, _ = name.partition("/")
        if slash:
            by_group.setdefault(group, dict.fromkeys(VERDICTS, 0))[verdict] += 1
        if verdict == "refused":
            reason = by_reason.setdefault(reason_of(why), {"n": 0, "first": []})
            reason["n"] += 1
            if len(reason["first"]) < N_FIRST:
                reason["first"].append(name)
        elif verdict in first and len(first[verdict]) < N_FIRST:
            first[verdict].append(f"{name}: {why}" if why else name)
    by_reason = dict(sorted(by_reason.items(), key=lambda item: -item[1]["n"]))
    return {
        "engine": engine.name,
        **counts,
        "mask_us": percentiles(mask_us),
        "compile_us": percentiles(compile_us),
        "by_reason": by_reason,
        "by_group": by_group,
        "first": first,
    }


def lmrun_report(binary, vocabulary, lines):
    """lmrun's counts by group: a run of the binary each."""
    by_name, by_group = {}, {}
    for line in lines:
        by_name.setdefault(line["name"].partition("/")[0], []).append(json.dumps(line))
    for group, texts in by_name.items():
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write("\n".join(texts))
            file.flush()
            command = [binary, "grammar", "suite", "--json", "--vocabulary", vocabulary, file.name]
            report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout)
        by_group[group] = {verdict: report[verdict] for verdict in VERDICTS}
    return {"engine": "lmrun", "by_group": by_group}


def table(reports):
    """Groups by engines in Markdown: what passed, and what of the rest came of what."""
    yield "| | tests | " + " | ".join(report["engine"] for report in reports) + " |"
    yield "|---|---|" + "---|" * len(reports)
    for group in reports[-1]["by_group"]:
        of_group = [report["by_group"][group] for report in reports]
        cells = []
        for counts in of_group:
            rest = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS[1:] if counts[verdict]]
            cells.append(", ".join([str(counts["passed"]), *rest]) if rest else "all")
        yield f"| {group} | {sum(of_group[0].values())} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("vocabulary", help="a GGUF file's vocabulary in tiktoken's format")
    command.add_argument("gguf", help="the model's file; its vocabulary must be byte-level")
    command = commands.add_parser("suite", help="count and time an engine")
    command.add_argument("files", nargs="+", help="JSONL, as `lmrun grammar suite` reads it")
    command.add_argument("--engine", choices=list(ENGINES), default="llguidance")
    command.add_argument("--vocabulary", required=True, help="tokens in tiktoken's format")
    command.add_argument("--every", type=int, default=1, help="take every Nth line")
    command.add_argument("--seconds", type=int, help="processor time of a line, which is refused when that is spent")
    command = commands.add_parser("table", help="groups of tests by engine, in Markdown")
    command.add_argument("files", nargs="+", help="the lines that the reports are of")
    command.add_argument("--reports", nargs="+", type=Path, required=True, help="what `suite` printed of other engines")
    command.add_argument("--vocabulary", required=True, help="tokens in tiktoken's format")
    command.add_argument("--lmrun", default="target/release/lmrun", help="the binary")
    arguments = parser.parse_args()
    if arguments.command == "vocabulary":
        enter_environment(PACKAGES["gguf"])
        print_vocabulary(arguments.gguf)
        return
    if arguments.command == "table":
        reports = [json.loads(path.read_text()) for path in arguments.reports]
        lines = lines_of(arguments.files, every=1)
        reports.append(lmrun_report(arguments.lmrun, arguments.vocabulary, lines))
        print("\n".join(table(reports)))
        return
    enter_environment(PACKAGES[arguments.engine])
    vocabulary = Vocabulary(arguments.vocabulary)
    engine = ENGINES[arguments.engine](vocabulary)
    lines = lines_of(arguments.files, arguments.every)
    print(json.dumps(run_suite(engine, lines, vocabulary, arguments.seconds)))


if __name__ == "__main__":
    main()
