"""Imports optional heavy packages, with an error that says how to install a missing one."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager, nullcontext
from typing import Any, ContextManager, Iterable, Iterator, Sequence

from trtpoets.core.errors import MissingDependency
from trtpoets.core.keras_settings import keras_import, require_keras


@contextmanager
def needs(extra: str, *, reason: str = "", hint: str = "") -> Iterator[None]:
    """Turn an ImportError inside the block into MissingDependency with the `extra` to install, or with `hint`.

    The message contains the original text: a broken shared library is also an ImportError.
    """
    try:
        yield
    except ImportError as error:
        missing = getattr(error, "name", None) or "a package"
        what = f" for {reason}" if reason else ""
        raise MissingDependency(
            f"is needed{what}, but it can't be imported: {error}",
            hint=hint or f"pip install 'trtpoets[{extra}]'",
            code="TP1050",
            subject=missing,
        ) from error


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of the installed ones of these packages, from their metadata. Imports none of them."""
    from importlib import metadata  # slow to import: as long as all of trtpoets

    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def tensorflow() -> Any:
    """Import TensorFlow with Keras 3, with GPU memory growth, without its log lines and the user's Keras settings.

    Every use of TensorFlow must call this function, because memory growth must be set before the first GPU operation.
    Set TF_CPP_MIN_LOG_LEVEL=0 to see TensorFlow's log. Raises MissingDependency if TensorFlow is not installed, or if
    this process has imported another Keras before.
    """
    quiet: ContextManager[None] = nullcontext()
    if "tensorflow" not in sys.modules and os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") >= "2":
        quiet = native_stderr_to(os.devnull)
    with needs("train", reason="this step"), quiet, keras_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # with PYTHONWARNINGS=error, a deprecated name would make the import fail
        import tensorflow as tf

        require_keras(tf)
    tf.get_logger().setLevel("ERROR")
    for gpu in _gpus(tf):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the calling program has initialised the GPU: its setting is kept
            break
    return tf


def tensorflow_gpus() -> int:
    """Return the number of GPUs that TensorFlow finds on this machine. Raises as `tensorflow` does."""
    return len(_gpus(tensorflow()))


def _gpus(tf: Any) -> Sequence[Any]:
    gpus: Sequence[Any] = tf.config.list_physical_devices("GPU")
    return gpus


def onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry disabled. Raises ImportError.

    Since 1.29, ONNX Runtime sends telemetry from the moment it is imported, so every use must call this function. If
    the user has set ORT_DISABLE_TELEMETRY, the value is kept.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as runtime

    return runtime


@contextmanager
def native_stderr_to(path: str) -> Iterator[None]:
    """Redirect the stderr of native code to `path`: TensorFlow logs a few lines before it applies its log level."""
    previous = os.dup(2)
    target = os.open(path, os.O_WRONLY)
    try:
        os.dup2(target, 2)
        yield
    finally:
        os.dup2(previous, 2)
        os.close(previous)
        os.close(target)


def tflite_interpreter() -> tuple[Any, Any]:
    """Return the TFLite interpreter's class and its OpResolverType, from ai-edge-litert or else from TensorFlow.

    Raises MissingDependency. A later TensorFlow will not contain the interpreter.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as missing:
        try:
            lite = tensorflow().lite
            return lite.Interpreter, lite.experimental.OpResolverType
        except (MissingDependency, AttributeError):
            raise MissingDependency(
                f"running TFLite files needs ai-edge-litert, but it can't be imported: {missing}",
                hint="pip install 'trtpoets[tflite]'",
                code="TP1955",
            ) from missing
    return Interpreter, OpResolverType


def loaded_interpreter(
    network: bytes, threads: int | None = None, own_kernels: bool = False, *, keep_tensors: bool = False
) -> Any:
    """Return a TFLite interpreter with allocated tensors. Raises MissingDependency, and exceptions of any class.

    With `own_kernels`, TFLite's own kernels are used, not XNNPACK's. `keep_tensors` keeps the values of all tensors,
    which XNNPACK does not.
    """
    kind, resolvers = tflite_interpreter()
    own = own_kernels or keep_tensors
    with warnings.catch_warnings():  # TensorFlow's interpreter warns that ai-edge-litert replaces it
        warnings.simplefilter("ignore", UserWarning)
        interpreter = kind(
            model_content=network,
            num_threads=threads,
            experimental_op_resolver_type=resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES if own else resolvers.AUTO,
            experimental_preserve_all_tensors=keep_tensors,
        )
        interpreter.allocate_tensors()
    return interpreter
