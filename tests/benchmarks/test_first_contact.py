"""benchmarks/first_contact.py without a GPU: unanswered questions, fakes, continuing, crashes, the result file."""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.board_bundle import PYTHONS, Board
from tests.fakes.engine import paper_engine
from tests.fakes.gpu import FakeGpu
from tests.fakes.tensorrt_builder import fake_library
from tests.fakes.torch_module import fake_torch
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.files import write_json
from trtpoets.core.types import Flavour, Precision
from trtpoets.device.gpu import libcuda
from trtpoets.device.tensorrt_session import EngineContext, TensorRtSession

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import first_contact  # noqa: E402
import verified  # noqa: E402
from contact import engines, harness, pace, question_process, results, sensors, torch_session, trtexec  # noqa: E402
from contact import networks as contact_networks  # noqa: E402
from contact import subject as subjects  # noqa: E402
from contact.networks import networks  # noqa: E402
from contact.question_inputs import NotAnswered, QuestionInputs  # noqa: E402
from contact.questions import HARNESS, MACHINE, QUESTIONS, Question  # noqa: E402
from contact.subject import Subject  # noqa: E402

SCRIPTS = sorted([FOLDER / "first_contact.py", *(FOLDER / "contact").glob("*.py")])


def given(work: Path, *folders: Path) -> QuestionInputs:
    return QuestionInputs(folders, work, count=40, seconds=0.02)


def answer(question: str, asked: QuestionInputs) -> dict[str, Any]:
    """As the child answers, in this process."""
    out = asked.work / "answer.json"
    asked.work.mkdir(parents=True, exist_ok=True)
    question_process.answer_in_this_process(question, asked, out)
    document: dict[str, Any] = json.loads(out.read_text())
    return document


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from trtpoets.core.errors import RunFailed

    def load() -> Any:
        raise RunFailed("no NVIDIA driver here", hint="none")

    monkeypatch.setattr(libcuda, "load_driver", load)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_it_runs_where_a_bundle_runs(path: Path) -> None:
    """Python 3.8 reads it, and of trtpoets it imports what a bundle has; PyTorch and NVML only inside functions."""
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    allowed = {"core", "device", "judge", "onboard"}
    for node in ast.walk(tree):
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if module.startswith("trtpoets"):
            assert module.split(".")[1] in allowed, module
        assert not any(name.startswith("trtpoets") for name in names)
        if isinstance(node, ast.Call):
            assert "strict" not in {keyword.arg for keyword in node.keywords}, "zip(strict=) is Python 3.10"
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"removeprefix", "removesuffix"}, "Python 3.9"
    top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert not top & {"torch", "pynvml", "onnx", "tensorflow"}


def test_every_question_has_its_function() -> None:
    import importlib

    assert len({question.id for question in QUESTIONS}) == len(QUESTIONS)
    for question in (*QUESTIONS, MACHINE):
        function = getattr(importlib.import_module(f"contact.{question.module}"), question.function)
        parameters = list(inspect.signature(function).parameters)
        assert parameters[0] == "inputs" and len(parameters) == 1 + len(question.arguments), question.id
        assert function.__doc__


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_without_a_gpu_and_a_network_no_question_is_answered(
    question: Question, tmp_path: Path, no_driver: None
) -> None:
    result = answer(question.id, given(tmp_path))
    assert set(result) == {"because", "failed"}
    assert result["because"] and not result["failed"], result


