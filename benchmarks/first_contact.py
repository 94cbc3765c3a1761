"""What this machine's GPU makes of the harness and of engines: one command for a first contact with it.

    python first_contact.py [FOLDER ...]

Each FOLDER is a run's (engines/NAME, with fp32.onnx, fp16.onnx and int8.onnx) or a bundle's. Each question is answered,
or "not answered, because ...", in a process of its own: one that crashes costs one answer. Every answer is written at
once into results/<gpu>-<date>.json; a second run skips what is answered. docs/guides/first-contact.md is the guide.

It runs from a checkout, or beside a bundle: copy this file and the folder contact/ anywhere and give --bundle FOLDER
(for a JetPack's Python 3.8 too). Exit code 0 when all that could be answered is as it should be, 1 when something is
not or a question failed, 3 when nothing could be answered.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Sequence

HERE = Path(__file__).resolve().parent


def find_runtime(bundle: Any) -> None:
    """Let `import trtpoets` find the runtime of a bundle, of the checkout, or what is installed; in children too."""
    candidates = [Path(bundle).resolve() / "runtime"] if bundle else [HERE / "runtime", HERE.parent]
    runtime = next((each for each in candidates if (each / "trtpoets" / "core").is_dir()), None)
    if runtime is None and bundle:
        sys.exit(f"{bundle} holds no runtime/trtpoets: give the folder of a bundle that was made for a Jetson")
    if bundle:  # nothing is added to its folder, which is checked file by file
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    paths = [str(HERE)] + ([str(runtime)] if runtime else [])
    sys.path[:0] = paths
    kept = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each not in paths]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths + kept)


def arguments() -> argparse.ArgumentParser:
    """The words of the command."""
    parser = argparse.ArgumentParser(
        description="Ask this machine's GPU all questions; see docs/guides/first-contact.md."
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="a run's folder, or a bundle's")
    parser.add_argument("--bundle", type=Path, help="a bundle for a Jetson whose runtime is used, and its networks")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the JSON goes")
    parser.add_argument("--again", action="store_true", help="ask what is answered as well")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="ask this question alone; repeatable")
    parser.add_argument("--list", action="store_true", help="list the questions and end")
    parser.add_argument("--count", type=int, default=10_000, help="batches that run while memory is watched")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each thing is timed")
    parser.add_argument("--answer", nargs=3, metavar=("ID", "GIVEN", "OUT"), help=argparse.SUPPRESS)
    return parser


def main(words: Sequence[str]) -> int:
    """Ask; see above for what is returned."""
    parser = arguments()
    options = parser.parse_args(words)
    find_runtime(options.bundle)
    from contact.asked import Given
    from contact.questions import QUESTIONS

    if options.answer:
        from contact.asking import answer_here

        answer_here(options.answer[0], Given.from_json(options.answer[1]), Path(options.answer[2]))
        return 0
    if options.list:
        for each in QUESTIONS:
            print(f"{each.id:21} {each.text}")
        return 0
    unknown = sorted(set(options.only) - {each.id for each in QUESTIONS})
    if unknown:
        parser.error(f"no question is called {unknown[0]}: --list tells which there are")
    folders = [each.resolve() for each in (*options.folders, *([options.bundle] if options.bundle else []))]
    return ask_all(folders, options)


def ask_all(folders: list[Path], options: argparse.Namespace) -> int:
    """Ask what is not answered yet, one after the other, and write each answer down."""
    from contact.asked import Given
    from contact.asking import asked, this_command
    from contact.questions import MACHINE, QUESTIONS
    from contact.results import Book, exit_code, line_of

    command = this_command(str(Path(__file__).resolve()))
    found = asked(MACHINE, Given((), options.results), command)
    facts: dict[str, Any] = found["answer"] or {"gpu": "", "setting": {}, "problem": found["because"]}
    setting = {**facts["setting"], "networks": sorted(each.name for each in folders)}
    book = Book(options.results, facts["gpu"], setting)
    book.note(conditions=facts.get("conditions"), measured={"count": options.count, "seconds": options.seconds})
    print(f"{facts['gpu'] or 'no GPU'}: {book.path}")
    given = Given(tuple(folders), options.results / "work" / book.path.stem, options.count, options.seconds)
    given.work.mkdir(parents=True, exist_ok=True)
    for question in QUESTIONS:
        if options.only and question.id not in options.only:
            continue
        if book.answered(question.id) and not options.again:
            print(f"{question.id:21} answered before", flush=True)
            continue
        book.keep(question.id, asked(question, given, command))
        print(line_of(question.id, book.answers[question.id]), flush=True)
    print(f"Written to {book.path}: send this file, as docs/guides/first-contact.md says.")
    return exit_code(book.answers)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
