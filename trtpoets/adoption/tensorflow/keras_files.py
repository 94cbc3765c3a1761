"""Reads Keras files, `.keras` and HDF5, by Keras 3 or, if they were written by Keras 2, by tf-keras."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.adoption.tensorflow.execution import Run, runner
from trtpoets.adoption.tensorflow.keras_config import (
    custom_class,
    needs_keras_2,
    require_no_code,
    unknown_class,
    without_default_groups,
)
from trtpoets.adoption.tensorflow.keras_network import graph_of_model
from trtpoets.adoption.tensorflow.legacy_keras import LegacyReader
from trtpoets.core.errors import BadArtefact, TrtPoetsError, first_line
from trtpoets.core.files import temporary_folder
from trtpoets.core.h5_limits import WEIGHTS_IN_KERAS, h5_in_keras, require_small_arrays
from trtpoets.core.keras_settings import keras_defaults
from trtpoets.core.optional import needs, tensorflow
from trtpoets.core.reading import LARGEST_JSON, read_bytes

_LARGEST = 2 << 30
"""Largest file in bytes, and the largest size of its arrays: TensorFlow's graphs contain at most 2 GB."""

_CONFIG = "config.json"
_METADATA = "metadata.json"

_DAMAGE = (ValueError, KeyError, TypeError, RuntimeError, EOFError, OSError, zlib.error, zipfile.BadZipFile)
"""Exceptions that h5py, json and zipfile raise for damaged files."""


@dataclass(frozen=True)
class KerasNetwork:
    """The network of a Keras file as a frozen graph. `run` runs it in Keras; None if tf-keras read it."""

    definition: Any
    tensor: str
    input: str
    output: str
    layers: tuple[str, ...]
    run: Run | None
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class KerasContent:
    """A checked file: the bytes to load, the suffix that Keras needs for them, its configuration and weights."""

    suffix: str
    data: bytes
    config: Any
    h5: bytes
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_legacy(self) -> bool:
        """Whether Keras 2 or an earlier one wrote it."""
        return not self.metadata.get("keras_version", "").startswith("3.")


@keras_defaults()
def network_of_file(path: Path, allow_code: bool) -> KerasNetwork:
    """Load a Keras file. Raises BadArtefact, MissingDependency, NotReadable, OSError."""
    content = content_of(path)
    require_no_code(content.config, path, allow_code)
    with temporary_folder() as folder:
        copy = folder / f"network{content.suffix}"
        copy.write_bytes(content.data)
        if content.is_legacy and needs_keras_2(content.config):
            with LegacyReader(copy, path, allow_code) as reader:
                tensorflow()  # imported while the child process imports it, too
                legacy = reader.graph()
        else:
            network = _by_keras_3(content, copy, path, allow_code)
            if network is not None:
                return network
            with LegacyReader(copy, path, allow_code) as reader:
                legacy = reader.graph()
    return KerasNetwork(
        legacy.definition, legacy.tensor, legacy.input, legacy.output, legacy.layers, None, content.metadata
    )


def _by_keras_3(content: KerasContent, copy: Path, path: Path, allow_code: bool) -> KerasNetwork | None:
    """Load a file with Keras 3. Returns None if it is one of Keras 2 that Keras 3 does not read as it was written."""
    tf = tensorflow()
    readable = copy
    if content.suffix == ".h5" and content.is_legacy:
        readable = copy.with_name("without_groups.h5")
        readable.write_bytes(_with_config(content.data, without_default_groups(content.config)))
    try:
        with warnings.catch_warnings():  # about how the layers were written down, which is of no use here
            warnings.simplefilter("ignore")
            model = tf.keras.models.load_model(str(readable), compile=False, safe_mode=not allow_code)
        if content.is_legacy and not _has_stored_values(model, content.h5):
            return None
        graph = graph_of_model(tf, model, str(path))
    except TrtPoetsError:
        raise
    except Exception as error:
        if content.is_legacy:
            return None
        name = unknown_class(str(error))
        if name:
            raise custom_class(path, name) from error
        raise BadArtefact(
            f"Keras can't load {path}: {first_line(error)}",
            hint="in the program that wrote it, write a SavedModel with model.export('FOLDER'), and adopt FOLDER",
            code="TP9128",
        ) from error
    return KerasNetwork(
        graph.definition, graph.tensor, graph.input, graph.output, graph.layers, runner(graph.call), content.metadata
    )


