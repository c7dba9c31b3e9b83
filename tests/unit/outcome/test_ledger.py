"""The ledger closes when every count is accounted for, and says so when one is not."""

from __future__ import annotations

from collections import Counter

from migrator.issues import Code, Issue, Kind, Severity
from migrator.model import Extracted, SourceIndex
from migrator.outcome.ledger import Ledger


def extracted(found: int, merged: int, issues: tuple[Issue, ...] = ()) -> Extracted[None]:
    return Extracted(
        None, Counter({Kind.PARAM: found}), Counter({Kind.PARAM: merged}), issues, files_read=found
    )


def rejection(count: int) -> Issue:
    code = next(code for code in Code if code.severity is Severity.REJECTED)
    return Issue(code, "/store/x", "broken", kind=Kind.PARAM, count=count)


def index(files: int) -> SourceIndex:
    return SourceIndex("/store", (), (), (), (), (), (), files, 0, 0, ())


def test_it_closes_when_found_is_converted_there_merged_rejected_or_left_out() -> None:
    ledger = Ledger()
    ledger.add_index(index(10))
    ledger.add_extracted(extracted(10, 2, (rejection(3),)))
    ledger.left_out[Kind.PARAM] = 1
    ledger.add_outcome({Kind.PARAM: 3}, {Kind.PARAM: 1})
    assert ledger.gaps() == []
    assert ledger.has_rejects


def test_one_lost_entity_is_a_gap() -> None:
    ledger = Ledger()
    ledger.add_index(index(10))
    ledger.add_extracted(extracted(10, 0))
    ledger.add_outcome({Kind.PARAM: 9}, {})
    assert ledger.gaps() == ["param: found 10, accounted for 9"]


def test_one_file_that_nobody_read_is_a_gap() -> None:
    ledger = Ledger()
    ledger.add_index(index(11))
    ledger.add_extracted(extracted(10, 0))
    ledger.add_outcome({Kind.PARAM: 10}, {})
    assert ledger.gaps() == ["files: found 11, accounted for 10"]


def test_a_note_rejects_nothing() -> None:
    ledger = Ledger()
    ledger.add_issues([Issue(Code.FILE_IGNORED, "/store/README", "a README")])
    assert not ledger.has_rejects
