"""What Windows and macOS do otherwise, simulated on Linux: neither has been tried."""

from __future__ import annotations

import ast
import ntpath
import os
import types
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from migrator import paths
from migrator.extractor import locations
from migrator.issues import Code, Kind
from migrator.loader import artifacts
from migrator.loader.sqlite import staging
from migrator.model import ArtifactCopy
from migrator.pipeline import Options, convert
from tests.support.storekit import write_experiment, write_run

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT_CALLS = frozenset({"open", "fdopen", "read_text", "write_text"})
NO_TEXT = frozenset({"os", "tarfile", "zipped", "entry", "server"})  # whose open() is another one


# ------------------------------------------------------------------------------------ paths
def test_a_sqlite_uri_has_no_backslash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "os", types.SimpleNamespace(sep="\\"))
    assert paths.sqlite_uri("C:\\data\\my runs\\mlflow.db") == "sqlite:///C:/data/my runs/mlflow.db"
    percent = make_url(paths.sqlite_uri("C:\\data\\50%\\m.db"))
    assert percent.database == "C:/data/50%/m.db"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///C:/Users/ana/mlruns/0", "C:\\Users\\ana\\mlruns\\0"),
        ("file:C:/Users/ana/mlruns/0", "C:\\Users\\ana\\mlruns\\0"),
        ("C:\\Users\\ana\\mlruns\\0", "C:\\Users\\ana\\mlruns\\0"),
        ("file:///D:/my%20runs/0", "D:\\my runs\\0"),
        ("./mlruns/0", "C:\\work\\mlruns\\0"),
        ("s3://bucket/mlruns/0", None),
    ],
)
def test_a_recorded_location_on_windows_is_a_path_there(
    uri: str, path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = types.SimpleNamespace(name="nt", path=ntpath, sep="\\")
    monkeypatch.setattr(locations, "os", windows)
    assert locations.local_path(uri, "C:\\work") == path


# ---------------------------------------------------------------------------- names of files
class Folding(type(Path())):  # type: ignore[misc]  # PosixPath here
    """A path on a file system that takes A.txt and a.txt for one name."""

    def __fspath__(self) -> str:
        folder, name = os.path.split(str(self))
        if not os.path.isdir(folder):
            return str(self)
        same = [each for each in os.listdir(folder) if each.casefold() == name.casefold()]
        return os.path.join(folder, same[0]) if same else str(self)


def test_copies_whose_names_differ_in_case_do_not_replace_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, copies = tmp_path / "source", tmp_path / "copies"
    source.mkdir()
    for name in ("A.txt", "a.txt", "b.txt"):
        (source / name).write_text(f"this is {name}", encoding="utf-8")
    files = [(name, str(source / name), 14) for name in ("A.txt", "a.txt", "b.txt")]
    copy = ArtifactCopy(Kind.RUN, "r", str(source), str(source), str(copies / "r"))

    def copied() -> artifacts.CopyResult:
        return artifacts.copy_artifacts([copy], str(copies), lambda _: files)

    monkeypatch.setattr(artifacts, "Path", Folding)
    for _ in range(2):  # the second time says so again
        result = copied()
        (issue,) = result.issues
        assert issue.code is Code.ARTIFACT_NOT_COPIED
        assert issue.message == "This directory can't have both A.txt and a.txt."
        kept = {path.name: path.read_text("utf-8") for path in (copies / "r").iterdir()}
        assert kept == {"A.txt": "this is A.txt", "b.txt": "this is b.txt"}
    monkeypatch.setattr(artifacts, "Path", Path)
    assert (copied().files, copied().files) == (1, 0)  # Linux keeps all three
    assert sorted(path.name for path in (copies / "r").iterdir()) == ["A.txt", "a.txt", "b.txt"]


# --------------------------------------------------------------------------- files in use
def opened_here(path: str) -> bool:
    for handle in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{handle}") == path:
                return True
        except OSError:
            continue
    return False


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Refuse to remove or rename a file that this process has open, and have no flock."""
    moved: list[str] = []

    def guarded(name: str) -> None:
        real = getattr(os, name)

        def call(path: Any, *others: Any, **more: Any) -> Any:
            if more.get("dir_fd") is None and not isinstance(path, int):
                for each in (path, *others):
                    text = os.path.realpath(each)
                    if opened_here(text):
                        raise PermissionError(13, "in use by this process", text)
                moved.append(os.path.basename(os.fspath(path)))
            return real(path, *others, **more)

        monkeypatch.setattr(os, name, call)

    for name in ("replace", "rename", "unlink", "remove"):
        guarded(name)
    monkeypatch.setattr(staging, "fcntl", None)
    return moved


def test_no_file_is_removed_or_replaced_while_it_is_open(tmp_path: Path, strict: list[str]) -> None:
    store = tmp_path / "mlruns"
    write_experiment(store, "1", "agents")
    write_run(store, "1", "a" * 32, params={"model": "gpt-4o"}, artifacts={"prompt.txt": "Hello"})
    to = f"sqlite:///{tmp_path}/mlflow.db"
    options = Options(workers=1, artifacts=f"copy:{tmp_path / 'copies'}")
    assert convert(store, to, options, schema="3.9").exit_code == 0
    write_run(store, "1", "b" * 32)
    grown = convert(store, to, options, schema="3.9")
    assert grown.exit_code == 0 and grown.backup is not None
    source = tmp_path / "mlflow.db"
    assert convert(source, f"sqlite:///{tmp_path}/new.db", schema="3.9").exit_code == 0
    assert convert(source, "", schema="3.9", in_place=True).exit_code == 0
    assert len(strict) > 5  # what was guarded did happen
    assert not [path for path in tmp_path.iterdir() if ".migrating" in path.name]


# ------------------------------------------------------------------------------- text files
def calls_on_text(tree: ast.AST) -> list[ast.Call]:
    """Calls that open a file as text, or read or write one."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        owner = getattr(getattr(function, "value", None), "id", "")
        modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        is_binary = any(isinstance(mode, str) and "b" in mode and len(mode) < 4 for mode in modes)
        if name in TEXT_CALLS and owner not in NO_TEXT and not is_binary:
            found.append(node)
    return found


def test_no_text_is_read_or_written_in_the_encoding_of_the_system() -> None:
    """It is cp1252 on many a Windows."""
    missing = []
    for path in sorted((ROOT / "migrator").rglob("*.py")):
        for call in calls_on_text(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.unparse(call)
            is_of_ours = "Source.open(" in text or ".open(self._server)" in text
            is_of_ours |= ".open(address)" in text or "experiment.open(" in text
            is_of_ours |= text.startswith("super().write_text(")  # click's, of a help text
            if "utf-8" not in text and not is_of_ours:
                missing.append(f"{path.relative_to(ROOT)}:{call.lineno}: {text}")
    assert missing == []
