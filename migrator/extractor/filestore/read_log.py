"""Reading one entity's directory, with a log of what was found, read, merged and wrong.

``ReadLog`` lists directories and reads files for the modules that know what an entity is, and
counts every file and directory on the way. ``close`` turns it into an ``Extracted``.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from typing import TypeVar

from migrator.counting import counted
from migrator.extractor.filestore.junk_names import (
    copied_from,
    is_junk,
    is_junk_folder,
    is_plain,
    stand_in,
)
from migrator.extractor.filestore.scanning import (
    FileTooLarge,
    Listing,
    SpecialEntry,
    TreeContents,
    link_read_elsewhere,
    measure,
    read_bytes,
    reason,
    scan,
    size_at,
    small_files,
)
from migrator.issues import Code, Issue, Kind, Severity
from migrator.model import Extracted
from migrator.paths import is_utf8, readable_path

T = TypeVar("T")

VALUE_LIMIT_BYTES = 16 << 20  # a param or tag: MLflow's own limit is 8,000 characters
METRIC_LIMIT_BYTES = 1 << 30

_UNREADABLE = frozenset(
    {Code.DIRECTORY_UNREADABLE, Code.FILE_UNREADABLE, Code.FILE_VANISHED, Code.META_UNREADABLE}
)


class ReadLog:
    """What was read of one entity's directory: counts, and an issue for whatever was wrong.

    ``bound`` is the directory that links may not leave (the store). Every regular file ends in
    exactly one of ``files_read``, ``files_referred`` (artifacts) and ``files_ignored``.
    """

    __slots__ = (
        "bound",
        "entity_id",
        "files_found",
        "files_ignored",
        "files_read",
        "files_referred",
        "folders_found",
        "folders_listed",
        "found",
        "issues",
        "kind",
        "merged",
        "size_bytes",
    )

    def __init__(self, kind: Kind, entity_id: str, bound: str) -> None:
        self.kind = kind
        self.entity_id = entity_id
        self.bound = bound
        self.found: defaultdict[Kind, int] = defaultdict(int)
        self.found[kind] = 1
        self.merged: defaultdict[Kind, int] = defaultdict(int)
        self.issues: list[Issue] = []
        self.files_found = 0
        self.files_read = 0
        self.files_referred = 0
        self.files_ignored = 0
        self.size_bytes = 0
        self.folders_found = 1  # the entity's own; more by listing, so that none can be forgotten
        self.folders_listed = 0

    def add(
        self,
        code: Code,
        path: str,
        message: str,
        *,
        kept: str = "",
        kind: Kind | None = None,
        count: int = 1,
        sample: str = "",
    ) -> None:
        """Name something that is wrong. A REJECTED issue of a ``kind`` must have been found.

        Messages hold no values of the source, which may be secret; those go into ``sample``.
        """
        self.issues.append(Issue(code, path, message, kept, kind, self.entity_id, count, sample))

    # -- directories

    def list(self, path: str, kind: Kind | None = None) -> Listing:
        """List a directory; one that can't be listed stands for one item of ``kind`` lost."""
        listing = scan(path, self.bound)
        self.count(listing)
        if listing.error is not None:
            if kind is not None:
                self.found[kind] += 1
            self.add(
                Code.DIRECTORY_UNREADABLE,
                path,
                f"The directory can't be listed: {reason(listing.error)}.",
                kind=kind,
            )
        return listing

    def with_stand_ins(
        self, listing: Listing, path: str, file: str, folders: frozenset[str]
    ) -> Listing:
        """Give what stands in for a missing file or folder the missing name; an issue names it.

        ``file`` may be replaced by what ``stand_in`` finds, ``folders`` by their names in other
        letters.
        """
        others = [name for name, _ in listing.dirs if name not in folders]
        if not others and listing.file(file) is not None:
            return listing  # nearly every one
        renamed: dict[str, str] = {}
        found = stand_in(file, listing.file_names())
        if found is not None and found != file and listing.directory(file) is None:
            renamed[found] = file
        for name in others:
            plain = name.lower()
            is_taken = listing.directory(plain) is not None or plain in renamed.values()
            if plain in folders and not is_taken:
                renamed[name] = plain
        for name, wanted in renamed.items():
            self.add(
                Code.STAND_IN_READ,
                os.path.join(path, name),
                f"There is no {wanted}, but {readable_path(name)}.",
                kept="as if it were that",
            )
        return listing._replace(
            files=[(renamed.get(name, name), child) for name, child in listing.files],
            dirs=[(renamed.get(name, name), child) for name, child in listing.dirs],
        )

    def count(self, listing: Listing) -> None:
        """Count the files and directories in a listing of one of the entity's directories."""
        self.files_found += len(listing.files)
        self.folders_found += len(listing.dirs)
        self.folders_listed += 1

    def reject_special(self, listing: Listing, kind: Kind) -> None:
        """Reject links and special files that stand where a ``kind`` should be."""
        for entry in listing.special:
            self.found[kind] += 1
            code = entry.link_code if entry.is_link else Code.SPECIAL_FILE
            self.add(code, entry.path, f"It is {entry.what}; it was not opened.", kind=kind)

    def ignore_special(self, listing: Listing, own: Set[str] = frozenset()) -> None:
        """Name links and special files that are not read; ``own`` are names of MLflow's folders."""
        for entry in listing.special:
            if entry.name not in own:
                self.issues.append(special_entry_issue(entry, self.entity_id))
            elif entry.is_link:
                message = f"It is {entry.what}; it was not opened."
                self.add(entry.link_code, entry.path, message)
            else:
                message = f"{entry.name} should be a directory, but is {entry.what}."
                self.add(Code.FOLDER_IS_A_FILE, entry.path, message)

    def ignore_files(self, folder: str, names: Sequence[str]) -> None:
        """Count files of a folder that are not MLflow's; one issue names them."""
        if names:
            self.files_ignored += len(names)
            self.size_bytes += sum(size_at(os.path.join(folder, name)) for name in names)
            self.issues.append(ignored_files(folder, names, self.entity_id))

    def ignore_tree(self, path: str) -> None:
        """Count all files below a directory that is not MLflow's; one issue names it."""
        tree = measure(path, self.bound, through_links=True)
        self.folders_listed += 1
        self.files_found += tree.files
        self.files_ignored += tree.files
        self.size_bytes += tree.size_bytes
        if os.path.islink(path):
            entry = link_read_elsewhere(path)
            self.issues.append(special_entry_issue(entry, self.entity_id, tree.files))
        else:
            self.issues += ignored_tree(path, tree, self.entity_id)

    def own_folders(
        self, path: str, listing: Listing, names: Set[str], file: str
    ) -> dict[str, str]:
        """The paths of the entity's own folders by name; everything else is counted and named.

        ``names`` are those of MLflow's folders, and ``file`` is the name of MLflow's file.
        """
        for name, child in listing.files:
            if name in names:
                self.add(Code.FOLDER_IS_A_FILE, child, f"{name} should be a directory.")
        self.ignore_files(path, [name for name, _ in listing.files if name != file])
        self.ignore_special(listing, names)
        folders = {}
        for name, child in listing.dirs:
            if name in names:
                folders[name] = child
            else:
                self.ignore_tree(child)
        return folders

    def keys(self, folder: str, kind: Kind, *, counted: bool = True) -> Iterator[tuple[str, str]]:
        """Yield (key, path) of each file below ``folder``, which holds values of a ``kind``.

        A key is the path below the folder with ``/`` between its parts. Each file is counted as
        one ``kind`` found, unless ``counted`` is false because a file holds several.
        """
        todo = [(folder, "")]
        while todo:
            path, prefix = todo.pop()
            listing = self.list(path, kind)
            self.reject_special(listing, kind)
            ignored: list[str] = []
            copies = 0
            for name, file in listing.files:
                if is_plain(name):
                    yield prefix + name, file
                elif is_junk(name):
                    ignored.append(name)
                elif (original := copied_from(name, listing.file_names())) is not None:
                    self.files_ignored += 1
                    self.size_bytes += size_at(file)
                    copies += 1
                    self.add(
                        Code.CONFLICT_COPY,
                        file,
                        f"It is a copy of {readable_path(original)} that a sync tool or file "
                        "manager made.",
                        kept="the original",
                    )
                else:
                    yield prefix + name, file
            if counted:
                self.found[kind] += len(listing.files) - len(ignored) - copies
            self.ignore_files(path, ignored)
            for name, child in reversed(listing.dirs):
                if is_junk_folder(name):
                    self.ignore_tree(child)
                else:
                    todo.append((child, f"{prefix}{name}/"))

    def contents(
        self, folder: str, kind: Kind, *, counted: bool = True
    ) -> Iterator[tuple[str, str, bytes | None]]:
        """Yield (key, path, content) as ``keys`` does; a content of None was not read yet."""
        return self._contents(folder, small_files(folder), kind, counted=counted)

    def _contents(
        self,
        folder: str,
        files: Sequence[tuple[str, bytes | None]] | None,
        kind: Kind,
        *,
        counted: bool,
    ) -> Iterator[tuple[str, str, bytes | None]]:
        if files is None:
            for key, path in self.keys(folder, kind, counted=counted):
                yield key, path, None
            return
        self._count_small(files, kind if counted else None)
        for name, data in files:
            yield name, f"{folder}{os.sep}{name}", data

    def _count_small(self, files: Sequence[tuple[str, bytes | None]], kind: Kind | None) -> None:
        """Count the files that ``small_files`` found, each as one ``kind``."""
        self.folders_listed += 1
        self.files_found += len(files)
        if kind is not None:
            self.found[kind] += len(files)
        contents = [data for _, data in files if data is not None]
        self.files_read += len(contents)
        self.size_bytes += sum(map(len, contents))

    def values(self, folder: str | None, kind: Kind) -> dict[str, str]:
        """Read the text of each key below ``folder`` (params and tags), byte for byte."""
        if folder is None:
            return {}
        files = small_files(folder)
        if files is not None:
            try:
                texts = {name: data.decode() for name, data in files if data is not None}
            except UnicodeDecodeError:
                texts = {}  # one of them must be repaired
            is_whole = len(texts) == len(files)  # else one of them must be read by itself
            if is_whole and all(map(str.isascii, texts)):  # nearly all
                self._count_small(files, kind)
                return texts
        texts = {}
        for key, path, content in self._contents(folder, files, kind, counted=True):
            data = self.read(path, VALUE_LIMIT_BYTES, kind) if content is None else content
            if data is None:
                continue
            try:
                text = data.decode()
            except UnicodeDecodeError:
                text = self.repaired_text(data, path, kind)
            name = key if key.isascii() else self.name(key, path, kind)
            if name in texts:
                self.add(
                    Code.NAME_TWICE,
                    path,
                    f"Another file has the key {name!r} once its name is made readable.",
                    kind=kind,
                )
            else:
                texts[name] = text
        return dict(sorted(texts.items()))

    def name(self, name: str, path: str, kind: Kind) -> str:
        """A key as text; bytes that are not UTF-8 are shown as ``\\xff``, and named."""
        readable = readable_path(name)
        if readable != name and not is_utf8(name):
            self.add(
                Code.NAME_UNDECODABLE,
                path,
                f"The name is not UTF-8: {os.fsencode(name)!r}.",
                kept=f"as {readable!r}",
                kind=kind,
            )
        return readable

    # -- files

    def read(
        self,
        path: str,
        limit_bytes: int,
        kind: Kind | None,
        *,
        instead: Code | None = None,
        kept: str = "",
    ) -> bytes | None:
        """Read a file; None where it can't be read.

        An issue then rejects one ``kind``. With ``instead`` the issue has that code.
        """
        self.files_read += 1
        try:
            data = read_bytes(path, limit_bytes)
            self.size_bytes += len(data)
            return data
        except FileNotFoundError:
            code, why = Code.FILE_VANISHED, "It vanished while the store was being read."
        except FileTooLarge as error:
            code, why = Code.FILE_TOO_LARGE, f"It is too large: {error}."
        except OSError as error:
            code, why = Code.FILE_UNREADABLE, f"It can't be read: {reason(error)}."
        self.size_bytes += size_at(path)
        self.add(instead or code, path, why, kept=kept, kind=kind)
        return None

    def repaired_text(self, data: bytes, path: str, kind: Kind | None) -> str:
        """Decode bytes that are not UTF-8 with replacement characters, and name them."""
        raw = repr(data[:200]) + ("…" if len(data) > 200 else "")
        self.add(
            Code.TEXT_UNDECODABLE,
            path,
            f"The content ({len(data):,} bytes) is not UTF-8.",
            kept="with U+FFFD in place of each undecodable byte",
            kind=kind,
            sample=raw,
        )
        return data.decode("utf-8", "replace")

    # -- the end

    def reject_empty(self, code: Code, path: str, message: str) -> None:
        """Reject the entity: it holds nothing (``code``), or nothing of it could be read."""
        if any(issue.code in _UNREADABLE for issue in self.issues):
            code, message = Code.NOTHING_READABLE, "Nothing in the directory could be read."
        self.add(code, path, message, kind=self.kind)

    def close(self, record: T | None) -> Extracted[T]:
        """Make the result. Without a record, everything that was found is rejected."""
        if record is None:
            rejected = self._rejected()
            for kind in sorted(self.found, key=lambda k: k.value):
                missing = self.found[kind] - rejected[kind]
                if missing > 0:
                    self.add(
                        Code.LOST_WITH_OWNER,
                        "",
                        f"It belongs to the {self.kind.value} {self.entity_id!r}, "
                        "of which nothing could be kept.",
                        kind=kind,
                        count=missing,
                    )
            self.merged.clear()
        return Extracted(
            record=record,
            found={kind: n for kind, n in self.found.items() if n},
            merged={kind: n for kind, n in self.merged.items() if n},
            issues=tuple(self.issues),
            files_read=self.files_read,
            files_referred=self.files_referred,
            files_ignored=self.files_ignored,
            files_found=self.files_found,
            folders_missed=self.folders_found - self.folders_listed,
            size_bytes=self.size_bytes,
        )

    def _rejected(self) -> defaultdict[Kind, int]:
        rejected: defaultdict[Kind, int] = defaultdict(int)
        for issue in self.issues:
            if issue.kind is not None and issue.code.severity is Severity.REJECTED:
                rejected[issue.kind] += issue.count
        return rejected


