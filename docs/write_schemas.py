"""Writes docs/reference/schemas: a JSON Schema for each document of trtpoets, generated from its dataclass.

    python docs/write_schemas.py

tests/core/test_schemas.py checks that the files are up to date.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from trtpoets.core.manifest import Manifest
from trtpoets.core.runner_id import RunnerId
from trtpoets.core.serialization import Hint, hints_of
from trtpoets.judge.bench.benchmark import Benchmark
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.judge.race import Race
from trtpoets.judge.sweep import Sweep
from trtpoets.judge.train_benchmark import TrainBenchmark
from trtpoets.pipeline.card_details import DOCUMENTS
from trtpoets.reporting.model import Report
from trtpoets.reporting.recommendation import Recommendation

FOLDER = Path(__file__).resolve().parent / "reference" / "schemas"

KINDS: Mapping[str, type] = {
    "report": Report,
    "evaluation": Evaluations,
    "benchmark": Benchmark,
    "train-benchmark": TrainBenchmark,
    "sweep": Sweep,
    "race": Race,
    "recommendation": Recommendation,
    "manifest": Manifest,
    **{f"card.{name.removesuffix('.json')}": kind for name, kind in DOCUMENTS.items()},
}
"""Name of the schema file, without `.schema.json`, -> type of the document."""

_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number"}


def schema_of(kind: type) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a document; nested dataclasses are in `$defs`, named MODULE.CLASS."""
    definitions: dict[str, Any] = {}
    root = _object(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.__name__,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a dataclass; adds the dataclasses in its fields to `definitions`."""
    hints, properties, required = hints_of(kind), {}, []
    for field in fields(kind):
        if field.metadata.get("flat"):
            row = _runner_row()
            properties.update(row)
            required += [name for name in row if name != "form"]  # only rows about another form have it
            continue
        properties[field.name] = _schema(hints[field.name], definitions)
        defaulted = field.default is not MISSING or field.default_factory is not MISSING
        if not defaulted and not field.metadata.get("optional"):
            required.append(field.name)
    description = (kind.__doc__ or "").partition("\n")[0]
    return {"type": "object", "description": description, "properties": properties, "required": required}


def _runner_row() -> dict[str, Any]:
    """Return the schemas of the fields that a RunnerId with the metadata FLAT has in its object."""
    names = RunnerId.__dataclass_fields__
    text: dict[str, Any] = {"type": "string"}
    return {
        "runner": text,
        **{name: text for name in names if name not in ("precision", "variant")},
        "precision": {"type": ["string", "null"]},
        "variant": {"type": "array", "items": text},
    }


def _schema(hint: Hint, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type hint, which may be None if the hint is optional."""
    schema = _required_schema(hint, definitions)
    return {"anyOf": [schema, {"type": "null"}]} if hint.optional else schema


def _required_schema(hint: Hint, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: PLR0911 - one for each type
    """Return the schema of a type hint for values other than None."""
    kind = hint.kind
    if kind is Any:
        return {}
    if is_dataclass(kind):
        assert isinstance(kind, type)
        schema = _object(kind, definitions)
        name = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
        if definitions.setdefault(name, schema) != schema:
            raise ValueError(f"two types in one document have the name {name}")
        return {"$ref": f"#/$defs/{name}"}
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return {"type": "string"}
    items = [_schema(item, definitions) for item in hint.args]
    if kind in (tuple, list):
        if hint.many:
            return {"type": "array", "items": items[0]}
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    return {"type": "object", "additionalProperties": items[-1] if items else {}}


def schemas() -> dict[str, str]:
    """Return the text of every schema, by file name."""
    return {
        f"{name}.schema.json": json.dumps(schema_of(kind), indent=1, ensure_ascii=False) + "\n"
        for name, kind in KINDS.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.schema.json"):
        old.unlink()
    for name, text in schemas().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
