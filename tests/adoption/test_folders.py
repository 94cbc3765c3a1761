"""The classifier in a folder that another program exported."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.adoption.onnx.networks import plain
from tests.support.errors import raises
from trtpoets.adoption.folders import classifier_in_folder, unpacking
from trtpoets.adoption.loaded import load_foreign
from trtpoets.core.console import error_text
from trtpoets.core.errors import BadArtefact
from trtpoets.core.file_kinds import kind_of_file


def error_of(folder: Path) -> BadArtefact:
    with pytest.raises(BadArtefact) as caught:
        classifier_in_folder(folder)
    return caught.value


def empty_saved_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    return folder


def test_one_file_beside_labels_and_scripts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = plain(tmp_path / "net.onnx")
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    (tmp_path / "cvexport.manifest").write_text('{"DomainType": "Classification"}')
    (tmp_path / "._net.onnx").write_bytes(model.read_bytes())  # macOS writes such files into archives
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "predict.py").write_text("import onnx\n")
    with caplog.at_level("INFO"):
        loaded = load_foreign(tmp_path)
    assert loaded.model.path == model
    assert caplog.messages == [f"the classifier in {tmp_path} is net.onnx"]


def test_a_saved_model_folder_itself_and_one_beside_labels(tmp_path: Path) -> None:
    inner = empty_saved_model(tmp_path / "export" / "model.savedmodel")
    (tmp_path / "export" / "labels.txt").write_text("0 rose\n1 tulip\n")
    assert classifier_in_folder(inner) == inner
    assert classifier_in_folder(tmp_path / "export") == inner
    assert classifier_in_folder(tmp_path) == inner  # the archive has a folder of its own inside


def test_a_file_of_the_folder_itself_comes_before_those_of_its_subfolders(tmp_path: Path) -> None:
    model = plain(tmp_path / "retrained.onnx")
    (tmp_path / "models").mkdir()
    plain(tmp_path / "models" / "base.onnx")
    assert classifier_in_folder(tmp_path) == model


def test_several_candidates_are_listed_each_with_its_command(tmp_path: Path) -> None:
    folder = tmp_path / "two of them"
    folder.mkdir()
    plain(folder / "b.onnx")
    plain(folder / "a.onnx")
    empty_saved_model(folder / "saved")
    error = error_of(folder)
    assert error.code == "TP9506"
    assert list(error.details) == [
        f"trtpoets adopt '{folder / name}' --name NAME" for name in ("a.onnx", "b.onnx", "saved")
    ]
    assert error.hint == f"give one of them: {error.details[0]}"
    assert "has 3 classifiers" in error_text(error)


def test_a_folder_without_a_classifier_says_what_it_has(tmp_path: Path) -> None:
    assert "(it has no files)" in error_of(tmp_path).message
    (tmp_path / "labels.txt").write_text("rose\ntulip\n")
    with zipfile.ZipFile(tmp_path / "best.pt", "w") as archive:
        archive.writestr("best/data.pkl", "")
        archive.writestr("best/version", "3")
    error = error_of(tmp_path)
    assert error.code == "TP9501"
    assert "best.pt (a PyTorch file (zip of pickles)), labels.txt (text)" in error.message
    assert "torch.onnx.export" in error.hint
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("text\n")
    assert error_of(tmp_path).message.count("(text)") == 4
    assert "6 other files" in error_of(tmp_path).message


def test_an_archive_is_not_read_and_the_hint_unpacks_it(tmp_path: Path) -> None:
    archive = tmp_path / "my export.zip"
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("model.pb", b"x")
        stream.writestr("labels.txt", "a\nb\n")
    command = f"unzip '{archive}' -d '{tmp_path}/my export' && trtpoets adopt '{tmp_path}/my export' --name NAME"
    with raises(BadArtefact, "TP1011", "a zip archive") as caught:
        load_foreign(archive)
    assert caught.value.hint == command
    assert error_of(tmp_path).hint == command  # the folder with nothing but the archive


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), ("", "w")])
def test_the_command_for_tar_archives(tmp_path: Path, suffix: str, mode: str) -> None:
    path = tmp_path / f"export{suffix}"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("model.pb"))
    path.write_bytes(buffer.getvalue())
    kind = kind_of_file(path)
    assert kind is not None
    folder = path.with_name("export" if suffix else "export_files")
    expected = f"mkdir -p {folder} && tar -xf {path} -C {folder} && trtpoets adopt {folder} --name NAME"
    assert unpacking(path, kind) == expected


def test_a_compressed_file_that_is_no_archive_keeps_its_own_remedy(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00" + bytes(20))
    kind = kind_of_file(path)
    assert kind is not None
    assert unpacking(path, kind) == ""
    with pytest.raises(BadArtefact) as caught:
        load_foreign(path)
    assert caught.value.hint == f"gunzip --keep {path}"
