"""Imports and runs Keras with fixed settings, independent of the user's environment variables and keras.json.

Keras reads its settings once, when it is imported. trtpoets imports it with its own settings and leaves the user's
variables and files unchanged. If the user's process imported Keras before, `keras_defaults` replaces the settings that
affect results while a network is built or loaded.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from typing import Any, Iterator

from trtpoets.core.errors import MissingDependency
from trtpoets.core.paths import temporary_root
from trtpoets.core.storage import TMPDIR, chosen_by, storage_errors

_IMPORT = {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"}
"""Environment variables, with the values that select Keras 3 on TensorFlow at import."""

_UNSET = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED", "KERAS_TORCH_DEVICE")
"""Environment variables that shorten `predict`, or make the import fail if their value can't be parsed."""

_BY_HAND = "in a program that uses Keras itself, set KERAS_BACKEND=tensorflow before keras is imported; or run trtpoets"


@contextmanager
def keras_import() -> Iterator[None]:
    """Within the context, an import of Keras uses its defaults on TensorFlow; the environment is restored afterwards.

    keras.json is not read: Keras looks for it in an empty temporary folder. Its download folder stays the user's.
    """
    names = (*_IMPORT, *_UNSET, "KERAS_HOME")
    previous = {name: os.environ.get(name) for name in names}
    first_import = "keras" not in sys.modules
    empty_home = _temporary_folder() if first_import else ""
    try:
        for name in _UNSET:
            os.environ.pop(name, None)
        os.environ.update(_IMPORT)
        if empty_home:
            os.environ["KERAS_HOME"] = empty_home
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if empty_home:
            shutil.rmtree(empty_home, ignore_errors=True)
            config = sys.modules.get("keras.src.backend.config")
            if config is not None and hasattr(config, "_KERAS_DIR"):  # the folder of downloaded weights
                config._KERAS_DIR = keras_home()  # type: ignore[attr-defined]


def keras_home() -> str:
    """Keras's download folder: $KERAS_HOME or ~/.keras; in the temporary folder if the home is not writable."""
    chosen = os.environ.get("KERAS_HOME")
    if chosen:
        return os.path.expanduser(chosen)  # noqa: PTH111 - Path.expanduser raises if there is no home
    home = os.path.expanduser("~")  # noqa: PTH111
    return os.path.join(home if os.access(home, os.W_OK) else tempfile.gettempdir(), ".keras")  # noqa: PTH118


def _temporary_folder() -> str:
    root = temporary_root()
    with chosen_by(root, TMPDIR), storage_errors(root):
        return tempfile.mkdtemp(prefix="trtpoets-keras-")


def require_keras(tf: Any) -> None:
    """Raise MissingDependency unless `tf.keras` is Keras 3 on TensorFlow; the process may have imported another."""
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "config"):
        backend = keras.config.backend()
        if backend != "tensorflow":
            raise MissingDependency(
                f"this Python process has imported Keras with the backend {backend!r}; trtpoets needs 'tensorflow'",
                hint=f"{_BY_HAND} in a process of its own",
                code="TP1021",
            )
    if not hasattr(tf.keras, "config"):
        raise MissingDependency(
            "this Python process uses the legacy Keras 2 (TF_USE_LEGACY_KERAS); trtpoets needs Keras 3",
            hint="unset TF_USE_LEGACY_KERAS before tensorflow is imported; or run trtpoets in a process of its own",
            code="TP1022",
        )


@contextmanager
def keras_defaults() -> Iterator[None]:
    """Within the context, layers are created with Keras's defaults: float32, channels last. Also usable as a decorator.

    The settings of the user's program are restored afterwards. Does nothing before Keras is imported, because
    then trtpoets imports it with these settings.
    """
    keras = sys.modules.get("keras")
    if keras is None or not hasattr(keras, "config"):
        yield
        return
    config = keras.config
    previous = config.floatx(), config.image_data_format(), config.epsilon(), config.dtype_policy()
    try:
        config.set_floatx("float32")
        config.set_image_data_format("channels_last")
        config.set_epsilon(1e-7)
        config.set_dtype_policy("float32")
        yield
    finally:
        floatx, data_format, epsilon, policy = previous
        config.set_floatx(floatx)
        config.set_image_data_format(data_format)
        config.set_epsilon(epsilon)
        config.set_dtype_policy(policy)
