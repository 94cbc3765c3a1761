"""Makes the fixed batch of a network dynamic."""

from __future__ import annotations

from typing import Any


def with_dynamic_batch(model: Any, source: object) -> Any:
    """Return the ModelProto with a batch of any size; `source` names the file in errors."""
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    dim.Clear()
    dim.dim_param = "N"
    return model
