"""What an MLflow server holds and its REST API does not give (tried: 2.9.2 to 3.17.2)."""

from __future__ import annotations

from typing import NamedTuple

_ALL = ((0, 0), (99, 0))


class Withheld(NamedTuple):
    """One thing, as a sentence, and the releases of servers: from the first, before the second."""

    sentence: str
    releases: tuple[tuple[int, int], tuple[int, int]] = _ALL


_WITHHELD = (
    Withheld("Deleted runs stay deleted, but the server does not say when they were deleted."),
    Withheld("Deleted versions of registered models are not shown."),
    Withheld("Deleted logged models are not shown.", ((3, 0), (99, 0))),
    Withheld("Datasets that no run uses are not shown; the ids of the others are derived."),
    Withheld(
        "Source, version and entry point of a run come from its tags only, and an empty text can't "
        "be told from none."
    ),
    Withheld(
        "Spans in the database of a server before 3.9 are not given; their traces are named.",
        ((3, 2), (3, 9)),
    ),
    Withheld("Links of traces and the gateway's tables are not read.", ((3, 0), (99, 0))),
    Withheld(
        "Scorers of deleted experiments, deleted webhooks, and secrets of webhooks are not shown.",
        ((3, 3), (99, 0)),
    ),
    Withheld("Whole numbers in assessments come as 17.0.", ((3, 2), (99, 0))),
    Withheld(
        "Only one workspace is read: the default one, or that in MLFLOW_WORKSPACE.",
        ((3, 10), (99, 0)),
    ),
)


def withheld(release: tuple[int, int]) -> tuple[str, ...]:
    """What a server of this release withholds; (0, 0), which is unknown, withholds everything."""
    found = []
    for each in _WITHHELD:
        first, end = each.releases
        if release == (0, 0) or first <= release < end:
            found.append(each.sentence)
    return tuple(found)
