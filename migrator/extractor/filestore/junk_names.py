"""Names of files that are not MLflow's: editors', sync tools' and file managers'.

A name alone decides: nothing here touches the disk.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

_JUNK_NAMES = frozenset(
    {".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", "Icon\r"}
    | {".gitkeep", ".keep", ".gitignore", ".gitattributes", ".dockerignore", ".dvcignore"}
    | {".directory", ".localized", ".nomedia", ".dropbox", ".dropbox.attr"}
)
# None of ~ # ( ) is legal in an MLflow key; names that begin with a dot are, so these are exact.
_JUNK_PATTERN = re.compile(
    r".*~|#.*#|\.#.*|\..*\.sw[a-p]|\.nfs[0-9a-f]{16,}|\.fuse_hidden[0-9a-f]{8,}|~\$.*|~.*\.tmp"
    r"|\.~lock\..*#|\.syncthing\..*\.tmp|\.goutputstream-\w{6}"
)
_JUNK_FOLDERS = frozenset(
    {".git", ".svn", ".hg", ".dvc", ".idea", ".vscode", ".ipynb_checkpoints", "__pycache__"}
    | {"__MACOSX", "@eaDir", "#recycle", ".stfolder", ".stversions", ".dropbox.cache"}
    | {"$RECYCLE.BIN", "System Volume Information", "lost+found", ".Trashes", ".fseventsd"}
)
# Names of copies that sync tools and file managers make beside the original.
_COPY_PATTERNS = (
    re.compile(r"(?P<base>.+?)(?: ?\(\d{1,3}\))(?P<ext>\.\w+)?"),
    re.compile(
        r"(?P<base>.+?) ?\([^()]*(?:conflict|Konflikt|conflit)[^()]*\)(?P<ext>\.\w+)?", re.I
    ),
    re.compile(r"(?P<base>.+?)\.sync-conflict-\d{8}-\d{6}(?:-\w+)?(?P<ext>\.\w+)?"),
    re.compile(r"(?P<base>.+?)_conflict-\d{8}-\d{6}(?P<ext>\.\w+)?"),
    re.compile(r"(?P<base>.+?) - Copy(?: \(\d{1,3}\))?(?P<ext>\.\w+)?"),
)


def is_junk(name: str) -> bool:
    """Whether a file's name is an editor's, a sync tool's or a file manager's."""
    if name in _JUNK_NAMES:
        return True
    if name[0] not in ".~#" and name[-1] != "~":
        return False  # nearly every name: the pattern costs more
    return _JUNK_PATTERN.fullmatch(name) is not None


def is_junk_folder(name: str) -> bool:
    """Whether a directory's name is a version control's, an editor's or a sync tool's."""
    return name in _JUNK_FOLDERS


def copied_from(name: str, names: frozenset[str]) -> str | None:
    """The name in ``names`` that ``name`` is a conflict copy of, None if it is not a copy.

    A copy without its original counts as the original.
    """
    for pattern in _COPY_PATTERNS:
        match = pattern.fullmatch(name)
        if match:
            original = match["base"] + (match["ext"] or "")
            if original in names:
                return original
    if name.startswith("._") and name[2:] in names:  # AppleDouble: a Mac's resource fork
        return name[2:]
    return None


_BACKUP_ENDINGS = (".bak", ".orig", ".old", ".save", ".tmp", ".txt", "~")


def stand_in(name: str, names: frozenset[str]) -> str | None:
    """The one of ``names`` that is ``name``, or the best replacement for it; None without one.

    Best first: the name in other upper and lower case, another ending, a conflict copy, a backup.
    """
    if name in names:
        return name
    plain, stem = name.lower(), name.rpartition(".")[0]
    near = sorted(each for each in names if each.lower().startswith((plain, stem.lower())))
    tests: tuple[Callable[[str], bool], ...] = (
        lambda each: each.lower() == plain,
        lambda each: each.lower() == f"{stem}.yml",
        lambda each: copied_from(each, frozenset({name})) is not None,
        lambda each: each.lower() in {plain + ending for ending in _BACKUP_ENDINGS},
    )
    for test in tests:
        for each in near:
            if test(each):
                return each
    return None


@functools.lru_cache(1 << 12)  # keys are the same in thousands of runs
def is_plain(name: str) -> bool:
    """True for the common case: a name that is neither junk nor a conflict copy."""
    return not (
        is_junk(name)
        or "(" in name
        or "onflict" in name
        or " - Copy" in name
        or name.startswith("._")
    )


@functools.lru_cache(1 << 10)  # so are the names that occur together
def plain_names(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The names if all of them are plain, else None.

    Equal names give the same strings: those of one run take less memory than their values, but all
    runs of a tracker have them.
    """
    return names if all(map(is_plain, names)) else None
