"""The JSON Schemas in docs/ are those of the types, and real documents fit them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.report_documents import documents, json_report
from tests.support.scripts import docs_script

DOCS = Path(__file__).parents[2] / "docs"


def generator() -> Any:
    return docs_script("write_schemas")


def test_the_schemas_are_current() -> None:
    module = generator()
    files = {path.name: path.read_text(encoding="utf-8") for path in module.FOLDER.glob("*.schema.json")}
    assert files == module.schemas(), "run: python docs/write_schemas.py"


_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
}


def misfits(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "$") -> list[str]:
    """Where `value` does not fit `schema`, for the keywords that the generator writes."""
    if "$ref" in schema:
        return misfits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in schema:
        tried = [misfits(value, option, root, where) for option in schema["anyOf"]]
        return min(tried, key=len)
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{where}: {value!r} is not in {schema['enum']}"]
    kinds = schema.get("type", [])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if (kind == "null" and value is None) or (kind != "null" and isinstance(value, _TYPES[kind])):
            break
    else:
        if kinds:
            return [f"{where}: {value!r} is no {kinds}"]
    problems = []
    if isinstance(value, dict):
        known = schema.get("properties", {})
        problems += [f"{where}.{name} is missing" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            below = known.get(name, schema.get("additionalProperties"))
            if below is None and "properties" in schema:
                problems.append(f"{where}.{name} is not in the schema")
            else:
                problems += misfits(item, below or {}, root, f"{where}.{name}")
    if isinstance(value, list):
        for place, item in enumerate(value):
            own = schema["prefixItems"][place] if "prefixItems" in schema else schema.get("items", {})
            problems += misfits(item, own, root, f"{where}[{place}]")
    return problems


def test_a_report_and_its_recommendation_fit_their_schemas() -> None:
    report = json_report(documents())
    module = generator()
    schema = module.schema_of(module.Report)
    assert misfits(report, schema, schema) == []
    assert report["schema_version"] == 1
    recommendation = module.schema_of(module.Recommendation)
    assert misfits(report["recommendation"], recommendation, recommendation) == []


@pytest.mark.parametrize(
    ("change", "message"), [({"schema_version": "x"}, "'x' is no integer"), ({"odd": 1}, "not in")]
)
def test_a_document_that_does_not_fit_is_found(change: dict[str, Any], message: str) -> None:
    module = generator()
    schema = module.schema_of(module.Report)
    report = {**json_report(documents()), **change}
    assert message in " ".join(misfits(report, schema, schema))


def test_every_schema_is_json_with_definitions_for_every_reference() -> None:
    for name, text in generator().schemas().items():
        schema = json.loads(text)
        references = {line.split("/")[-1].rstrip('",') for line in text.splitlines() if '"$ref"' in line}
        assert references <= set(schema["$defs"]), name
