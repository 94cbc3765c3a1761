"""Tests trtpoets on the GPU of this machine: runs all checks of the runtime and of engines with one command.

    python first_contact.py [FOLDER ...]

Each FOLDER is a run (engines/NAME, with fp32.onnx, fp16.onnx and int8.onnx) or a bundle. Each question runs in its own
process, so a crash affects only one answer. A question that cannot be answered here is recorded as "not answered,
because ...". Every answer is written at once to results/<gpu>-<date>.json; a second run skips answered questions. See
docs/guides/first-contact.md.

It runs from a checkout, or with a bundle: copy this file and the folder contact/ anywhere and give --bundle FOLDER. It
supports Python 3.8 of JetPack. The exit code is 0 if every answer meets its goal, 1 if one does not or a question
failed, 3 if no question could be answered.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Sequence

HERE = Path(__file__).resolve().parent


def find_runtime(bundle: Any) -> None:
    """Make `import trtpoets` use the bundle, the checkout or the installed package, also in child processes."""
    candidates = [Path(bundle).resolve() / "runtime"] if bundle else [HERE / "runtime", HERE.parent]
    runtime = next((path for path in candidates if (path / "trtpoets" / "core").is_dir()), None)
    if runtime is None and bundle:
        sys.exit(f"{bundle} has no runtime/trtpoets; give the folder of a Jetson bundle")
    if bundle:  # compiled files would not be in the manifest of the bundle
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    paths = [str(HERE)] + ([str(runtime)] if runtime else [])
    sys.path[:0] = paths
    kept = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in paths]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths + kept)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Test trtpoets on the GPU of this machine; see docs/guides/first-contact.md."
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="folder of a run or of a bundle")
    parser.add_argument("--bundle", type=Path, help="Jetson bundle whose runtime and networks are used")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the result files")
    parser.add_argument("--again", action="store_true", help="repeat answered questions")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="run only this question (repeatable)")
    parser.add_argument("--list", action="store_true", help="list the questions and exit")
    parser.add_argument("--count", type=int, default=10_000, help="number of batches of the memory leak test")
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of each measurement")
    parser.add_argument("--answer", nargs=3, metavar=("ID", "GIVEN", "OUT"), help=argparse.SUPPRESS)
    return parser


def main(arguments_given: Sequence[str]) -> int:
    """Run the questions and return the exit code."""
    parser = arguments()
    options = parser.parse_args(arguments_given)
    find_runtime(options.bundle)
    from contact.question_inputs import QuestionInputs
    from contact.questions import QUESTIONS

    if options.answer:
        from contact.question_process import answer_in_this_process

        answer_in_this_process(options.answer[0], QuestionInputs.from_json(options.answer[1]), Path(options.answer[2]))
        return 0
    if options.list:
        for question in QUESTIONS:
            print(f"{question.id:21} {question.text}")
        return 0
    unknown = sorted(set(options.only) - {question.id for question in QUESTIONS})
    if unknown:
        parser.error(f"there is no question {unknown[0]}; --list lists them")
    folders = [folder.resolve() for folder in (*options.folders, *([options.bundle] if options.bundle else []))]
    return ask_all(folders, options)


def ask_all(folders: list[Path], options: argparse.Namespace) -> int:
    """Run the questions that are not answered yet, record each answer, and return the exit code."""
    from contact.question_inputs import QuestionInputs
    from contact.question_process import child_command, run_question
    from contact.questions import MACHINE, QUESTIONS
    from contact.results import ResultFile, exit_code, line_of

    command = child_command(str(Path(__file__).resolve()))
    machine = run_question(MACHINE, QuestionInputs((), options.results), command)
    facts: dict[str, Any] = machine["answer"] or {"gpu": "", "setting": {}, "problem": machine["because"]}
    setting = {**facts["setting"], "networks": sorted(folder.name for folder in folders)}
    result_file = ResultFile(options.results, facts["gpu"], setting)
    result_file.note(conditions=facts.get("conditions"), measured={"count": options.count, "seconds": options.seconds})
    print(f"{facts['gpu'] or 'no GPU'}: {result_file.path}")
    inputs = QuestionInputs(
        tuple(folders), options.results / "work" / result_file.path.stem, options.count, options.seconds
    )
    inputs.work.mkdir(parents=True, exist_ok=True)
    for question in QUESTIONS:
        if options.only and question.id not in options.only:
            continue
        if result_file.answered(question.id) and not options.again:
            print(f"{question.id:21} answered before", flush=True)
            continue
        result_file.add(question.id, run_question(question, inputs, command))
        print(line_of(question.id, result_file.answers[question.id]), flush=True)
    print(f"Written to {result_file.path}. Please send this file; see docs/guides/first-contact.md.")
    return exit_code(result_file.answers)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