def content_of(path: Path) -> KerasContent:
    """Read and check a Keras file. Raises BadArtefact if it is damaged or contains weights only."""
    data = read_bytes(path, _LARGEST)
    # Small files that declare large arrays are refused.
    most = min(_LARGEST, 8 * len(data) + (64 << 20))
    try:
        content = _archive(data, most) if data[:2] == b"PK" else _hdf5(data, most)
    except _DAMAGE as error:
        raise BadArtefact(
            f"{path} is not a complete Keras file: {first_line(error)}",
            hint="copy it again from its source, or save it again with model.save('model.keras')",
            code="TP9129",
        ) from error
    if content is None:
        raise BadArtefact(
            f"{path} contains weights without an architecture",
            hint="in Keras, build the network, then: model.load_weights(FILE); model.save('model.keras')",
            code="TP9130",
        )
    return content


def _archive(data: bytes, most: int) -> KerasContent | None:
    """Check a `.keras` file; None if it has no architecture."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if _CONFIG not in names:
            return None
        config = json.loads(_entry(archive, _CONFIG))
        metadata = json.loads(_entry(archive, _METADATA)) if _METADATA in names else {}
    h5 = h5_in_keras(data, most)
    require_small_arrays(h5, most)
    fixed = _with_slashes(h5)
    if fixed is not None:
        h5, data = fixed, _with_weights(data, fixed)
    version = str(metadata.get("keras_version", ""))
    return KerasContent(".keras", data, config, h5, {"keras_version": version} if version else {})


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > LARGEST_JSON:
        raise ValueError(f"its {name} is too large")
    with archive.open(name) as stream:
        return stream.read(LARGEST_JSON)


def _hdf5(data: bytes, most: int) -> KerasContent | None:
    """Check an HDF5 file of Keras; None if it has no architecture."""
    with needs("train", reason="reading an HDF5 file"):
        import h5py
    require_small_arrays(data, most)
    with h5py.File(io.BytesIO(data), "r") as file:
        text = file.attrs.get("model_config")
        if text is None:
            return None
        config = json.loads(text if isinstance(text, str) else bytes(text).decode())
        metadata = {
            name: value if isinstance(value, str) else bytes(value).decode()
            for name in ("keras_version", "backend")
            if (value := file.attrs.get(name)) is not None
        }
        if "training_config" in file.attrs:
            metadata["training_config"] = "present"
    return KerasContent(".h5", data, config, data, metadata)


def _with_config(data: bytes, config: Any) -> bytes:
    """Return an HDF5 file with another configuration."""
    import h5py

    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    return stream.getvalue()


def _with_slashes(h5: bytes) -> bytes | None:
    """Return HDF5 weights whose groups have slashes where Windows wrote backslashes; None if there are none."""
    import h5py

    result = io.BytesIO()
    with h5py.File(io.BytesIO(h5), "r") as source:
        names: list[str] = []
        source.visit(names.append)
        if not any("\\" in name for name in names):
            return None
        with h5py.File(result, "w") as target:
            target.attrs.update(source.attrs)
            for name in names:
                item, new = source[name], name.replace("\\", "/")
                if isinstance(item, h5py.Dataset):
                    target.create_dataset(new, data=item[()])
                else:
                    target.require_group(new)
                target[new].attrs.update(item.attrs)
    return result.getvalue()


def _with_weights(data: bytes, h5: bytes) -> bytes:
    """Return a `.keras` archive with other weights."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(result, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, h5 if entry.filename == WEIGHTS_IN_KERAS else source.read(entry))
    return result.getvalue()


def _has_stored_values(model: Any, h5: bytes) -> bool:
    """Whether each variable has the values that a file of Keras 2 stores under its layer and name.

    Keras 3 assigns them by their order, in which the arrays of a batch norm have the same shape.
    """
    import h5py

    stored: dict[str, list[np.ndarray]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and "optimizer_weights" not in name:
            key = "/".join(name.split(":", maxsplit=1)[0].split("/")[-2:])
            stored.setdefault(key, []).append(item)

    with h5py.File(io.BytesIO(h5), "r") as file:
        file.visititems(visit)
        for variable in model.variables:
            if "seed_generator" in variable.path:
                continue
            values = np.asarray(variable.value)
            layer, name = variable.path.split("/")[-2:]
            # Keras 2 calls the kernel of DepthwiseConv2D depthwise_kernel.
            candidates = [*stored.get(f"{layer}/{name}", []), *stored.get(f"{layer}/depthwise_{name}", [])]
            if not any(item.shape == values.shape and np.array_equal(item[()], values) for item in candidates):
                return False
    return True
