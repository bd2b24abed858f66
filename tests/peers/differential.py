#!/usr/bin/env python3
"""Where lmrun and llguidance disagree about an instance, and which of them an independent validator agrees with.

    differential.py --vocabulary tokens.tiktoken [--lmrun BINARY] [-n 500] [--seed 1] [FILE.jsonl...]

The schemas are lines of the files (as `lmrun grammar suite` reads them), as they are and mutated, and random compositions
of keywords; the patterns of the files and random ones are constraints too. The instances are the lines' own, mutations of
these, and outputs of `lmrun grammar sample`, themselves and mutated. Each disagreement is a line of JSON; counts come last.
The judges are the Python packages `jsonschema` (with its formats) and, of patterns, `re`.
"""

import argparse
import collections
import copy
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from grammar_peers import PACKAGES, Llguidance, Refused, Empty, Vocabulary, enter_environment

N_INSTANCES = 10
SAMPLES = 3


class Lmrun:
    def __init__(self, binary, vocabulary, folder):
        self.command = [binary, "grammar", "--vocabulary", vocabulary, "--json"]
        self.folder = Path(folder)

    def samples(self, source, seed):
        """A few random outputs; none if it refuses the source."""
        kind, constraint = source
        path = self.folder / ("a.json" if kind == "schema" else "a.regex")
        path.write_text(json.dumps(constraint) if kind == "schema" else constraint)
        order = ["sample", str(path), "-n", str(SAMPLES), "--seed", str(seed)]
        run = subprocess.run([*self.command, *order], capture_output=True, text=True)
        if run.returncode == 3:
            return None
        outputs = [json.loads(line) for line in run.stdout.split("\n") if line]
        return [json.loads(text) for text in outputs] if kind == "schema" else outputs

    def differing(self, source, verdicts, *options):
        """Of (instance, verdict) pairs the indices of those of which the verdict is another one, or a reason why not."""
        kind, constraint = source
        path = self.folder / "a.jsonl"
        lines = (
            {"name": str(at), kind: constraint, "tests": [{"valid": verdict, "data": instance}]}
            for at, (instance, verdict) in enumerate(verdicts)
        )
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        run = subprocess.run([*self.command, "suite", *options, str(path)], capture_output=True, text=True)
        report = json.loads(run.stdout)
        if report["refused"]:
            return None, next(iter(report["by_reason"]))
        if report["errors"]:
            return None, report["first"]["errors"][0]
        return [int(name) for name in report["first"]["over"] + report["first"]["under"]], None


# Random schemas, instances and patterns.

NAMES = ["a", "b", "ab", "c1"]
TEXTS = ["", "a", "b", "ab", "b1", "é", "2024-02-29", "10.0.0.1"]
PATTERNS = ["^a", "b$", "^(ab|c)*$", "[0-9]", "^.{1,2}$", "^[a-z]+-[0-9]{2}$"]


def some(chance, choices):
    return [choice for choice in choices if chance.random() < 0.5] or [chance.choice(choices)]


def any_instance(chance, depth=2):
    if depth and chance.random() < 0.4:
        if chance.random() < 0.5:
            return [any_instance(chance, depth - 1) for _ in range(chance.randrange(4))]
        return {name: any_instance(chance, depth - 1) for name in some(chance, NAMES)}
    return chance.choice([None, True, False, 0, 1, 2, 3, -1, 0.5, 2.25, *TEXTS])


def any_schema(chance, depth=3):
    """What both sides take more often than not: mostly typed, disjoint branches, no `not`."""

    def inner():
        return any_schema(chance, depth - 1)

    def bounds(low, high):
        pair = sorted(chance.randrange(5) for _ in range(2))
        return {key: n for key, n in zip((low, high), pair) if chance.random() < 0.7}

    kinds = ["string", "integer", "number", "enum", "scalar"]
    kinds += ["object", "object", "array", "anyOf", "allOf"] if depth else []
    kind = chance.choice(kinds)
    if kind == "string":
        schema = {"type": "string", **bounds("minLength", "maxLength")}
        if chance.random() < 0.4:
            schema = {"type": "string", "pattern": chance.choice(PATTERNS)}
        return schema
    if kind in ("integer", "number"):
        schema = {"type": kind, **bounds("minimum", "maximum")}
        if chance.random() < 0.3:
            schema["multipleOf"] = chance.choice([2, 3, 0.5, 0.25])
        return schema
    if kind == "enum":
        return {"enum": [any_instance(chance, 1) for _ in range(3)]}
    if kind == "scalar":
        return {"type": some(chance, ["null", "boolean", "integer", "string"])}
    if kind in ("anyOf", "allOf"):
        return {kind: [inner() for _ in range(2)]}
    if kind == "array":
        schema = {"type": "array", "items": inner(), **bounds("minItems", "maxItems")}
        if chance.random() < 0.4:
            schema["prefixItems"] = [inner()]
        return schema
    schema = {"type": "object", "properties": {name: inner() for name in some(chance, NAMES)}}
    if chance.random() < 0.6:
        schema["required"] = some(chance, NAMES)
    if chance.random() < 0.6:
        schema["additionalProperties"] = chance.choice([False, inner()])
    if chance.random() < 0.2:
        schema["patternProperties"] = {"^x": inner()}
    return schema


def places(value, path=()):
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*path, key))


def mutated(value, chance, new):
    """A copy with one place replaced by something new, or taken away."""
    value = copy.deepcopy(value)
    path = chance.choice(list(places(value)))
    if not path:
        return new()
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if chance.random() < 0.3:
        del parent[path[-1]]
    elif isinstance(parent, dict) and chance.random() < 0.2:
        parent[chance.choice(NAMES)] = parent.pop(path[-1])
    else:
        parent[path[-1]] = new()
    return value


