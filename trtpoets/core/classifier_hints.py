"""Hints of errors about a classifier: commands that differ for trained and for adopted ones.

`NAME` in them is replaced by the name of the run where the error is reported (`shell_commands.filled`).
"""

from __future__ import annotations

from trtpoets.core.types import ModelSpec

REPORT = "report the network, and the versions that this shows: trtpoets doctor"


def make_again(spec: ModelSpec) -> str:
    """How to write the classifier of a run again: train it, or adopt its file."""
    if spec.original is None:
        return "train again: trtpoets retrain PHOTOS --name NAME --force"
    return "adopt its file again: trtpoets adopt FILE --name NAME --force"


def convert_otherwise(spec: ModelSpec, trained: str) -> str:
    """What to do if a classifier cannot be converted to ONNX; `trained` is the hint for a trained one.

    A network of TensorFlow that another program wrote may have an ONNX file of that program.
    """
    if spec.original is None:
        return trained
    if spec.original.format.is_tensorflow:
        return (
            "export the network to ONNX with the program that wrote it, and adopt that file: "
            f"trtpoets adopt FILE --name NAME --force; or {REPORT}"
        )
    return REPORT
