"""What tests of the conversion of TFLite files share."""

from __future__ import annotations

import pytest

from trtpoets.device import original_tflite


@pytest.fixture
def sound_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of these tests are sound: no child process has to try them."""
    monkeypatch.setattr(original_tflite, "require_sound", lambda *arguments, **options: None)