def mutated_text(text, chance):
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice(["", "a", "0", "-", " ", "é", "\n"]) + text[at + chance.randrange(2) :]


def any_pattern(chance, depth=2):
    atoms = ["a", "the", "[a-z]", "[^ab]", r"\d", r"\w", r"\s", ".", "é", "(?i:ab)"]

    def atom():
        if depth and chance.random() < 0.3:
            return f"(?:{any_pattern(chance, depth - 1)})"
        return chance.choice(atoms)

    def sequence():
        counts = ["", "", "*", "+", "?", "{2,4}"]
        return "".join(atom() + chance.choice(counts) for _ in range(chance.randrange(1, 5)))

    return "|".join(sequence() for _ in range(chance.randrange(1, 3)))


def patterns_of(value):
    if isinstance(value, dict):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        for inner in value.values():
            yield from patterns_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from patterns_of(inner)


def sources(lines, n, chance):
    """(kind, constraint) and instances to begin with."""
    for line in lines:
        data = [test["data"] for test in line["tests"]]
        yield ("schema", line["schema"]), data
        # A mutated schema stays near what real ones look like.
        yield ("schema", mutated(line["schema"], chance, lambda: any_schema(chance, 1))), data
    for _ in range(n):
        yield ("schema", any_schema(chance)), [any_instance(chance) for _ in range(4)]
    found = sorted({pattern for line in lines for pattern in patterns_of(line["schema"])})
    for pattern in found + [any_pattern(chance) for _ in range(n // 5)]:
        # llguidance's patterns match as a whole, as ours do.
        yield ("regex", pattern), ["", "a", "ab", "10.0.0.1"]


# The judges.


def judge(source):
    """Says whether an instance is valid; none if the source means nothing to it."""
    kind, constraint = source
    if kind == "regex":
        try:
            pattern = re.compile(constraint)
        except re.error:
            return None
        return lambda text: pattern.fullmatch(text) is not None
    import jsonschema

    try:
        validator = jsonschema.validators.validator_for(
            constraint, default=jsonschema.Draft202012Validator
        )
        validator.check_schema(constraint)
        return validator(constraint, format_checker=validator.FORMAT_CHECKER).is_valid
    except Exception:
        return None


def verdict(holds, instance):
    try:
        return holds(instance) if holds else None
    except Exception:
        return None


# The comparison.


def peer_verdicts(engine, compiled, source, instances, vocabulary):
    for instance in instances:
        text = instance
        if source[0] == "schema":
            text = json.dumps(instance, ensure_ascii=False, separators=(",", ":"))
        try:
            matcher = engine.start(compiled)
            accepted = matcher.consume_tokens(vocabulary(text.encode()))
            yield instance, accepted and engine.is_complete(matcher)
        except UnicodeEncodeError:
            continue


def instances_of(source, given, samples, chance):
    instances = list(given) + list(samples)
    while instances and len(instances) < N_INSTANCES:
        base = chance.choice(instances)
        if source[0] == "schema":
            instances.append(mutated(base, chance, lambda: any_instance(chance, 1)))
        else:
            instances.append(mutated_text(base, chance))
    return instances[:N_INSTANCES]


def compare(engine, ours, vocabulary, source, given, chance, counts):
    counts["constraints"] += 1
    try:
        compiled = engine.compile({source[0]: source[1]})
    except (Refused, Empty):
        counts["constraints that the peer refuses"] += 1
        return
    samples = ours.samples(source, chance.randrange(1 << 30))
    if samples is None:
        counts["constraints that lmrun alone refuses"] += 1
        return
    instances = instances_of(source, given, samples, chance)
    verdicts = list(peer_verdicts(engine, compiled, source, instances, vocabulary))
    differing, reason = ours.differing(source, verdicts)
    if differing is None:
        counts["errors of lmrun"] += 1
        print(json.dumps({"error": reason, source[0]: source[1]}))
        return
    holds = judge(source)
    # The peer takes members in declared order only.
    in_order, _ = ours.differing(source, verdicts, "--declared-order") if differing else ([], None)
    counts["instances"] += len(verdicts)
    for at, (instance, peer) in enumerate(verdicts):
        lmrun = peer != (at in differing)
        truth = verdict(holds, instance)
        if lmrun and truth and not peer and at not in (in_order or []):
            counts["instances that differ by the order of members alone"] += 1
        elif lmrun != peer or truth not in (None, lmrun):
            words = {True: "accepts", False: "refuses", None: "says nothing"}
            who = f"lmrun {words[lmrun]}, the peer {words[peer]}, the judge {words[truth]}"
            counts[f"{source[0]}: {who}"] += 1
            print(json.dumps({"who": who, source[0]: source[1], "instance": instance}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", help="JSONL, as `lmrun grammar suite` reads it")
    parser.add_argument("--vocabulary", required=True, help="tokens in tiktoken's format")
    parser.add_argument("--lmrun", default="target/release/lmrun", help="the binary")
    parser.add_argument("-n", type=int, default=500, help="lines taken, and schemas composed")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    enter_environment([*PACKAGES["llguidance"], "jsonschema[format-nongpl]==4.26.0"])
    chance = random.Random(arguments.seed)
    lines = [json.loads(line) for path in arguments.files for line in open(path, encoding="utf-8")]
    lines = chance.sample(lines, min(arguments.n, len(lines)))
    vocabulary = Vocabulary(arguments.vocabulary)
    engine = Llguidance(vocabulary)
    counts = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        ours = Lmrun(arguments.lmrun, arguments.vocabulary, folder)
        for source, given in sources(lines, arguments.n, chance):
            compare(engine, ours, vocabulary, source, given, chance, counts)
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
