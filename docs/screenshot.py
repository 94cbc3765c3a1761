"""Writes docs/report.png: the top of a run's report page, as headless Chromium shows it.

trtpoets demo
python docs/screenshot.py engines/demo/report.html
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PICTURE = Path(__file__).resolve().parent / "report.png"
WIDTH, HEIGHT = 1080, 1322
LARGEST = 300_000
"""Bytes of the PNG at most, as every clone of the repository contains it."""

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def screenshot(page: Path, picture: Path) -> None:
    """Write `picture`, WIDTH x HEIGHT pixels, of the HTML file `page`."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        sys.exit(f"none of {', '.join(PROGRAMS)} is installed: sudo apt install chromium")
    with tempfile.TemporaryDirectory() as profile:
        options = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            f"--user-data-dir={profile}",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={picture}",
        ]
        subprocess.run([program, *options, page.resolve().as_uri()], check=True, capture_output=True, timeout=120)


def main() -> None:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(description="Take a screenshot of a report page with headless Chromium.")
    parser.add_argument("page", type=Path, nargs="?", default=Path("engines/demo/report.html"))
    parser.add_argument("--out", type=Path, default=PICTURE)
    chosen = parser.parse_args()
    if not chosen.page.is_file():
        sys.exit(f"{chosen.page} does not exist: trtpoets demo")
    screenshot(chosen.page, chosen.out.resolve())
    size = chosen.out.stat().st_size
    if size > LARGEST:
        sys.exit(f"{chosen.out} has {size:,} bytes, more than {LARGEST:,}")


if __name__ == "__main__":
    main()
