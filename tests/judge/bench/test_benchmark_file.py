"""benchmark.json: read, and written so that nothing that was measured is lost."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.benchmarks import benchmark_document, typed
from tests.support.errors import raises
from tests.support.runner_ids import runner
from trtpoets.core.errors import BadArtefact, Interrupted, MissingArtefact, RunFailed, StorageFailed
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Skipped
from trtpoets.core.workspace import open_card
from trtpoets.judge.bench import benchmark_file
from trtpoets.judge.bench.benchmark import Benchmark
from trtpoets.judge.bench.benchmark_file import read_benchmark, write_benchmark
from trtpoets.judge.bench.compare import compared
from trtpoets.judge.bench.measured_runner import BenchFailure
from trtpoets.reporting.tables.benchmark_rows import benched_parts

_NOW = benchmark_document(1, 5.0)


def test_reading_a_benchmark(tmp_path: Path) -> None:
    details = benchmark_document(1, 5.0)
    (tmp_path / "card.json").write_text(json.dumps({"key": "x", "details": details}))
    (tmp_path / "printed.json").write_text(json.dumps(details))
    assert read_benchmark(tmp_path / "card.json") == read_benchmark(tmp_path / "printed.json")
    assert to_json(read_benchmark(tmp_path / "card.json")) == details
    row = details["measurements"][0]
    wrong = ({**row, "round_p50_ms": [1.0, -1.0]}, {**row, "batch": True}, {**row, "valid": None}, {"runner": "x"}, 3)
    texts = [json.dumps({**details, "measurements": [row, item]}) for item in wrong]
    texts += [json.dumps({**details, word: [3]}) for word in ("conditions", "config", "artefacts", "baseline")]
    for text in ("[]", "{}", '{"measurements": 3}', '{"details": []}', *texts):
        (tmp_path / "other.json").write_text(text)
        with raises(BadArtefact, "TP5011"):
            read_benchmark(tmp_path / "other.json")
    with raises(MissingArtefact, "TP5010", "none.json") as caught:
        read_benchmark(tmp_path / "none.json")
    assert caught.value.hint == "write one: trtpoets bench NAME --json > old.json"


_VALUES = st.sampled_from(
    [None, True, -1, 0, 10**400, 1e-300, 0.5, "x", "\x1b[31m", [], ["x"], [0.0], [None], [[1.0]], {}, {"x": [1]}]
)


@given(st.data())
def test_an_older_benchmark_is_refused_or_compared_whatever_it_holds(data: st.DataObject) -> None:
    """Before anything is measured: nothing that `read_benchmark` lets through ends a comparison."""
    now = typed(_NOW)
    before = json.loads(json.dumps(_NOW))
    holder: Any = before
    for _ in range(data.draw(st.integers(1, 4))):
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))))
        if not isinstance(holder[key], (dict, list)) or not holder[key]:
            break
        parent, holder = holder, holder[key]
    else:
        holder = parent
    if data.draw(st.booleans()) and isinstance(holder, dict):
        holder.pop(key, None)
    else:
        holder[key] = data.draw(_VALUES)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "old.json"
        path.write_text(json.dumps(before))
        try:
            older = read_benchmark(path)
        except BadArtefact as error:
            assert error.hint
            return
    comparison = compared(older, now)
    json.dumps(to_json(comparison), allow_nan=False)
    list(benched_parts((), (), comparison))


def test_what_was_measured_is_kept_before_it_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("a row")

    monkeypatch.setattr(benchmark_file, "compared", broken)
    path = tmp_path / "benchmark.json"
    with pytest.raises(KeyError):
        written(path, before=typed(benchmark_document(2, 5.0)))
    kept = open_card(path, "k")
    assert kept is not None
    assert len(kept["measurements"]) == 2


def measured(incomplete: str = "", failures: Sequence[BenchFailure] = ()) -> Benchmark:
    """What was measured, and where it was cut off."""
    whole = typed(benchmark_document(1, 5.0))
    rows = () if failures else whole.measurements
    return replace(whole, incomplete=incomplete, failures=tuple(failures), measurements=rows)


def written(path: Path, incomplete: str = "", **more: Any) -> Any:
    given = {"key": "k", "name": "flowers", "again": "./bench", "artefacts": {"int8.onnx": "00"}, **more}
    return write_benchmark(path, measured(incomplete), **given)


def test_a_written_file_is_read_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    first = written(path, skipped=[Skipped("fp16.onnx", "no GPU")])
    assert read_benchmark(path) == first
    assert open_card(path, "k") == to_json(first)
    assert (first.artefacts, first.skipped) == ({"int8.onnx": "00"}, (Skipped("fp16.onnx", "no GPU"),))
    assert first.compared is None and "compared" not in to_json(first)
    second = written(path, before=first)
    assert second.compared is not None and {change.verdict for change in second.compared.changes} == {"same"}


def test_a_truncated_photo_is_kept_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    with raises(Interrupted, "TP5014", "at batch 1") as caught:
        written(path, "at batch 1")
    assert caught.value.hint == "measure again: ./bench"
    assert read_benchmark(path).incomplete == "at batch 1"


def test_where_nothing_ran_an_older_benchmark_stays(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    first = written(path)
    failures = [
        BenchFailure(runner("tensorflow"), None, "it is not installed"),
        BenchFailure(runner("rtx-fp16"), 1, "no GPU"),
    ]
    given: dict[str, Any] = {"key": "k", "name": "flowers", "again": "./bench", "artefacts": {}}
    with raises(RunFailed, "TP5012", "tensorflow: it is not installed", "rtx-fp16: no GPU") as caught:
        write_benchmark(path, measured(failures=failures), **given)
    assert caught.value.hint == "see what works on this machine: trtpoets doctor"
    assert open_card(path, "k") == to_json(first)


def test_an_interruption_before_the_first_measurement_keeps_an_older_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    first = written(path)
    nothing = replace(measured("while runners were loaded"), measurements=())
    given: dict[str, Any] = {"key": "other", "name": "flowers", "again": "./bench", "artefacts": {}}
    with raises(Interrupted, "TP5164", "nothing was measured") as caught:
        write_benchmark(path, nothing, **given)
    assert caught.value.hint == "measure again: ./bench"
    assert open_card(path, "k") == to_json(first)


@pytest.mark.parametrize(("incomplete", "recorded"), [("", "before it could be written"), ("at batch 8", "at batch 8")])
def test_a_full_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, incomplete: str, recorded: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageFailed("can't write it: No space left on device", hint="free some space")

    monkeypatch.setattr(benchmark_file, "seal_card", full)
    monkeypatch.setattr(benchmark_file, "temporary_root", lambda: tmp_path / "elsewhere")
    kept = tmp_path / "elsewhere" / "flowers-benchmark.json"
    with pytest.raises(StorageFailed) as caught:
        written(tmp_path / "benchmark.json", incomplete)
    assert caught.value.hint == f"free some space; what was measured is in {kept}"
    assert read_benchmark(kept).incomplete == recorded
    monkeypatch.setattr(benchmark_file, "write_json", full)
    with pytest.raises(StorageFailed) as caught:
        written(tmp_path / "benchmark.json", incomplete)
    assert caught.value.hint == "free some space"
