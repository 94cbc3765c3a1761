"""The copy of the runtime in a bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from trtpoets.bundles.vendored_runtime import package_folder
from trtpoets.core.files import sha256_of_file


def test_another_runtime_has_other_caches(tmp_path: Path) -> None:
    """All files of an archive have one time, by which Python would take yesterday's caches for today's."""
    folders = []
    for text in ("print(sys.pycache_prefix)", "print(sys.pycache_prefix )"):
        main = tmp_path / "runtime" / "trtpoets" / "onboard" / "__main__.py"
        main.parent.mkdir(parents=True, exist_ok=True)
        main.write_text(f"import sys\n\n\ndef main():\n    {text}\n")
        inits = [folder / "__init__.py" for folder in (main.parent, main.parent.parent)]
        for path in inits:
            path.touch()
        start = Path(
            shutil.copy(package_folder() / "bundles" / "templates" / "jetson" / "start.py", tmp_path / "runtime")
        )
        names = {path.relative_to(tmp_path).as_posix(): sha256_of_file(path) for path in (*inits, main, start)}
        (tmp_path / "manifest.json").write_text(json.dumps({"files": names}))
        environment = {**os.environ, "TRTPOETS_CACHE": str(tmp_path / "cache")}
        asked = subprocess.run([sys.executable, start], capture_output=True, text=True, check=True, env=environment)
        folders.append(asked.stdout.strip())
    assert folders[0] != folders[1] and {str(Path(item).parent) for item in folders} == {f"{tmp_path}/cache/python"}
    # A folder that others may write to is not used: what is compiled there runs unseen.
    Path(folders[1]).chmod(0o777)
    again = subprocess.run([sys.executable, start], capture_output=True, text=True, check=True, env=environment)
    assert again.stdout == "None\n"
