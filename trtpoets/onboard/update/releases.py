"""Manages the releases of a bundle on a device: adding, switching atomically, undoing and deleting them.

    root/releases/<first digits of the manifest's sha256>/    a complete bundle with its own engine
    root/current, root/previous                               links to two of them
    root/update.json                                          exists until a switch is confirmed
    root/allowed_signers                                      optional: only bundles signed by these keys are accepted
    root/key                                                  the key for the HMAC of engines built on this device

Nothing depends on time, because a device's clock may be wrong. A link is changed by renaming a new link over it, so
`current` always points to one complete release.
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
"""Number of digits of the manifest's sha256 in the name of a release."""

_RELEASE = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")


@dataclass(frozen=True)
class Switch:
    """A switch that is not confirmed: the new release, the old one, and the old `previous`. Empty: none."""

    to: str
    since: str
    previous: str


class Releases:
    """The releases in the folder `root` of a device."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - links stay as they are
        self.folder = self.root / RELEASES
        self.venv = self.root / "venv"
        self.signers = self.root / "allowed_signers"
        self._journal = self.root / "update.json"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the releases for an update. Raises Busy immediately if another update is running.

        `root` may be a symbolic link; `releases` may not: StorageFailed.
        """
        for name in ("current", "previous"):
            link = self.root / name
            if link.exists() and not link.is_symlink():
                raise BadInput(f"{link} must be a link, which is replaced", hint="choose another --root", code="TP7044")
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
        """The name of the current release; empty if there is none."""
        return self._named("current")

    @property
    def previous(self) -> str:
        """The name of the previous release; empty if there is none."""
        return self._named("previous")

    def path(self, release: str) -> Path:
        """The folder of a release."""
        return self.folder / release

    def name_of(self, bundle: Bundle) -> str:
        """The name of a bundle as a release."""
        return bundle.identity[:_DIGITS]

    def add(self, bundle: Bundle) -> str:
        """Copy a bundle atomically into the releases, unless it is already there and intact; returns its name.

        The copy is checked: its files, the hash of its manifest, and its signature if this device requires one. Raises
        BadArtefact, StorageFailed.
        """
        identity = bundle.identity
        release = identity[:_DIGITS]
        path = self.path(release)
        if not self._is_intact(path, identity):
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
        """Make a release `current`, and the current one `previous`. Call `settle` to confirm the switch."""
        switch = Switch(to, self.current, self.previous)
        write_json(self._journal, asdict(switch))
        self._point("current", to)
        self._point("previous", switch.since)
        return switch

    def undo(self, switch: Switch) -> None:
        """Undo a switch."""
        self._point("current", switch.since)
        self._point("previous", switch.previous)
        self.settle()

    def settle(self) -> None:
        """Confirm the switch, or finish its undoing."""
        with storage_errors(self._journal):
            self._journal.unlink(missing_ok=True)
            sync(self.root)

    def unsettled(self) -> Switch | None:
        """The interrupted switch that was neither confirmed nor undone, if there is one. Raises BadArtefact."""
        if not self._journal.is_file():
            return None
        value = read_json(self._journal)
        try:
            switch = Switch(**{word: str(value[word]) for word in ("to", "since", "previous")})
        except (TypeError, KeyError) as error:
            raise BadArtefact(
                f"{self._journal} is damaged", hint="check the link current, and delete the file", code="TP7045"
            ) from error
        if self.current != switch.to:
            self.undo(switch)  # it was interrupted before `current` was changed, or while it was being undone
            return None
        self._point("previous", switch.since)
        return switch

    def prune(self) -> tuple[str, ...]:
        """Delete the releases that are neither current nor previous; returns their names.

        Only folders with a manifest and a release's name are deleted; links are not followed. A release that can't be
        deleted is left for the next update, with a warning.
        """
        kept = {self.current, self.previous}
        with storage_errors(self.folder, "read"):
            old = sorted(path.name for path in self.folder.iterdir() if path.name not in kept and _is_release(path))
        for release in old:
            # Renamed first, so that a partly deleted folder does not look like a release.
            doomed = self.folder / f".{release}.part-old"
            try:
                self.path(release).replace(doomed)
            except OSError as error:
                log.warning("the old release %s can't be deleted: %s", self.path(release), error.strerror)
            else:
                remove_folder(doomed)
        return tuple(old)

    def require(self, release: str, what: str) -> str:
        """Return `release` if it exists. Raises MissingArtefact."""
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
        """Raise BadArtefact if this device requires a signature and the manifest in `folder` has no valid one."""
        if os.path.lexists(self.signers):
            verify_file(folder / MANIFEST, self.signers)

    def _check(self, path: Path, identity: str) -> None:
        check_manifest(path)
        if sha256_of_file(path / MANIFEST) != identity:
            raise BadArtefact(
                f"the sha256 of the manifest in {path} differs from the bundle's",
                hint="copy the bundle again",
                code="TP7047",
            )
        self.require_signed(path)

    def _is_intact(self, path: Path, identity: str) -> bool:
        try:
            self._check(path, identity)
        except (MissingArtefact, BadArtefact):
            return False
        return True


def _is_release(path: Path) -> bool:
    """Whether `path` is a folder (not a link) that `Releases.add` created."""
    try:
        manifest = path / MANIFEST
        return (
            _RELEASE.fullmatch(path.name) is not None
            and stat.S_ISDIR(path.lstat().st_mode)
            and stat.S_ISREG(manifest.lstat().st_mode)
        )
    except OSError:
        return False
