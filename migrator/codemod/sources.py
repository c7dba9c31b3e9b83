"""Finds the Python sources below a path: scripts, and the cells of notebooks.

Files that can't be read are reported with the reason. Symbolic links, virtual environments and
file stores are skipped: code in a file store is an artifact of a run, not source.
"""

from __future__ import annotations

import ast
import io
import json
import os
import stat
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrator.errors import SourceError

SUFFIXES = (".py", ".pyw", ".ipynb")
MAX_BYTES = 5_000_000  # bigger files are generated; parsing takes 100 times as much memory
SKIPPED = frozenset(
    {"__pycache__", "node_modules", "site-packages", "venv", "env", "mlruns", "mlartifacts"}
)


class Unreadable(Exception):
    """A file can't be read as Python; the message says why, without the file's name."""


@dataclass(frozen=True, slots=True)
class Source:
    """One piece of Python: a script, or a cell of a notebook (numbered from 1)."""

    path: Path
    text: str
    tree: ast.Module
    cell: int | None = None


def files_below(paths: Sequence[str]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return the files to read, sorted, and the unreadable directories with the reason.

    A path that is given is always read, even if it is a link or in a directory that a walk skips.
    Raises ``SourceError`` for a path that does not exist.
    """
    files: set[Path] = set()
    passed: list[tuple[Path, str]] = []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            _walk(path, files, passed)
        elif path.exists():
            files.add(path)
        else:
            raise SourceError(f"{given} does not exist.", todo="Give a Python file or a directory.")
    return sorted(files), sorted(set(passed))


def _walk(top: Path, files: set[Path], passed: list[tuple[Path, str]]) -> None:
    def refused(error: OSError) -> None:
        passed.append((Path(error.filename or top), f"can't be read: {error.strerror}"))

    for folder, folders, names in os.walk(top, onerror=refused):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED
            and not name.startswith(".")
            and not (here / name / "pyvenv.cfg").exists()
            and not (here / name).is_symlink()
        )
        for name in sorted(names):
            if name.endswith(SUFFIXES):
                path = here / name
                if not path.is_symlink():  # its target is read at its own place
                    files.add(path)


def contents(path: Path) -> bytes:
    """Return the bytes of a file. Raises ``Unreadable``."""
    try:
        status = path.stat()  # opening a pipe would block
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not a regular file")
        if status.st_size > MAX_BYTES:
            raise Unreadable(f"{status.st_size:,} bytes; more than {MAX_BYTES:,} are not read")
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"can't be read: {error.strerror}") from error


def sources_of(path: Path, data: bytes) -> Iterator[Source]:
    """Yield the Python in a file: one piece for a script, one for each cell of a notebook.

    Raises ``Unreadable``.
    """
    if path.suffix == ".ipynb":
        yield from _cells(path, data)
        return
    text = decoded(data)
    yield Source(path, text, parsed(text))


def decoded(data: bytes) -> str:
    """Decode a script by its declared encoding (PEP 263). Line ends are kept.

    Raises ``Unreadable``.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise Unreadable(f"its encoding: {error}") from error


def parsed(text: str) -> ast.Module:
    """Return the syntax tree of a text. Raises ``Unreadable``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code that is read, such as invalid escapes
            return ast.parse(text)
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        raise Unreadable(f"not Python 3: {line}{error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # NUL; nested too deeply
        raise Unreadable(f"not Python: {error or type(error).__name__}") from error


def _cells(path: Path, data: bytes) -> Iterator[Source]:
    try:
        notebook = json.loads(data)
        cells = [
            (number, "".join(cell["source"]))
            for number, cell in enumerate(notebook["cells"], 1)
            if cell["cell_type"] == "code"
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"not a notebook: {type(error).__name__}: {error}") from error
    for number, text in cells:
        if text.startswith("%%"):  # another language
            continue
        try:
            yield Source(path, text, parsed(_without_magic(text)), number)
        except Unreadable as error:
            raise Unreadable(f"cell {number}: {error}") from error


def _without_magic(text: str) -> str:
    """Replace IPython's own lines (``%pip``, ``!ls``, ``?x``) in a cell by ``pass``."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        bare = line.lstrip()
        if bare.startswith(("%", "!", "?")):
            lines[index] = line[: len(line) - len(bare)] + "pass"
    return "\n".join(lines)
