"""model.json in the folder of a classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.support.tiny import tiny_spec
from trtpoets.core.model_json import MODEL_JSON, write_model_json
from trtpoets.core.types import ModelSpec

PACKAGE = Path(__file__).parents[2] / "trtpoets"


def test_labels_of_any_characters_are_read_as_they_were_written(tmp_path: Path) -> None:
    spec = tiny_spec()
    # The second label has a byte that is not UTF-8, as the name of a folder may have.
    spec = replace(spec, labels=("rosé 🌹", "a\udcffb"))
    write_model_json(spec, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MODEL_JSON]
    content = (tmp_path / MODEL_JSON).read_bytes()
    assert "rosé 🌹".encode() in content and b"a\xffb" in content
    assert ModelSpec.from_json(content.decode("utf-8", "surrogateescape"), "") == spec


def test_no_other_module_writes_it() -> None:
    """`tflite_file.py` writes the same text into an archive."""
    writers = [path.name for path in PACKAGE.rglob("*.py") if "spec.to_json() +" in path.read_text(encoding="utf-8")]
    assert sorted(writers) == ["model_json.py", "tflite_file.py"]
