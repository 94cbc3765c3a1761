"""A device's releases of a bundle: folders side by side, `current` and `previous` as links, a switch in one step.

    root/releases/<first digits of the manifest's sha256>/    each whole, with its own engine
    root/current, root/previous                               links to two of them
    root/update.json                                          only while a switch is not yet proven
    root/allowed_signers                                      where there is one: whose bundles are taken, and no others
    root/key                                                  what marks the engines that were built here

Nothing is ordered by time: a device's clock may be wrong. A link is changed by renaming a new one over it, so `current`
always is one release or the other.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterator

from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.files import (
    atomic_folder,
    locked,
    read_json,
    sha256_of_file,
    storage_errors,
    sweep_parts,
    sync,
    write_json,
)
from trtpoets.core.manifest import MANIFEST, SIGNATURE, check_manifest
from trtpoets.core.own_files import remove_folder, require_no_link
from trtpoets.core.shell_commands import quote
from trtpoets.core.signatures import verify_file
from trtpoets.onboard.installed_bundle import RELEASES, Bundle

log = logging.getLogger(__name__)

_DIGITS = 16
"""Of a manifest's sha256, in the name of a release."""

_RELEASE = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")


@dataclass(frozen=True)
class Switch:
    """A switch that is under way: to which release, from which, and what `previous` was. Empty: none."""

    to: str
    since: str
    previous: str


