"""Builds the standard TFLite metadata of a classifier: a description of the photo and the file with the labels.

Android's bindings and MediaPipe read it. The schema is public (metadata_schema.fbs of tflite-support, "M001"). The
packages that write it are unmaintained or depend on a whole framework, so the few tables that a classifier needs are
built here. A field's number is its position in the schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.optional import needs
from trtpoets.core.tflite_file import LABELS_FILE
from trtpoets.core.types import FULL_WHITE, INPUT_NAME, OUTPUT_NAME, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.core.types import ModelSpec

METADATA_NAME = "TFLITE_METADATA"
"""The name of the metadata entry in a TFLite file."""

_IDENTIFIER = b"M001"
_PARSER = "1.0.0"
"""The oldest version of the metadata parser that supports all fields used here."""

_RGB = 1
_TENSOR_AXIS_LABELS = 2
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = 2, 1

_Scalar = tuple[str, int]
"""A number: its type in flatbuffers' terms ("Int8", "Uint32") and its value."""


def metadata_of_spec(spec: ModelSpec, precision: Precision) -> bytes:
    """Return the metadata of a classifier as a flatbuffer. Raises MissingDependency."""
    with needs("train", reason="writing TFLite's metadata"):
        import flatbuffers
    tables = _Tables(flatbuffers.Builder(1024))
    text = tables.text
    size = tables.table(2, {0: ("Uint32", spec.preprocess.width), 1: ("Uint32", spec.preprocess.height)})
    image = tables.table(2, {0: ("Int8", _RGB), 1: size})
    white = spec.preprocess.white
    wide = "" if white == FULL_WHITE else f" In 16-bit photos the value {white} becomes 255."
    photo = tables.table(
        7,
        {
            0: text(INPUT_NAME),
            1: text(
                f"One photo, RGB, 0 to 255 a channel, {spec.preprocess.width} by {spec.preprocess.height}: "
                f"whatever else the network needs is inside it.{wide}"
            ),
            3: tables.table(3, {0: ("Uint8", _IMAGE_PROPERTIES), 1: image}),
            5: tables.table(2, {0: tables.floats([255.0]), 1: tables.floats([0.0])}),
        },
    )
    labels = tables.table(
        4, {0: text(LABELS_FILE), 1: text("What each score is of."), 2: ("Int8", _TENSOR_AXIS_LABELS)}
    )
    feature = tables.table(0, {})
    scores = tables.table(
        7,
        {
            0: text(OUTPUT_NAME),
            1: text("How sure the network is of each label; they sum to 1."),
            3: tables.table(3, {0: ("Uint8", _FEATURE_PROPERTIES), 1: feature}),
            5: tables.table(2, {0: tables.floats([1.0]), 1: tables.floats([0.0])}),
            6: tables.vector([labels]),
        },
    )
    graph = tables.table(7, {2: tables.vector([photo]), 3: tables.vector([scores])})
    description = f"{spec.backbone}, retrained for {len(spec.labels)} labels, {precision.value}"
    root = tables.table(8, {0: text(spec.name), 1: text(description), 3: tables.vector([graph]), 7: text(_PARSER)})
    tables.builder.Finish(root, file_identifier=_IDENTIFIER)
    return bytes(tables.builder.Output())


class _Tables:
    """Writes tables with a flatbuffers.Builder, innermost first. The methods return offsets in the buffer."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def text(self, value: str) -> int:
        """Write a string; characters that are not valid UTF-8 become question marks, as readers would reject them."""
        offset: int = self.builder.CreateString(value.encode("utf-8", "replace"))
        return offset

    def table(self, fields: int, values: Mapping[int, int | _Scalar]) -> int:
        """Write a table with `fields` fields; `values` are offsets of other tables, or numbers with their type."""
        self.builder.StartObject(fields)
        for field, value in values.items():
            if isinstance(value, int):
                self.builder.PrependUOffsetTRelativeSlot(field, value, 0)
            else:
                kind, number = value
                getattr(self.builder, f"Prepend{kind}Slot")(field, number, 0)
        offset: int = self.builder.EndObject()
        return offset

    def vector(self, offsets: Sequence[int]) -> int:
        """Write a list of tables."""
        self.builder.StartVector(4, len(offsets), 4)
        for table in reversed(offsets):
            self.builder.PrependUOffsetTRelative(table)
        offset: int = self.builder.EndVector()
        return offset

    def floats(self, values: Sequence[float]) -> int:
        """Write a list of float32."""
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependFloat32(value)
        offset: int = self.builder.EndVector()
        return offset
