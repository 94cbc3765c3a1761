"""Writes the photos of the demo: electroluminescence images of solar cells, functional and defective.

They come from the package elpv-dataset (Buerhop-Lutz et al., 2018; Deitsch et al., 2019), licensed under CC BY-NC-SA
4.0. Only cells whose defect probability is labelled 0 or 1 are used.
"""

from __future__ import annotations

from pathlib import Path

from trtpoets.core.files import chosen_by, write_bytes, write_text
from trtpoets.core.optional import needs
from trtpoets.core.own_files import require_no_link
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent

QUICK_PHOTOS = 60
"""Photos per class with --quick."""

_LICENCE = """Solar cells under electroluminescence: photos of the ELPV dataset.
Licence: CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/). Not for commercial use.
Source: https://github.com/zae-bayern/elpv-dataset

Buerhop-Lutz, C. et al.: A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence
Imagery. European PV Solar Energy Conference and Exhibition, 2018. doi:10.4229/35thEUPVSEC20182018-5CV.3.15
Deitsch, S. et al.: Automatic classification of defective photovoltaic module cells in electroluminescence images.
Solar Energy 185, 2019, p. 455-468. doi:10.1016/j.solener.2019.02.067

Folders: type of the cell (mono- or polycrystalline) and what the experts were sure of (ok: probability of a defect 0;
defective: 1). Cells in between are left out.
"""


def solar_cells(folder: Path | str | None = None, *, quick: bool = False, progress: Progress = silent) -> Path:
    """Write the photos as folder/{mono,poly}-{ok,defective}/*.png and return the folder.

    Existing photos are kept. Raises MissingDependency if the package elpv-dataset is not installed.
    """
    with needs("demo", reason="the demonstration"):
        import elpv_dataset
    folder = user_path(folder or ("solar-cells-quick" if quick else "solar-cells"))
    source = Path(elpv_dataset.__file__).parent / "data"
    cells = _unambiguous_cells(source / "labels.csv", QUICK_PHOTOS if quick else None)
    with chosen_by(folder, "--photos FOLDER"):
        for done, (file, label) in enumerate(cells, 1):
            out = folder / label / Path(file).name
            if not out.is_file():
                require_no_link(out.parent)
                write_bytes(out, (source / file).read_bytes())
            progress("writing the solar cells", done, len(cells))
        write_text(folder / "LICENCE.txt", _LICENCE)
    return folder


def _unambiguous_cells(table: Path, limit: int | None) -> list[tuple[str, str]]:
    """Return (file, label) of the cells with probability 0 or 1, at most `limit` per label, in the table's order."""
    cells: list[tuple[str, str]] = []
    counts: dict[str, int] = {}
    for line in table.read_text().splitlines():
        file, probability, kind = line.split()
        if float(probability) not in (0.0, 1.0):
            continue
        label = f"{kind}-{'ok' if float(probability) == 0 else 'defective'}"
        if limit is None or counts.get(label, 0) < limit:
            counts[label] = counts.get(label, 0) + 1
            cells.append((file, label))
    return cells
