"""The one door to heavy packages: an ordinary import inside, a clear way to mend it outside."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager, nullcontext
from typing import Any, ContextManager, Iterable, Iterator

from trtpoets.core.errors import MissingDependency
from trtpoets.core.keras_settings import keras_import, require_keras


@contextmanager
def needs(extra: str, *, reason: str = "", hint: str = "") -> Iterator[None]:
    """Turn an ImportError inside the block into MissingDependency that names the `extra` to install, or gives `hint`.

    The original text is kept: a broken shared library is an ImportError too.
    """
    try:
        yield
    except ImportError as error:
        missing = getattr(error, "name", None) or "a package"
        what = f"{reason} needs {missing}" if reason else f"{missing} is needed"
        raise MissingDependency(
            f"{what}, and it does not import here: {error}",
            hint=hint or f"pip install 'trtpoets[{extra}]'",
            code="TP1050",
        ) from error


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed, by their metadata: nothing is imported."""
    from importlib import metadata  # it takes as long to import as all of ours

    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def tensorflow() -> Any:
    """Import TensorFlow and Keras 3, quiet, with GPU memory growth on and without the user's settings of Keras.

    Raises MissingDependency where TensorFlow is absent, or where this process has imported another Keras before.
    Growth must be set before the first GPU operation, so every use of TensorFlow comes through here. To see all that
    TensorFlow has to say, set TF_CPP_MIN_LOG_LEVEL=0.
    """
    quiet: ContextManager[None] = nullcontext()
    if "tensorflow" not in sys.modules and os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") >= "2":
        quiet = native_stderr_to(os.devnull)
    with needs("train", reason="this step"), quiet, keras_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PYTHONWARNINGS=error would make a deprecated name end the import
        import tensorflow as tf

        require_keras(tf)
    tf.get_logger().setLevel("ERROR")
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the GPU is in use already, by a caller of ours: its choice stands
            break
    return tf


def onnxruntime() -> Any:
    """Import ONNX Runtime. Raises ImportError.

    From 1.29 on it tells Microsoft which models it opens, from the moment it is imported, unless it is asked not to. So
    every use of it comes through here. ORT_DISABLE_TELEMETRY=0 in the environment stays as it is.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as runtime

    return runtime


@contextmanager
def native_stderr_to(path: str) -> Iterator[None]:
    """Send elsewhere what native code writes to stderr: TensorFlow says a few things before its log level counts."""
    kept = os.dup(2)
    elsewhere = os.open(path, os.O_WRONLY)
    try:
        os.dup2(elsewhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(elsewhere)
