"""The description of a classifier file of another program, as its reader found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trtpoets.adoption.contract import Geometry, Pixels
from trtpoets.core.original import Evidence, Format, OriginalInput, OriginalOutput

AGAIN = "trtpoets adopt MODEL --name NAME"
"""How a command in a hint begins; `pipeline/adopt_hints.py` adds the file, the run and the options of the user."""

EXPECTED = "a classifier that trtpoets can adopt (ONNX, TFLite, Keras, SavedModel, frozen TensorFlow graph)"


@dataclass(frozen=True)
class Clues:
    """What a file contains beside its network, from which its producer can be recognised.

    `writer` is the program that the file names ("pytorch 2.1"), `nodes` the names of operators or layers in the order
    of the graph (at most 2,000), `metadata` the key-value pairs of the file. `files` are the texts of files that are
    stored inside it by name, such as the associated files of TFLite.
    """

    writer: str = ""
    nodes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FixedPixels:
    """Pixel values that the graph itself determines, such as a Rescaling layer or the scale of an integer input.

    `pixels` are those to give to the input of the network. `channels_known` says whether the graph also determines the
    order of their channels.
    """

    pixels: Pixels
    evidence: Evidence
    channels_known: bool = False


@dataclass(frozen=True)
class FixedGeometry:
    """How the graph itself resizes photos, if it decodes them.

    `warning` says what trtpoets does differently, "" if nothing is known.
    """

    geometry: Geometry
    evidence: Evidence
    warning: str = ""


@dataclass(frozen=True)
class ForeignModel:
    """A classifier file with one image input and one output of class scores.

    `height` and `width` are 0 if the file accepts any size. `channels` is 3 or 1. `sha256` identifies the file, with
    external data or, for a SavedModel, all files of the folder. `fixed` is None if the graph does not determine the
    pixel values, `geometry` None if it does not resize photos itself.
    """

    path: Path
    format: Format
    sha256: str
    height: int
    width: int
    channels: int
    input: OriginalInput
    output: OriginalOutput
    clues: Clues = field(default_factory=Clues)
    fixed: FixedPixels | None = None
    geometry: FixedGeometry | None = None