def test_without_a_gpu_the_file_says_so(tmp_path: Path) -> None:
    """In processes of their own, as a stranger starts it."""
    command: list[str | Path] = [sys.executable, FOLDER / "first_contact.py", "--results", tmp_path / "results"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, "--only", "primary-context", "--only", "trtexec"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert "primary-context       not answered, because no NVIDIA driver here" in done.stdout
    (path,) = (tmp_path / "results").glob("*.json")
    assert path.name.startswith("no-gpu-20") and f"Written to {path}" in done.stdout
    kept = json.loads(path.read_text())
    assert set(kept["answers"]) == {"primary-context", "trtexec"}
    assert kept["answers"]["trtexec"]["answered"] is False
    assert kept["conditions"]["cores"] >= 1


class Asked:
    """Stands for the processes: what each question is answered with, and which were asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, []  # type: ignore[var-annotated]
        self.gpu = "NVIDIA H200"

    def __call__(self, question: Question, given: QuestionInputs, command: Any) -> dict[str, Any]:
        if question is MACHINE:
            return {"answer": {"gpu": self.gpu, "setting": {"driver": "570"}, "conditions": {}}, "because": ""}
        self.asked.append(question.id)
        result = self.answers.get(question.id.replace("-", "_"))
        if result is KeyboardInterrupt:
            raise KeyboardInterrupt
        why = "" if result is not None else "nothing is here"
        return {
            "question": question.text,
            "goal": question.goal,
            "answered": result is not None,
            "because": why,
            "failed": False,
            "answer": result,
            "goal_met": (result or {}).get("goal_met"),
            "seconds": 0.1,
            "when": "2026-11-28T11:30:42Z",
        }


def run(monkeypatch: pytest.MonkeyPatch, asked: Asked, results: Path, *words: str) -> int:
    monkeypatch.setattr(question_process, "run_question", asked)
    asked.asked.clear()
    return first_contact.main(["--results", str(results), *words])


def test_a_second_run_continues(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, asked = tmp_path / "results", Asked(primary_context={"goal_met": True}, capture=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, asked, folder)
    (path,) = folder.glob("nvidia-h200-*.json")
    assert list(json.loads(path.read_text())["answers"]) == ["primary-context", "subject"], "what was asked is kept"
    asked.answers["capture"] = {"goal_met": True}
    assert run(monkeypatch, asked, folder) == 0
    assert asked.asked == [question.id for question in QUESTIONS if question.id != "primary-context"]
    assert run(monkeypatch, asked, folder) == 0
    assert "capture" not in asked.asked and "subject" in asked.asked, "what had no answer is asked again"
    assert run(monkeypatch, asked, folder, "--again", "--only", "capture") == 0
    assert asked.asked == ["capture"]
    assert [path] == list(folder.glob("*.json"))
    asked.answers["leaks"] = {"goal_met": False}
    assert run(monkeypatch, asked, folder) == 1
    asked.gpu = "NVIDIA RTX A2000"
    assert run(monkeypatch, asked, folder, "--only", "capture") == 0
    assert len(list(folder.glob("nvidia-rtx-a2000-*.json"))) == 1


def test_another_setting_has_its_own_file(tmp_path: Path) -> None:
    first = results.ResultFile(tmp_path, "NVIDIA H200", {"driver": "570"})
    first.add("capture", {"answered": True})
    assert results.ResultFile(tmp_path, "NVIDIA H200", {"driver": "570"}).answered("capture")
    other = results.ResultFile(tmp_path, "NVIDIA H200", {"driver": "580"})
    assert other.path != first.path and not other.answered("capture")
    first.path.write_text("{")
    assert not results.ResultFile(tmp_path, "NVIDIA H200", {"driver": "570"}).answered("capture"), (
        "a damaged file is left"
    )
    assert results.slug_of("") == "no-gpu" and results.slug_of("NVIDIA RTX™ A2000 12GB") == "nvidia-rtx-a2000-12gb"


@pytest.mark.parametrize(
    ("program", "because"),
    [
        ("import os; os.kill(os.getpid(), 11)", "its process was killed by SIGSEGV"),
        ("import sys; sys.exit('out of luck')", "its process exited with code 1: out of luck"),
        ("import time; time.sleep(60)", "it took longer than 0.3 s"),
        ("import sys, os; open(sys.argv[3], 'w').write('{'); os.abort()", "its process was killed by SIGABRT"),
    ],
)
def test_a_crashed_process_affects_only_its_question(tmp_path: Path, program: str, because: str) -> None:
    timeout = 0.3 if "sleep" in program else 20.0
    record = question_process.run_question(QUESTIONS[0], given(tmp_path), (sys.executable, "-c", program), timeout)
    assert (record["answered"], record["because"], record["failed"]) == (False, because, True)
    assert results.exit_code({"primary-context": record}) == 1
    assert results.line_of("capture", record).endswith(f"not answered, because {because}")


@pytest.fixture
def on_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """An engine of paper on the fake GPU is what the harness runs."""
    gpu = FakeGpu(tiny_spec(), (1, 8, 32))
    gpu.install(monkeypatch)
    engine = paper_engine(tmp_path, batch=(1, 8, 32))
    chosen = Subject("paper", engine)
    for module in (harness, pace, sensors):
        monkeypatch.setattr(module, "subject", lambda given: chosen)
    monkeypatch.setattr(subjects, "photos_of", lambda model, count: tiny_photos(count))
    monkeypatch.setattr(sensors, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(harness, "CYCLES", 5)
    return gpu


@pytest.mark.parametrize("question", ["primary-context", "capture", "recapture", "leaks"])
def test_runtime_questions_over_the_fakes(question: str, on_paper: FakeGpu, tmp_path: Path) -> None:
    result = answer(question, given(tmp_path / "work"))
    assert result["answer"]["goal_met"] is True, result
    assert on_paper.broken == [] and not on_paper.alive


@pytest.mark.parametrize("question", ["bare-loop", "copies-in-graph", "two-slots", "waiting", "clocks"])
def test_speed_questions_over_the_fakes(question: str, on_paper: FakeGpu, tmp_path: Path) -> None:
    """The fakes are slow in their own way: what is measured is looked at, not how much it is."""
    value = answer(question, given(tmp_path / "work"))["answer"]
    assert on_paper.broken == [] and not on_paper.alive
    if question == "bare-loop":
        assert [item["graph"] for item in value["batches"].values()] == [True] * 3
        assert all(item["worst_difference"] == 0 and item["ratio"] > 0 for item in value["batches"].values())
    if question == "copies-in-graph":
        assert all(item["graph"] == [True, True] for item in value["batches"].values())
    if question == "two-slots":
        assert value["slots"] == 2 and set(value["photos_per_s"]) == {"1", "8", "32"}
    if question == "waiting":
        assert {name: way["holds"] for name, way in value["ways"].items()} == {
            item: item for item in ("auto", "spin", "blocking")
        }
    if question == "clocks":
        assert value["windows"] and value["clock_from"].startswith("unavailable")


def test_a_leak_is_found(on_paper: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter(range(1 << 33, 0, -(1 << 20)))
    monkeypatch.setattr(harness, "free_memory", lambda: next(sizes))
    value = answer("leaks", given(tmp_path / "work"))["answer"]
    assert (value["gpu_bytes"], value["goal_met"]) == (1 << 20, False)


def test_tensorrt_rtx_without_a_gpu(tiny_bundle: Path, tmp_path: Path, no_driver: None) -> None:
    """It builds; that it was not run is said. CURRENT is refused, which is an answer."""
    pytest.importorskip("tensorrt_rtx")
    value = answer("rtx-fp16", given(tmp_path, tiny_bundle))["answer"]
    (result,) = value["networks"].values()
    assert (result["runs"], result["because"]) == (False, "no NVIDIA driver here")
    assert result["engine_bytes"] > 10_000 and result["targets"] == ["sm80+"] and "goal_met" not in value
    current = answer("rtx-current", given(tmp_path, tiny_bundle))["answer"]
    assert current["builds"] is False and "could not build" in current["refusal"]


def judged(**changes: Any) -> bool:
    values = {"worst_difference": 0.01, "tolerance": 0.02, "batches_leak_bytes": 0, "cycles_leak_bytes": 0}
    return engines._meets_goal({**values, "layers": {"int8": 0.9}, **changes}, Flavour.TENSORRT, Precision.INT8)


def test_an_int8_engine_that_computes_in_fp32_misses_the_goal() -> None:
    assert judged()
    assert not judged(layers={"fp32": 1.0})
    assert not judged(layers={}), "unknown layers do not count as INT8"
    assert not judged(worst_difference=0.03)
    assert not judged(cycles_leak_bytes=1 << 20)
    assert judged(worst_difference=None)


def test_folders_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(NotAnswered, match="no network was given"):
        networks(given(tmp_path))
    with pytest.raises(NotAnswered, match="contains no fp32"):
        networks(given(tmp_path, tmp_path))


def test_trtexec_is_read(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As trtexec 10 prints it (sampleReporting.cpp)."""
    program = tmp_path / "trtexec"
    program.write_text(
        "#!/bin/sh\n"
        'case "$1" in --help) echo "--useCudaGraph  Use CUDA graph"; exit;; esac\n'
        'echo "$@" > "$0.said"\n'
        'echo "[I] Latency: min = 0.9 ms, max = 1.4 ms, mean = 1.0 ms, median = 1.00 ms, percentile(90%) = 1.1 ms"\n'
        'echo "[I] GPU Compute Time: min = 0.47 ms, max = 0.8 ms, mean = 0.51 ms, median = 0.5 ms, p90 = 1"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(trtexec, "need_library", lambda flavour: None)
    monkeypatch.setattr(trtexec, "built", lambda *_: paper_engine(tmp_path))
    monkeypatch.setattr(trtexec, "config_of", lambda flavour: None)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    monkeypatch.setattr(trtexec, "latencies", lambda *_, **__: {"compute_p50": 0.52, "graph": True})
    measured = trtexec.beside_trtexec(given(tmp_path, tiny_bundle))
    assert (measured["trtexec_compute_ms"], measured["goal_met"]) == (0.5, True)
    text = (tmp_path / "trtexec.said").read_text()
    assert "--shapes=photos:1x16x16x3" in text and "--useCudaGraph" in text
    monkeypatch.setattr(trtexec, "latencies", lambda *_, **__: {"compute_p50": 0.56, "graph": True})
    assert trtexec.beside_trtexec(given(tmp_path, tiny_bundle))["goal_met"] is False


def test_the_stand_in_has_the_sessions_interface() -> None:
    """`TensorRtRunner` runs it in place of TensorRT: what it calls must be there, with the same words."""
    for ours, theirs in ((TensorRtSession, torch_session.TorchSession), (EngineContext, torch_session.TorchContext)):
        for name, member in inspect.getmembers(ours):
            if name.startswith("_") or name == "set_context":  # what TensorRtSession itself calls
                continue
            assert hasattr(theirs, name), f"{theirs.__name__}.{name}"
            if inspect.isfunction(member):
                wanted = list(inspect.signature(member).parameters)
                assert list(inspect.signature(getattr(theirs, name)).parameters) == wanted, name
    ours_parameters, theirs_parameters = (
        list(inspect.signature(session.__init__).parameters)
        for session in (TensorRtSession, torch_session.TorchSession)
    )
    assert theirs_parameters == ours_parameters


@pytest.fixture
def with_torch(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A GPU with PyTorch and no TensorRT; the stand-in is small, and goes with the test."""
    gpu = FakeGpu(tiny_spec(), (1, 8, 32))
    gpu.install(monkeypatch)
    for name, module in {"tensorrt": None, "tensorrt_rtx": None, "torch": fake_torch(gpu)}.items():
        monkeypatch.setitem(sys.modules, name, module)
    for module in (torch_session, subjects):
        monkeypatch.setattr(module, "SIDE", 16)
        monkeypatch.setattr(module, "CLASSES", 5)
    for name, value in {"NARROW": 4, "WIDTH": 8, "LAYERS": 2}.items():
        monkeypatch.setattr(torch_session, name, value)

    def replace(name: str, value: Any) -> None:
        for module in [item for key, item in sys.modules.items() if key.startswith("trtpoets.device")]:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)

    monkeypatch.setattr(subjects, "_replace", replace)
    monkeypatch.setattr(harness, "CYCLES", 5)
    return gpu


@pytest.mark.parametrize("question", ["subject", "capture", "recapture", "leaks", "bare-loop", "two-slots"])
def test_pytorch_kernels_replace_an_engine(question: str, with_torch: FakeGpu, tmp_path: Path) -> None:
    """On our stream and addresses, captured and captured anew, with nothing left and no rule of CUDA's broken."""
    value = answer(question, given(tmp_path / "work"))["answer"]
    assert with_torch.broken == [] and not with_torch.alive
    assert question in ("subject", "bare-loop", "two-slots") or value["goal_met"] is True
    if question == "capture":
        assert value["graph"] is True
    if question == "subject":
        assert value["runs"] == torch_session.TITLE
    if question == "bare-loop":
        assert all(batch["worst_difference"] == 0 and batch["graph"] for batch in value["batches"].values())


def test_int8_is_built_weakly_and_strongly_typed(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = fake_library("10.3")
    monkeypatch.setattr(engines, "need_library", lambda flavour: None)
    for module in (engines, contact_networks):
        monkeypatch.setattr(module, "load_tensorrt", lambda flavour: library)
    monkeypatch.setattr(engines, "built", lambda *_: paper_engine(tmp_path))
    monkeypatch.setattr(engines, "_scores", lambda *_: {})
    monkeypatch.setattr(engines, "latencies", lambda *_, **__: {})
    value = answer("tensorrt-int8-typing", given(tmp_path / "work", tiny_bundle))["answer"]
    assert value["weakly typed"]["typing"] == "weakly typed, INT8 and FP16 allowed"
    assert value["strongly typed"]["typing"] == "strongly typed"
    assert set(value["weakly typed"]["layers"]) == {"int8", "fp16"}, "as the stand-in for TensorRT's inspector tells"
    assert "fp32" in value["strongly typed"]["layers"]
    kept = library.module.BuilderFlag.__members__
    monkeypatch.setattr(engines, "load_tensorrt", lambda flavour: fake_library("11.0"))
    assert "INT8" in kept and answer("tensorrt-int8-typing", given(tmp_path / "work", tiny_bundle))["because"].endswith(
        "has strongly typed networks only"
    )


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_it_runs_with_only_a_bundle(python: str, tiny_bundle: Path, tmp_path: Path) -> None:
    """On a board of paper, with the bundle's runtime and this one folder, in Python 3.8 too."""
    import shutil

    board, folder = Board(tmp_path, python), tmp_path / "copied"
    shutil.copytree(FOLDER / "contact", folder / "contact")
    shutil.copy(FOLDER / "first_contact.py", folder)
    only = [word for item in HARNESS if item.module == "harness" for word in ("--only", item.id)]
    quick = ["--count", "50", "--seconds", "0.02", "--only", "waiting", "--only", "tensorrt-fp16"]
    command: list[str | Path] = [python, folder / "first_contact.py", "--bundle", tiny_bundle, *only, *quick]
    done = subprocess.run(command, env=board.variables, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (folder / "results").glob("paper-gpu-*.json")
    answers = json.loads(path.read_text())["answers"]
    assert all(item["answered"] for item in answers.values()), done.stdout
    assert answers["tensorrt-fp16"]["answer"]["networks"]["tiny-jetson"]["beside"] == "the bundle's golden scores"
    again = subprocess.run(command, env=board.variables, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert again.stdout.count("answered before") == len(answers)


# The page


def test_the_page_agrees_with_the_files() -> None:
    page = (FOLDER.parent / "docs" / "verified.md").read_text()
    assert page == verified.page_with(page, FOLDER / "results"), "write it anew: python benchmarks/verified.py"


def test_rows_of_the_page(tmp_path: Path) -> None:
    assert "Nothing has run on a GPU yet." in verified.table(tmp_path)
    machine = {"target": "sm90", "driver": "570.1", "tensorrt": "10.13.3", "rtx": None, "torch": "2.11"}
    answers = {
        "capture": {"answered": True, "goal_met": True, "because": "", "failed": False},
        "leaks": {"answered": True, "goal_met": False, "because": "", "failed": False},
        "trtexec": {"answered": False, "goal_met": None, "because": "trtexec is not here", "failed": False},
        "rtx-fp16": {
            "answered": True,
            "goal_met": None,
            "because": "",
            "failed": False,
            "answer": {"networks": {"flowers": {"runs": False}}},
        },
    }
    value = {"format": 1, "gpu": "NVIDIA H200", "begun": "2026-12-01T10:00:00Z", "setting": machine, "answers": answers}
    write_json(tmp_path / "nvidia-h200-2026-12-01.json", value)
    write_json(tmp_path / "no-gpu-2026-12-01.json", {**value, "gpu": ""})
    text = verified.table(tmp_path)
    assert text.count("NVIDIA H200") == 1 and "no-gpu" not in text
    assert "| capture | yes |" in text and "| leaks | **no** |" in text
    assert "| trtexec | not answered: trtexec is not here |" in text
    assert "| rtx-fp16 | built, not run |" in text
    assert "| recapture | not asked |" in text


def test_the_guide_names_every_question() -> None:
    guide = (FOLDER.parent / "docs" / "guides" / "first-contact.md").read_text()
    assert [question.id for question in QUESTIONS if f"`{question.id}`" not in guide] == []
    assert np.all([word in guide for word in ("--again", "--bundle", "--only", "results/")])
