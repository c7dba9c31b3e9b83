"""Applies edits to a source and keeps every other byte (libcst, the extra ``code``)."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator.codemod.patterns import IMPORT, TRACKER, Finding
from migrator.codemod.sources import Unreadable
from migrator.errors import OptionError

if TYPE_CHECKING:
    import libcst as cst

MAX_BYTES = 1_000_000  # takes libcst about 20 s
BOM = b"\xef\xbb\xbf"


def check_available() -> None:
    """Raise ``OptionError`` if libcst is not installed."""
    try:
        import libcst  # noqa: F401
    except ImportError as error:
        raise OptionError(
            "Rewriting needs libcst.", todo="Install it: pip install libcst."
        ) from error


def rewritten(data: bytes, findings: Sequence[Finding]) -> bytes:
    """Return the bytes of a script with the edits of ``findings`` applied.

    Raises ``Unreadable`` if libcst can't reproduce the rest of the script exactly.
    """
    import libcst as cst
    from libcst.metadata import MetadataWrapper

    if len(data) > MAX_BYTES:
        raise Unreadable(f"not rewritten: {len(data):,} bytes, more than {MAX_BYTES:,}")
    mark, body = (BOM, data[len(BOM) :]) if data.startswith(BOM) else (b"", data)
    edits = {(each.line, each.column): each for each in findings if each.edit is not None}
    try:
        module = cst.parse_module(body)
        if module.bytes != body:
            raise Unreadable("not rewritten: libcst would change more than the edits")
        wrapper = MetadataWrapper(module, unsafe_skip_copy=True)  # the module is ours alone
        new: bytes = wrapper.visit(_editor(edits)).bytes
    except (cst.ParserSyntaxError, RecursionError, UnicodeError) as error:
        raise Unreadable(f"not rewritten: libcst can't parse it: {type(error).__name__}") from error
    return mark + new


def _editor(edits: Mapping[tuple[int, int], Finding]) -> Any:
    """Return the transformer; a function, so that libcst is imported only when needed."""
    import libcst as cst
    from libcst.metadata import PositionProvider

    class Editor(cst.CSTTransformer):
        METADATA_DEPENDENCIES = (PositionProvider,)

        def edit_at(self, node: cst.CSTNode) -> str | None:
            start = self.get_metadata(PositionProvider, node).start
            finding = edits.get((start.line, start.column + 1))
            is_import = isinstance(node, cst.SimpleStatementLine)
            return finding.edit if finding and (finding.code == IMPORT) == is_import else None

        def leave_SimpleString(
            self, original_node: cst.SimpleString, updated_node: cst.SimpleString
        ) -> cst.BaseExpression:
            new = self.edit_at(original_node)
            return updated_node if new is None else updated_node.with_changes(value=new)

        def leave_SimpleStatementLine(
            self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
        ) -> cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement]:
            new = self.edit_at(original_node)
            old = original_node.body[0]
            if new is None or not isinstance(old, cst.ImportFrom) or len(original_node.body) > 1:
                return updated_node
            line = cst.parse_statement(new)
            assert isinstance(line, cst.SimpleStatementLine)
            assert not isinstance(old.names, cst.ImportStar)
            kept = [alias for alias in old.names if alias.evaluated_name != TRACKER]
            if not kept:
                return updated_node.with_changes(body=line.body)
            kept[-1] = _as_last(kept[-1], old.names[-1], old.lpar is not None)
            rest = updated_node.with_changes(body=[old.with_changes(names=kept)])
            return cst.FlattenSentinel([rest, line])

    return Editor()


def _as_last(alias: cst.ImportAlias, last: cst.ImportAlias, parentheses: bool) -> cst.ImportAlias:
    """Give an alias the comma and indentation of the last alias of its import."""
    import libcst as cst

    if not parentheses:
        return alias.with_changes(comma=cst.MaybeSentinel.DEFAULT)
    if not (isinstance(alias.comma, cst.Comma) and isinstance(last.comma, cst.Comma)):
        return alias
    after, end = alias.comma.whitespace_after, last.comma.whitespace_after
    if not isinstance(after, cst.ParenthesizedWhitespace):
        return alias.with_changes(comma=last.comma)
    if not isinstance(end, cst.ParenthesizedWhitespace):
        return alias
    after = after.with_changes(last_line=end.last_line, indent=end.indent)
    return alias.with_changes(comma=alias.comma.with_changes(whitespace_after=after))


def diff(path: Path, old: str, new: str) -> str:
    """Return a unified diff for ``patch -p1`` and ``git apply``."""
    name = path.as_posix().lstrip("/")
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def replace(path: Path, data: bytes) -> None:
    """Replace the contents of a file in one step, and keep its permissions. Raises ``OSError``."""
    target = path.resolve()  # a link stays a link
    with _temporary(target.parent) as (handle, temporary):
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(target.stat().st_mode & 0o7777)
        temporary.replace(target)


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[int, Path]]:
    handle, name = tempfile.mkstemp(dir=folder, prefix=".mlflow-migrate-")
    try:
        yield handle, Path(name)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
