#!/usr/bin/env python3
"""The official JSON-Schema-Test-Suite as lines for `lmrun grammar suite`.

    json_schema_suite.py FOLDER draft2020-12 > draft2020-12.jsonl
    json_schema_suite.py FOLDER draft7 --each-test > draft7.jsonl

FOLDER is a checkout of https://github.com/json-schema-org/JSON-Schema-Test-Suite (`tests` and `remotes` are read). One line
a group of tests, or a line a test with --each-test, which is how the suite itself counts. A line whose schema names the
suite's server carries the draft's remotes as `documents`; one that refers to a metaschema carries the metaschemas where
--metaschemas is given, from the PyPI package jsonschema-specifications.
"""

import argparse
import json
import sys
from pathlib import Path

SERVER = "http://localhost:1234"
SCHEMA_OF = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
}
METASCHEMAS_OF = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/",
    "draft7": "http://json-schema.org/draft-07/",
}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def remotes(folder, draft):
    """What the suite's server would give: the draft's own folder, and what lies outside every draft's."""
    root = folder / "remotes"
    documents = {}
    for path in sorted(root.rglob("*.json")):
        place = path.relative_to(root)
        of_some_draft = place.parts[0].startswith("draft") or place.parts[0] == "v1"
        if not of_some_draft or place.parts[0] == draft:
            documents[f"{SERVER}/{place.as_posix()}"] = load(path)
    return documents


def metaschemas(draft):
    from jsonschema_specifications import REGISTRY

    prefix = METASCHEMAS_OF[draft]
    found = {uri: REGISTRY.contents(uri) for uri in REGISTRY if uri.startswith(prefix)}
    return {uri.rstrip("#"): contents for uri, contents in found.items()}


def refers_to(schema, prefix):
    """Whether a reference anywhere in the schema begins so."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and str(value).startswith(prefix):
                return True
            if refers_to(value, prefix):
                return True
    return isinstance(schema, list) and any(refers_to(item, prefix) for item in schema)


def groups(folder, draft, optional):
    root = folder / "tests" / draft
    paths = sorted(root.glob("*.json"))
    if optional:
        paths += sorted((root / "optional").rglob("*.json"))
    for path in paths:
        for group in load(path):
            yield path.relative_to(root).with_suffix("").as_posix(), group


def lines(arguments):
    served = remotes(arguments.folder, arguments.draft)
    of_draft = metaschemas(arguments.draft) if arguments.metaschemas else {}
    for file, group in groups(arguments.folder, arguments.draft, arguments.optional):
        schema, name = group["schema"], f"{file}/{group['description']}"
        if isinstance(schema, dict) and "$schema" not in schema:
            schema = {"$schema": SCHEMA_OF[arguments.draft], **schema}
        documents = {}
        if SERVER in json.dumps(schema):
            documents.update(served)
        if refers_to(schema, METASCHEMAS_OF[arguments.draft]):
            documents.update(of_draft)
        line = {"name": name, "schema": schema}
        if documents:
            line["documents"] = documents
        if not arguments.each_test:
            yield {**line, "tests": [only_data(test) for test in group["tests"]]}
            continue
        for test in group["tests"]:
            yield {**line, "name": f"{name}/{test['description']}", "tests": [only_data(test)]}


def only_data(test):
    return {"valid": test["valid"], "data": test["data"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("draft", choices=list(SCHEMA_OF))
    parser.add_argument("--each-test", action="store_true", help="a line a test, not a group")
    parser.add_argument("--optional", action="store_true", help="the optional tests too")
    parser.add_argument("--metaschemas", action="store_true", help="with the draft's metaschemas")
    for line in lines(parser.parse_args()):
        json.dump(line, sys.stdout, ensure_ascii=False)
        print()


if __name__ == "__main__":
    main()
