"""The calls that a runner made on the fake GPU."""

from tests.fakes.gpu import FakeGpu


def new_calls(gpu: FakeGpu) -> list[str]:
    """The calls since the last look, without those that make the context current; the journal is empty afterwards."""
    calls = [call for call in gpu.journal if call.partition(" ")[0] not in ("push", "pop")]
    gpu.journal.clear()
    return calls
