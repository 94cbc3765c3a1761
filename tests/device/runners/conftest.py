"""What the tests of runners share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.gpu import FakeGpu, nothing_left
from tests.support.tiny import tiny_classifier, tiny_spec
from trtpoets.core.types import Classifier


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    pytest.importorskip("tensorflow")
    return tiny_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture
def one_context(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """A library before 10.1, which allows one execution context."""
    fake = FakeGpu(tiny_spec(), one_context=True)
    fake.install(monkeypatch)
    with nothing_left(fake):
        yield fake
