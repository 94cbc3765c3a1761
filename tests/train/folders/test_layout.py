"""The layout of a photo folder, as the card of a data set stores it."""

from __future__ import annotations

import json

from trtpoets.core.serialization import from_json, to_json
from trtpoets.train.folders.layout import CLASS_FOLDERS, Layout


def test_a_layout_is_read_as_it_was_written() -> None:
    layout = Layout("CSV", "labels from 'l.csv'.", "l.csv", "id", "breed", "split")
    for example in (layout, CLASS_FOLDERS):
        document = json.loads(json.dumps(to_json(example)))
        assert from_json(Layout, document, "the layout") == example


def test_class_folders_name_no_file_and_no_columns() -> None:
    empty = (CLASS_FOLDERS.labels_file, CLASS_FOLDERS.photo_column, CLASS_FOLDERS.label_column)
    assert (CLASS_FOLDERS.kind, *empty, CLASS_FOLDERS.split_column) == ("class folders", "", "", "", "")