class Releases:
    """The folder `root` of one device."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - links stay as they are
        self.folder = self.root / RELEASES
        self.venv = self.root / "venv"
        self.signers = self.root / "allowed_signers"
        self._journal = self.root / "update.json"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the device for one update. Raises Busy at once when another is under way.

        `root` may be a symbolic link; `releases` may not: StorageFailed.
        """
        for name in ("current", "previous"):
            link = self.root / name
            if link.exists() and not link.is_symlink():
                raise BadInput(f"{link} is no link: it would be replaced", hint="choose another --root", code="TP7044")
        lock, what = self.root / ".update.lock", f"the releases in {self.root}"
        with locked(lock, what, hint="wait until it has finished") as held:
            require_no_link(self.folder)
            with storage_errors(self.folder):
                self.folder.mkdir(exist_ok=True)
            if held:
                sweep_parts(self.folder)
                sweep_parts(self.root.resolve())
            yield

    @property
    def current(self) -> str:
        """The release that `current` is; empty where there is none."""
        return self._named("current")

    @property
    def previous(self) -> str:
        """The release that ran before."""
        return self._named("previous")

    def path(self, release: str) -> Path:
        """Where a release lies."""
        return self.folder / release

    def name_of(self, bundle: Bundle) -> str:
        """What a bundle is called as a release."""
        return bundle.identity[:_DIGITS]

    def add(self, bundle: Bundle) -> str:
        """Copy a bundle in, whole or not at all; one that is there and whole is left.

        The copy is what is checked: its files, its manifest by the hash that names the release, and its signature where
        this device asks for one. Raises BadArtefact, StorageFailed.
        """
        identity = bundle.identity
        release = identity[:_DIGITS]
        path = self.path(release)
        if not self._is_whole(path, identity):
            signed = [SIGNATURE] if (bundle.folder / SIGNATURE).is_file() else []
            with atomic_folder(path) as part:
                for name in (*bundle.manifest.files, MANIFEST, *signed):
                    copy = part / name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(bundle.folder / name, copy, follow_symlinks=False)
                self._check(part, identity)
        built = path / "built"
        require_no_link(path, built)
        with storage_errors(built):
            built.mkdir(exist_ok=True)
        if self.venv.exists() and not (built / "venv").exists():
            self._link(built / "venv", self.venv)
        return release

    def switch(self, to: str) -> Switch:
        """Make a release `current`, and what was current `previous`. Not proven until `settle` is called."""
        switch = Switch(to, self.current, self.previous)
        write_json(self._journal, asdict(switch))
        self._point("current", to)
        self._point("previous", switch.since)
        return switch

    def undo(self, switch: Switch) -> None:
        """Put everything back as it was before a switch."""
        self._point("current", switch.since)
        self._point("previous", switch.previous)
        self.settle()

    def settle(self) -> None:
        """The switch is proven, or undone."""
        with storage_errors(self._journal):
            self._journal.unlink(missing_ok=True)
            sync(self.root)

    def unsettled(self) -> Switch | None:
        """A switch that was cut short: undone or proven by nobody yet. Raises BadArtefact."""
        if not self._journal.is_file():
            return None
        value = read_json(self._journal)
        try:
            switch = Switch(**{word: str(value[word]) for word in ("to", "since", "previous")})
        except (TypeError, KeyError) as error:
            raise BadArtefact(
                f"{self._journal} is damaged", hint="look at current, and delete the file", code="TP7045"
            ) from error
        if self.current != switch.to:
            self.undo(switch)  # it was cut short before `current` was touched, or while it was being undone
            return None
        self._point("previous", switch.since)
        return switch

    def prune(self) -> tuple[str, ...]:
        """Delete the releases that are neither current nor previous; returns their names.

        What is not a folder with a manifest under a release's name stays, and so does what a link leads to. One that
        can't be deleted is left for the next update, with a warning.
        """
        kept = {self.current, self.previous}
        with storage_errors(self.folder, "read"):
            old = sorted(each.name for each in self.folder.iterdir() if each.name not in kept and _is_release(each))
        for release in old:
            # Renamed first: half a release must not look like one.
            doomed = self.folder / f".{release}.part-old"
            try:
                self.path(release).replace(doomed)
            except OSError as error:
                log.warning("the old release %s can't be deleted: %s", self.path(release), error.strerror)
            else:
                remove_folder(doomed)
        return tuple(old)

    def require(self, release: str, what: str) -> str:
        """The name of a release that is there. Raises MissingArtefact."""
        if not release or not self.path(release).is_dir():
            raise MissingArtefact(
                f"{self.root} has no {what} release",
                hint=f"update first: ./trtpoets update --root {quote(self.root)}",
                code="TP7046",
            )
        return release

    def _named(self, link: str) -> str:
        try:
            return os.path.basename(os.readlink(self.root / link))  # noqa: PTH119 - a name, wherever it leads
        except OSError:
            return ""

    def _point(self, link: str, release: str) -> None:
        path = self.root / link
        if release:
            self._link(path, Path("releases") / release)
        else:
            with storage_errors(path, "delete"):
                path.unlink(missing_ok=True)
                sync(self.root)

    def _link(self, path: Path, target: Path) -> None:
        part = path.with_name(f".{path.name}.part-{os.getpid()}")
        with storage_errors(path):
            part.unlink(missing_ok=True)
            part.symlink_to(target)
            part.replace(path)
            sync(path.parent)

    def require_signed(self, folder: Path) -> None:
        """Raise BadArtefact where this device asks for a signature, and the manifest in `folder` has no good one."""
        if os.path.lexists(self.signers):
            verify_file(folder / MANIFEST, self.signers)

    def _check(self, path: Path, identity: str) -> None:
        check_manifest(path)
        if sha256_of_file(path / MANIFEST) != identity:
            raise BadArtefact(
                f"the manifest in {path} is not the one that the release is named after",
                hint="copy the bundle again",
                code="TP7047",
            )
        self.require_signed(path)

    def _is_whole(self, path: Path, identity: str) -> bool:
        try:
            self._check(path, identity)
        except (MissingArtefact, BadArtefact):
            return False
        return True


def _is_release(path: Path) -> bool:
    """Whether `path` is a folder, no link, that `Releases.add` made."""
    try:
        manifest = path / MANIFEST
        return (
            _RELEASE.fullmatch(path.name) is not None
            and stat.S_ISDIR(path.lstat().st_mode)
            and stat.S_ISREG(manifest.lstat().st_mode)
        )
    except OSError:
        return False
