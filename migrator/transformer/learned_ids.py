"""Tells sessions and users among the ids that come again in several trees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from migrator.transformer.logged_keys import HINTS, LoggedKey
from migrator.transformer.model_names import ModelKind, kind_of_model, kind_of_model_key

ID = re.compile(r"(?=.*\d)[\w.:@-]{4,80}")
SHORT_ID = re.compile(r"[^\W\d_][\w.:@-]{0,2}\d|[^\W\d_][.:@-]?\d{1,2}")
NOT_A_SESSION = re.compile(  # dates and times, versions, commits, checksums
    r"\d{4}-?\d\d-?\d\d(\D.*)?|\d{1,2}[.:]\d\d.*|[vV]?\d+(\.\d+)+\S*|[vV]\d+|[0-9a-f]{40}|[0-9a-f]{64}"
)
EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}\.[\w.]{2,20}")


@dataclass(frozen=True, slots=True)
class Trees:
    """The tree of each run, and when the trees began."""

    of_run: Mapping[str, str]
    start_ms: Mapping[str, float]  # by the id of the root; without those that have no start

    def values_of(self, key: LoggedKey) -> dict[str, str]:
        """One value of a key for each tree that has it, in the order in which the trees began."""
        found: dict[str, str] = {}
        for run_id, value in key.values.items():
            found.setdefault(self.of_run[run_id], str(value))
        in_order = sorted(found, key=lambda tree: (self.start_ms.get(tree, 0), tree))
        return {tree: found[tree] for tree in in_order}


def session_among(keys: Iterable[LoggedKey], trees: Trees) -> LoggedKey | None:
    """The key that most likely holds the session of a tree.

    A name that says so comes first, then ids that change once and for all: a session is over
    before the next one begins, while users come and go.
    """
    ranked: list[tuple[bool, bool, int, str, LoggedKey]] = []
    for key in keys:
        is_hinted = HINTS["session"].search(key.name) is not None
        is_consecutive = _is_consecutive(key, trees)
        may_be_short = is_hinted or is_consecutive
        if _are_ids(key.texts(), may_be_short=may_be_short) and _comes_again(key, trees):
            rank = (not is_hinted, not is_consecutive, -len(key.values), key.source, key)
            ranked += [] if _names_models(key) else [rank]
    return min(ranked, key=lambda each: each[:4])[-1] if ranked else None


def user_among(keys: Iterable[LoggedKey], trees: Trees) -> LoggedKey | None:
    """The key that most likely holds the user of a tree: mail addresses, or ids by their name."""
    ranked: list[tuple[bool, int, str, LoggedKey]] = []
    for key in keys:
        texts = key.texts()
        if texts and all(EMAIL.fullmatch(text) for text in texts):
            ranked.append((False, 0, key.source, key))
        elif (
            HINTS["user"].search(key.name)
            and not _names_models(key)
            and _are_ids(texts, may_be_short=True)
            and _comes_again(key, trees)
        ):
            ranked.append((True, -len(texts), key.source, key))
    return min(ranked, key=lambda each: each[:3])[-1] if ranked else None


def _names_models(key: LoggedKey) -> bool:
    kinds = {kind_of_model(text) for text in key.texts()}
    return kind_of_model_key(key.name) is not None or bool(kinds - {ModelKind.UNKNOWN})


def _are_ids(texts: Sequence[str], *, may_be_short: bool) -> bool:
    for text in texts:
        is_id = ID.fullmatch(text) or (may_be_short and SHORT_ID.fullmatch(text))
        if not is_id or NOT_A_SESSION.fullmatch(text):
            return False
    return bool(texts)


def _comes_again(key: LoggedKey, trees: Trees) -> bool:
    """Whether values stand in several trees, and different ones in different trees."""
    values = list(trees.values_of(key).values())
    return 1 < len(set(values)) < len(values)


def _is_consecutive(key: LoggedKey, trees: Trees) -> bool:
    """Whether the trees of each value follow one another, by when they began."""
    values = list(trees.values_of(key).values())
    changes = sum(before != after for before, after in pairwise(values))
    return changes == len(set(values)) - 1