# ---------------------------------------------------------- issues about ignored things


def ignored_files(folder: str, names: Sequence[str], entity_id: str = "") -> Issue:
    """An issue that names the files of a folder that are not MLflow's."""
    listed = ", ".join(readable_path(name) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    path = os.path.join(folder, names[0]) if len(names) == 1 else folder
    verb = "is not a file" if len(names) == 1 else "are not files"
    message = f"{listed}{more} {verb} of MLflow's layout."
    return Issue(Code.FILE_IGNORED, path, message, "", None, entity_id, len(names))


def ignored_tree(path: str, tree: TreeContents, entity_id: str = "") -> list[Issue]:
    """Issues that name a directory that is not MLflow's, and what in it could not be read."""
    some = f": {', '.join(readable_path(name) for name in tree.names)}" if tree.names else ""
    more = ", …" if tree.files > len(tree.names) else ""
    files = counted(tree.files, "file")
    message = f"The directory is not of MLflow's layout; it holds {files}{some}{more}."
    code = Code.DIRECTORY_IGNORED
    if tree.meta_files:
        code = Code.RUNS_IGNORED
        verb = "of them is" if tree.meta_files == 1 else "of them are"
        message += f" {tree.meta_files:,} {verb} named meta.yaml, as those of runs are."
    issues = [Issue(code, path, message, "", None, entity_id, max(tree.files, 1))]
    issues += [special_entry_issue(entry, entity_id) for entry in tree.special]
    issues += [unreadable(folder, error, entity_id) for folder, error in tree.errors]
    return issues


def special_entry_issue(entry: SpecialEntry, entity_id: str = "", files: int = 0) -> Issue:
    """An issue for a link or special file that is not followed or opened.

    ``files`` is the number of files that are counted as ignored because of it.
    """
    if entry.is_read_elsewhere:
        code, kept = Code.LINK_INSIDE_STORE, "its target is read where it really lies"
    elif entry.is_link:
        code, kept = entry.link_code, ""
    else:
        code, kept = Code.SPECIAL_FILE_IGNORED, ""
    message = f"It is {entry.what}; it was not opened."
    return Issue(code, entry.path, message, kept, None, entity_id, max(files, 1))


def unreadable(folder: str, error: OSError, entity_id: str = "") -> Issue:
    """An issue for a directory that can't be listed."""
    message = f"The directory can't be listed: {reason(error)}."
    return Issue(Code.DIRECTORY_UNREADABLE, folder, message, "", None, entity_id)
