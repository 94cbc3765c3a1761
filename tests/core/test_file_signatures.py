"""The table of byte signatures: no row hides a later one, and every kind is one that `file_kinds` describes."""

from __future__ import annotations

import pytest

from trtpoets.core.file_kinds import kind_of_content
from trtpoets.core.file_signatures import ISO_BRANDS, OFFSET_SIGNATURES, SIGNATURES, ZIP_CONTENTS


@pytest.mark.parametrize(("start", "name"), SIGNATURES)
def test_a_file_that_begins_with_a_signature_is_of_its_kind(start: bytes, name: str) -> None:
    kind = kind_of_content(start + bytes(300))
    assert kind is not None
    assert kind.name == name and kind.words


@pytest.mark.parametrize(("offset", "signature", "name"), OFFSET_SIGNATURES)
def test_signatures_inside_a_file(offset: int, signature: bytes, name: str) -> None:
    content = b"\x20" + b"\x01" * (offset - 1) + signature + bytes(300)
    kind = kind_of_content(content)
    assert kind is not None and kind.name == name


@pytest.mark.parametrize(("brand", "name"), ISO_BRANDS.items())
def test_brands_of_iso_files(brand: bytes, name: str) -> None:
    kind = kind_of_content(b"\x00\x00\x00\x20ftyp" + brand + bytes(20))
    assert len(brand) == 4 and kind is not None and kind.name == name


def test_no_signature_begins_like_an_earlier_one_of_another_kind() -> None:
    for number, (start, name) in enumerate(SIGNATURES):
        hidden = [later for later, kind in SIGNATURES[number + 1 :] if later.startswith(start) and kind != name]
        assert not hidden, start


def test_zip_contents_begin_with_the_most_specific_kind() -> None:
    for number, (names, kind) in enumerate(ZIP_CONTENTS):
        for later, other in ZIP_CONTENTS[number + 1 :]:
            assert kind == other or not set(names) < set(later), f"{kind} hides {other}"
