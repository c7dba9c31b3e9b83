"""Reading experiments, runs, metrics and datasets: every shape, and every damage to them."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.extractor.filestore import FileStoreSource, runs, yamlfile
from migrator.extractor.filestore.index import index_store
from migrator.issues import Code, Kind
from migrator.model import (
    ExperimentRecord,
    Extracted,
    InputRecord,
    MetricPoint,
    OutputRecord,
    RunRecord,
)
from tests.support.ledgerkit import assert_census, assert_closed, read_all
from tests.support.storekit import (
    START_MS,
    Layout,
    write_dataset,
    write_experiment,
    write_logged_model,
    write_run,
    write_values,
    write_yaml,
)

RUN = "a1" * 16


def results(root: Path, **options: Any) -> list[Extracted[Any]]:
    """Read a whole store and assert that both sums close."""
    index = index_store(str(root))
    read = list(read_all(index, **options))
    for result in read:
        assert_closed(result)
    assert_census(index, read)
    return read


def read_run(root: Path, run_id: str = RUN, **options: Any) -> Extracted[RunRecord]:
    """Read one run of a store, all of which must close."""
    results(root, **options)
    (entry,) = [r for r in index_store(str(root)).runs if r.entity_id == run_id]
    roots = options.get("artifact_roots", ())
    source = FileStoreSource(str(root), roots)
    return source.read_run(entry, options.get("wanted", lambda path: True))


def record(root: Path, run_id: str = RUN, **options: Any) -> RunRecord:
    found = read_run(root, run_id, **options).record
    assert found is not None
    return found


def codes(result: Extracted[Any]) -> list[Code]:
    return [issue.code for issue in result.issues]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_experiment(tmp_path, "1", "one")
    return tmp_path


def experiment(root: Path) -> Extracted[ExperimentRecord]:
    (entry,) = index_store(str(root)).experiments
    result = FileStoreSource(str(root)).read_experiment(entry)
    assert_closed(result)
    return result


# --------------------------------------------------------------------------- whole runs


@pytest.mark.parametrize("layout", ["1.26", "2.9", "3"])
def test_a_run_of_every_layout_is_read_whole(root: Path, layout: Layout) -> None:
    write_run(
        root,
        "1",
        RUN,
        name="question 1",
        layout=layout,
        parent="b" * 32,
        params={"lr": "0.1", "a/b/c": "slash", "ünï/キー": "値", ".hid": "dot", "empty": ""},
        tags={"team": "x"},
        metrics={"loss": [(START_MS, 0.5, 0), (START_MS + 1, 0.25, 1)]},
        artifacts={"prompt.txt": "hi", "dir/out.json": "{}"},
        status=4,
    )
    result = read_run(root, wanted=lambda path: path.endswith(".txt"))
    run = result.record
    assert run is not None and result.issues == ()
    assert run.name == "question 1" and run.status == "FAILED" and run.source_type == "LOCAL"
    assert (run.start_ms, run.end_ms) == (START_MS, START_MS + 1000)
    assert run.params == {
        "lr": "0.1",
        "a/b/c": "slash",
        "ünï/キー": "値",
        ".hid": "dot",
        "empty": "",
    }
    assert run.metrics == {
        "loss": (MetricPoint(START_MS, 0.5, 0), MetricPoint(START_MS + 1, 0.25, 1))
    }
    assert run.parent_run_id == "b" * 32 and run.tags["team"] == "x"
    assert [(a.path, a.size_bytes) for a in run.artifacts] == [
        ("dir/out.json", 2),
        ("prompt.txt", 2),
    ]
    assert run.texts == {"prompt.txt": "hi"}
    assert run.artifact_dir == str(root / "1" / RUN / "artifacts")
    assert not run.deleted and not run.deleted_with_experiment
    assert result.found[Kind.METRIC_POINT] == 2 and result.found[Kind.PARAM] == 5


def test_values_are_kept_byte_for_byte(root: Path) -> None:
    values = {
        "crlf": "a\r\nb\rc",
        "end": "5000\r\n",
        "padded": "  x  ",
        "nel": "a\x85b\u2028c",
        "nul": "a\x00b",
        "bom": "\ufeffx",
    }
    write_run(root, "1", RUN, params=values, tags=values)
    run = record(root)
    assert run.params == values
    assert {key: run.tags[key] for key in values} == values


def test_undecodable_bytes_are_replaced_and_named(root: Path) -> None:
    write_run(root, "1", RUN, params={"city": "Köln".encode("latin-1"), "ok": "1"})
    result = read_run(root)
    assert result.record is not None
    assert result.record.params == {"city": "K\ufffdln", "ok": "1"}
    (issue,) = result.issues
    assert issue.code is Code.TEXT_UNDECODABLE and r"b'K\xf6ln'" in issue.sample
    assert "ln" not in issue.message  # a value may be secret


def test_an_undecodable_name_is_shown_and_named(root: Path) -> None:
    path = write_run(root, "1", RUN)
    (path / "params" / os.fsdecode(b"k\xff")).write_text("v")
    result = read_run(root)
    assert result.record is not None and result.record.params == {"k\\xff": "v"}
    assert codes(result) == [Code.NAME_UNDECODABLE]


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "lr~",
        ".lr.swp",
        ".gitkeep",
        ".#lr",
        "#lr#",
        ".nfs000000000012345600000001",
    ],
)
def test_editor_and_sync_files_are_no_keys(root: Path, name: str) -> None:
    path = write_run(root, "1", RUN, params={"lr": "1"})
    for folder in ("params", "tags", "metrics"):
        (path / folder / name).write_bytes(b"\x00\xff")
    result = read_run(root)
    assert result.record is not None and result.record.params == {"lr": "1"}
    assert codes(result) == [Code.FILE_IGNORED] * 3 and result.files_ignored == 3


@pytest.mark.parametrize(
    "copy",
    [
        "lr (1)",
        "lr (ana's conflicted copy 2023-05-01)",
        "lr.sync-conflict-20230501-101010-ABCDEFG",
        "lr_conflict-20230501-101010",
        "lr - Copy",
        "._lr",
    ],
)
def test_a_conflict_copy_is_ignored_only_beside_its_original(root: Path, copy: str) -> None:
    write_run(root, "1", RUN, params={"lr": "1", copy: "2"})
    result = read_run(root)
    assert result.record is not None and result.record.params == {"lr": "1"}
    assert codes(result) == [Code.CONFLICT_COPY]
    (root / "1" / RUN / "params" / "lr").unlink()
    result = read_run(root)
    assert result.record is not None and result.record.params == {copy: "2"}
    assert result.issues == ()


def test_legal_keys_that_look_odd_are_keys(root: Path) -> None:
    keys = [".hid", "a.b", "x - y", "trailing ", "lr.bak", "copy", "conflict", "p:q", "_"]
    write_run(root, "1", RUN, params=dict.fromkeys(keys, "v"))
    result = read_run(root)
    assert result.record is not None and set(result.record.params) == set(keys)
    assert result.issues == ()


# -------------------------------------------------------------------------- old shapes


def test_status_and_source_type_may_be_names_and_ids_only_run_uuid(root: Path) -> None:
    path = write_run(root, "1", RUN, status="FAILED", source_type="NOTEBOOK")
    meta = yaml.safe_load((path / "meta.yaml").read_text())
    del meta["run_id"]
    write_yaml(path / "meta.yaml", meta)
    result = read_run(root)
    assert result.record is not None and result.issues == ()
    assert (result.record.status, result.record.source_type) == ("FAILED", "NOTEBOOK")


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "RUNNING"),
        (2, "SCHEDULED"),
        (3, "FINISHED"),
        (4, "FAILED"),
        (5, "KILLED"),
        ("3", "FINISHED"),
    ],
)
def test_each_status_number_has_its_name(root: Path, number: int | str, name: str) -> None:
    write_run(root, "1", RUN, status=number)
    assert record(root).status == name


@pytest.mark.parametrize(("end_ms", "status"), [(None, "RUNNING"), (START_MS, "FINISHED")])
def test_an_unknown_status_is_named(root: Path, end_ms: int | None, status: str) -> None:
    write_run(root, "1", RUN, status=9, end_ms=end_ms)
    result = read_run(root)
    assert result.record is not None and result.record.status == status
    assert codes(result) == [Code.STATUS_UNKNOWN]


def test_times_as_text_floats_and_dates_are_converted(root: Path) -> None:
    write_run(root, "1", RUN, start_time=str(START_MS), end_time=START_MS + 0.5)
    result = read_run(root)
    assert result.record is not None
    assert (result.record.start_ms, result.record.end_ms) == (START_MS, START_MS)
    assert codes(result) == [Code.META_VALUE_CONVERTED] * 2
    write_run(root, "1", RUN, start_time="2023-11-14T22:13:20Z", end_time=[1])
    result = read_run(root)
    assert result.record is not None
    assert (result.record.start_ms, result.record.end_ms) == (START_MS, None)
    assert codes(result) == [Code.META_VALUE_CONVERTED, Code.META_VALUE_UNUSABLE]


@pytest.mark.parametrize("start_ms", [0, -5, 1_700_000_000, 1_700_000_000_000_000])
def test_times_in_other_units_are_kept_and_named(root: Path, start_ms: int) -> None:
    write_run(root, "1", RUN, start_ms=start_ms, end_ms=None, status=1)
    result = read_run(root)
    assert result.record is not None and result.record.start_ms == start_ms
    assert codes(result) == [Code.TIME_NOT_MS]


def test_a_time_beyond_64_bits_is_left_out(root: Path) -> None:
    write_run(root, "1", RUN, start_time=10**30)
    result = read_run(root)
    assert result.record is not None and result.record.start_ms == START_MS + 1000  # its end
    assert codes(result) == [Code.META_VALUE_UNUSABLE, Code.RUN_START_UNKNOWN]


def test_an_end_before_its_start_is_kept_and_named(root: Path) -> None:
    write_run(root, "1", RUN, start_ms=START_MS, end_ms=START_MS - 1)
    assert codes(read_run(root)) == [Code.RUN_ENDS_BEFORE_START]


def test_ids_that_disagree_with_the_directory_are_named(root: Path) -> None:
    path = write_run(root, "1", RUN, experiment_id="99")
    text = (path / "meta.yaml").read_text()
    (path / "meta.yaml").write_text(text.replace(f"run_id: {RUN}", f"run_id: {'f' * 32}"))
    result = read_run(root)
    assert result.record is not None
    assert (result.record.run_id, result.record.experiment_id) == (RUN, "1")
    assert codes(result) == [Code.ID_MISMATCH] * 2


def test_an_experiment_id_may_be_a_bare_number(root: Path) -> None:
    write_run(root, "1", RUN, experiment_id=1)
    assert read_run(root).issues == ()


# ---------------------------------------------------------------------------- deletion


def test_a_run_deleted_in_place_keeps_its_time(root: Path) -> None:
    write_run(root, "1", RUN, deleted=True, deleted_ms=START_MS + 7)
    run = record(root)
    assert run.deleted and run.deleted_ms == START_MS + 7 and not run.deleted_with_experiment


def test_in_trash_everything_is_deleted_whatever_it_says(tmp_path: Path) -> None:
    """Up to MLflow 2.2 experiment and runs in .trash still say active."""
    write_experiment(tmp_path, "5", "gone", deleted=False, in_trash=True)
    write_run(tmp_path, "5", RUN)
    assert experiment(tmp_path).record is not None
    assert getattr(experiment(tmp_path).record, "deleted", False)
    run = record(tmp_path)
    assert run.deleted and run.deleted_with_experiment


def test_a_run_deleted_with_its_experiment_is_told_from_one_deleted_before(tmp_path: Path) -> None:
    write_experiment(tmp_path, "5", "gone", deleted=True, last_update_ms=START_MS + 9)
    write_run(tmp_path, "5", RUN, deleted=True, deleted_ms=START_MS + 9)
    write_run(tmp_path, "5", "b" * 32, deleted=True, deleted_ms=START_MS + 3)
    assert record(tmp_path).deleted_with_experiment
    assert not record(tmp_path, "b" * 32).deleted_with_experiment


# ----------------------------------------------------------------------- damaged meta.yaml

GOOD: dict[str, Any] = {
    "params": {"lr": "0.1"},
    "tags": {"x": "y"},
    "metrics": {"m": [(START_MS + 5, 1.0, 0)]},
}
BOMB = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n"
MARKERS = "<<<<<<< HEAD\nend_time: 1\n=======\nend_time: 2\n>>>>>>> other\n"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", Code.META_EMPTY),
        (b"\x00" * 400, Code.META_EMPTY),
        (b"\n  \n", Code.META_EMPTY),
        (b"# nothing\n", Code.META_EMPTY),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", Code.META_DAMAGED),
        (b"- a\n- b\n", Code.META_NOT_A_MAPPING),
        (b"just text\n", Code.META_NOT_A_MAPPING),
        (b"a:\tb\n\tc: d\n", Code.META_DAMAGED),
        (b"a: b: c\n", Code.META_DAMAGED),
        (b"a: 'open\n", Code.META_DAMAGED),
        (b"a: !!python/object:os.system {}\n", Code.META_DAMAGED),
        (b"a: 2023-99-99\n", Code.META_KEY_UNKNOWN),
        (b"--- \na: 1\n---\nb: 2\n", Code.META_DAMAGED),
        (BOMB.encode(), Code.META_UNSAFE),
        (b"a: " + b"[" * 100_000, Code.META_UNSAFE),
        (b"- " * 100_000, Code.META_UNSAFE),
        (b"{a: " * 100_000, Code.META_UNSAFE),
        (b"a: " + b"9" * 10_000 + b"\n", Code.META_KEY_UNKNOWN),
        (b"a: x\n" * 500_000, Code.META_UNREADABLE),
        (b"version https://git-lfs.github.com/spec/v1\n", Code.META_NOT_A_MAPPING),
    ],
)
def test_a_run_with_a_useless_meta_is_rebuilt(root: Path, content: bytes, code: Code) -> None:
    path = write_run(root, "1", RUN, name="kept", **GOOD)
    (path / "meta.yaml").write_bytes(content)
    result = read_run(root)
    run = result.record
    assert run is not None
    assert (run.name, run.status) == ("kept", "FINISHED")
    assert (run.start_ms, run.end_ms) == (START_MS + 5, START_MS + 5)
    assert run.params == {"lr": "0.1"}
    assert codes(result) == [code, Code.RUN_REBUILT]


@pytest.mark.parametrize("damage", ["missing", "directory"])
def test_a_run_without_a_meta_is_rebuilt(root: Path, damage: str) -> None:
    path = write_run(root, "1", RUN, **GOOD)
    (path / "meta.yaml").unlink()
    if damage == "directory":
        write_values(path / "meta.yaml", {"x": "y"})
    result = read_run(root)
    assert result.record is not None and result.record.params == {"lr": "0.1"}
    assert codes(result)[0] is Code.META_MISSING and codes(result)[-1] is Code.RUN_REBUILT


def test_a_meta_of_something_else_tells_nothing(root: Path) -> None:
    path = write_run(root, "1", RUN, **GOOD)
    (path / "meta.yaml").write_text("package: {name: foo}\n")
    result = read_run(root)
    assert result.record is not None and result.record.status == "FINISHED"
    assert codes(result) == [Code.META_KEY_UNKNOWN, Code.RUN_REBUILT]


def test_the_whole_lines_of_a_damaged_meta_are_kept(root: Path) -> None:
    path = write_run(root, "1", RUN, status=4, start_ms=START_MS + 1)
    meta = path / "meta.yaml"
    meta.write_bytes(MARKERS.encode() + meta.read_bytes())
    result = read_run(root)
    run = result.record
    assert run is not None
    assert (run.start_ms, run.end_ms, run.status, run.name) == (START_MS + 1, 1, "FAILED", "run")
    assert Code.META_DAMAGED in codes(result) and Code.RUN_REBUILT not in codes(result)


def test_a_meta_cut_in_a_number_does_not_keep_the_cut_number(root: Path) -> None:
    path = write_run(root, "1", RUN, **GOOD)
    meta = path / "meta.yaml"
    data = meta.read_bytes()
    meta.write_bytes(data[: data.index(b"start_time: ") + len("start_time: 1700")])
    result = read_run(root)
    run = result.record
    assert run is not None
    assert (run.start_ms, run.end_ms) == (START_MS + 5, START_MS + 1000)
    assert codes(result) == [Code.META_TRUNCATED, Code.RUN_REBUILT]


def test_a_meta_without_a_last_line_end_is_whole(root: Path) -> None:
    path = write_run(root, "1", RUN)
    (path / "meta.yaml").write_bytes((path / "meta.yaml").read_bytes().rstrip(b"\n"))
    assert read_run(root).issues == ()


def test_a_duplicate_key_is_named_and_the_last_one_counts(root: Path) -> None:
    path = write_run(root, "1", RUN)
    with (path / "meta.yaml").open("a") as file:
        file.write("status: 5\n")
    result = read_run(root)
    assert result.record is not None and result.record.status == "KILLED"
    assert codes(result) == [Code.META_DUPLICATE_KEY]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_meta_saved_by_a_windows_editor_is_read(root: Path, encoding: str) -> None:
    path = write_run(root, "1", RUN, name="ünï")
    text = (path / "meta.yaml").read_text("utf-8").replace("\n", "\r\n")
    (path / "meta.yaml").write_bytes(text.encode(encoding))
    result = read_run(root)
    assert result.record is not None and result.record.name == "ünï"
    assert result.issues == ()


def test_a_directory_that_holds_nothing_is_rejected(root: Path) -> None:
    path = root / "1" / RUN
    (path / "params").mkdir(parents=True)
    (path / "meta.yaml").touch()
    result = read_run(root)
    assert result.record is None and codes(result) == [Code.META_EMPTY, Code.RUN_EMPTY]
    assert result.found == {Kind.RUN: 1}


def test_a_run_that_is_rejected_loses_nothing_without_a_word(root: Path) -> None:
    path = root / "1" / RUN
    write_values(path, {"metrics/m": "no number\n\nnor here\n", "meta.yaml": "", "stray": "x"})
    result = read_run(root)
    assert result.record is None
    assert result.found == {Kind.RUN: 1, Kind.METRIC_POINT: 2}


# ----------------------------------------------------------------------------- metrics


def points(root: Path, content: bytes) -> tuple[tuple[MetricPoint, ...], dict[Code, int]]:
    write_run(root, "1", RUN, metrics={"m": content})
    result = read_run(root)
    assert result.record is not None
    found = result.record.metrics.get("m", ())
    return found, {issue.code: issue.count for issue in result.issues}


T = START_MS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"%d 0.5\n" % T, (T, 0.5, 0)),
        (b"%d 13 3\n" % T, (T, 13.0, 3)),
        (b"%d 0.75 2 evalset 987cd74d\n" % T, (T, 0.75, 2)),
        (b"%d 0.75 2 my eval set 987cd74d\n" % T, (T, 0.75, 2)),
        (b"%d 1e-300 -4\r\n" % T, (T, 1e-300, -4)),
        (b"\xef\xbb\xbf%d 1.0 0\n" % T, (T, 1.0, 0)),
        (b"%d inf 0\n" % T, (T, math.inf, 0)),
        (b"%d -Infinity 0\n" % T, (T, -math.inf, 0)),
        (b"%d 1152921504606846976 0\n" % T, (T, 1152921504606846976.0, 0)),
        (b"%d True 0\n" % T, (T, 1.0, 0)),
        (b"%d 1.0 1.5\n" % T, (T, 1.0, 1)),
        (b"%d.9 1.0 1\n" % T, (T, 1.0, 1)),
        (b"\n\r\n%d 1.0 1\n   \n" % T, (T, 1.0, 1)),
        (b"%d 1.0 %d\n" % (T, 10**30), (T, 1.0, 2**63 - 1)),
        (b"%d 1.0 0" % T, (T, 1.0, 0)),
    ],
)
def test_a_line_of_every_shape_is_a_point(
    root: Path, content: bytes, expected: tuple[int, float, int]
) -> None:
    assert points(root, content)[0] == (MetricPoint(*expected),)


@pytest.mark.parametrize(
    ("content", "issues"),
    [
        (b"%d True 0\n" % T, {Code.METRIC_VALUE_BOOLEAN: 1}),
        (b"%d 1.0 1.5\n" % T, {Code.METRIC_NUMBER_REPAIRED: 1}),
        (b"%d 1.0 %d\n" % (T, 10**30), {Code.METRIC_OUT_OF_RANGE: 1}),
        (b"1700000000 1.0 1\n", {Code.TIME_NOT_MS: 1}),
        (b"%d000 1.0 1\n" % T, {Code.TIME_NOT_MS: 1}),
        (b"0 1.0 1\n-1 1.0 1\n", {Code.TIME_NOT_MS: 2}),
        (b"", {Code.METRIC_FILE_EMPTY: 1}),
        (b"\n\n", {Code.METRIC_FILE_EMPTY: 1}),
        (b"%d 0.75 2 evalset 987cd74d\n" % T, {Code.METRIC_DATASET_DROPPED: 1}),
        (b"%d 0.75\n%d 0.75 1\n" % (T, T), {}),
    ],
)
def test_what_is_odd_in_a_metric_is_named(
    root: Path, content: bytes, issues: dict[Code, int]
) -> None:
    assert points(root, content)[1] == issues


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"1",
        b"%d" % T,
        b"%d None 0" % T,
        b"%d 1,5 0" % T,
        b"%d 1.0 x" % T,
        b"x 1.0 0",
        b"%d 1 2 3" % T,
        b"%d 1 2 a b c" % T,
        b"\x00" * 40,
        b"\xff\xfe",
        b"nan 1 0",
        b"inf 1 0",
        b"%d 1.0 inf" % T,
        b"9" * 5000 + b" 1.0 0",
        b"<<<<<<< HEAD",
        b"%d 0x1f 0" % T,
    ],
)
def test_a_malformed_line_costs_one_line(root: Path, line: bytes) -> None:
    good = b"%d 1.0 0\n" % T
    found, issues = points(root, good + line + b"\n%d 2.0 1\n" % T)
    assert found == (MetricPoint(T, 1.0, 0), MetricPoint(T, 2.0, 1))
    assert issues == {Code.METRIC_LINE_MALFORMED: 1}


def test_malformed_lines_are_named_by_number(root: Path) -> None:
    write_run(root, "1", RUN, metrics={"m": b"x\n\n%d 1 0\ny z\n" % T})
    (issue,) = read_run(root).issues
    assert issue.count == 2 and "1, 4" in issue.message and "b'x'" in issue.sample
    assert issue.kind == Kind.METRIC_POINT.value


def test_equal_points_are_one_and_counted(root: Path) -> None:
    line = b"%d 0.0 0\n" % T
    write_run(root, "1", RUN, metrics={"m": line * 500 + b"%d 0.5 0\n" % T})
    result = read_run(root)
    assert result.record is not None
    assert result.record.metrics["m"] == (MetricPoint(T, 0.0, 0), MetricPoint(T, 0.5, 0))
    assert result.found[Kind.METRIC_POINT] == 501
    assert result.merged == {Kind.METRIC_POINT: 499}
    assert codes(result) == [Code.METRIC_POINT_REPEATED]


@pytest.mark.parametrize("spelling", [b"nan", b"NaN", b"-nan"])
def test_equal_nans_are_one_point(root: Path, spelling: bytes) -> None:
    for extra in (b"", b"%d 1.0 1.5\n" % T):  # the fast way, and line by line
        found, _ = points(root, b"%d %s 0\n" % (T, spelling) * 3 + extra)
        assert len(found) == 1 + bool(extra) and math.isnan(found[0].value)


def test_the_order_of_the_file_is_kept(root: Path) -> None:
    found, _ = points(root, b"%d 1.0 5\n%d 2.0 -1\n%d 3.0 2\n" % (T, T - 9, T + 1))
    assert [point.step for point in found] == [5, -1, 2]


def test_a_last_line_that_is_cut_is_not_read_as_another_point(root: Path) -> None:
    found, issues = points(root, b"%d 0.51 7\n%d 0.5" % (T, T))
    assert found == (MetricPoint(T, 0.51, 7),)
    assert issues == {Code.METRIC_LINE_TRUNCATED: 1}
    found, issues = points(root, b"%d 0.51 7\n%d 0.5 1" % (T, T))
    assert len(found) == 2 and issues == {Code.METRIC_LINE_UNFINISHED: 1}


FIELDS = st.sampled_from(
    [
        b"1700000000000",
        b"0.5",
        b"nan",
        b"inf",
        b"-0.0",
        b"True",
        b"x",
        b"3",
        b"1.5",
        b"",
        b"9" * 40,
        b"-7",
        b"1_0",
        b"\xff",
        b"0",
        b"1e400",
    ]
)
LINES = st.lists(FIELDS, max_size=6).map(b" ".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(LINES, max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans())
def test_metric_lines_close_whatever_they_hold(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], end: bytes, ended: bool
) -> None:
    root = tmp_path_factory.mktemp("store")
    write_experiment(root, "1", "one")
    content = end.join(lines) + (end if ended else b"")
    write_run(root, "1", RUN, metrics={"m": content})
    result = read_run(root)
    expected = sum(1 for line in lines if line.strip())
    assert result.found.get(Kind.METRIC_POINT, 0) == expected


# -------------------------------------------------------------------------- experiments


def test_an_experiment_is_read_with_its_tags(tmp_path: Path) -> None:
    write_experiment(tmp_path, "1", "one", tags={"a/b": "c\r\n"}, last_update_ms=START_MS + 1)
    result = experiment(tmp_path)
    found = result.record
    assert found is not None and result.issues == ()
    assert (found.name, found.tags) == ("one", {"a/b": "c\r\n"})
    assert (found.creation_ms, found.last_update_ms) == (START_MS, START_MS + 1)


def test_an_old_experiment_has_no_times(tmp_path: Path) -> None:
    write_experiment(tmp_path, "1", "one", layout="1.26")
    found = experiment(tmp_path).record
    assert found is not None and (found.creation_ms, found.last_update_ms) == (None, None)


@pytest.mark.parametrize(
    "content", [None, b"", b"- x\n", b"\x00\xff", b"lifecycle_stage: active\n"]
)
def test_an_experiment_without_a_name_is_rebuilt(tmp_path: Path, content: bytes | None) -> None:
    path = write_experiment(tmp_path, "1", "one", tags={"a": "b"})
    write_run(tmp_path, "1", RUN)
    (path / "meta.yaml").unlink()
    if content is not None:
        (path / "meta.yaml").write_bytes(content)
    results(tmp_path)
    result = experiment(tmp_path)
    assert result.record is not None
    assert (result.record.name, result.record.tags) == ("1", {"a": "b"})
    assert Code.EXPERIMENT_REBUILT in codes(result)


def test_inline_tags_serve_only_where_the_directory_is_missing(tmp_path: Path) -> None:
    write_experiment(tmp_path, "1", "one", tags={"a": "file"})
    path = write_experiment(tmp_path, "1", "one")
    write_yaml(
        path / "meta.yaml",
        {
            "name": "one",
            "artifact_location": "x",
            "lifecycle_stage": "active",
            "tags": {"a": "inline", "b": "1"},
        },
    )
    found = experiment(tmp_path).record
    assert found is not None and found.tags == {"a": "file"}
    (path / "tags" / "a").unlink()
    (path / "tags").rmdir()
    result = experiment(tmp_path)
    assert result.record is not None and result.record.tags == {"a": "inline", "b": "1"}
    assert codes(result) == [Code.INLINE_TAGS_USED]


# ------------------------------------------------------------- datasets, inputs, outputs


def test_datasets_inputs_and_outputs_are_read(root: Path) -> None:
    write_run(root, "1", RUN)
    dataset_id = write_dataset(
        root, "1", "train", "d1", runs=[RUN], tags={"mlflow.data.context": "t"}
    )
    write_logged_model(root, "1", "m-" + "e" * 32, source_run_id=RUN, output_step=2)
    run = record(root)
    assert run.inputs == (InputRecord("DATASET", dataset_id, {"mlflow.data.context": "t"}),)
    assert run.outputs == (OutputRecord("m-" + "e" * 32, 2),)
    (entry,) = index_store(str(root)).datasets
    dataset = FileStoreSource(str(root)).read_dataset(entry).record
    assert dataset is not None
    assert (dataset.dataset_id, dataset.name, dataset.digest) == (dataset_id, "train", "d1")


def test_damaged_datasets_and_inputs_are_rejected_alone(root: Path) -> None:
    write_run(root, "1", RUN, params={"a": "1"})
    write_dataset(root, "1", "train", "d1", runs=[RUN])
    for meta in [*root.glob("1/datasets/*/meta.yaml"), *root.glob(f"1/{RUN}/inputs/*/meta.yaml")]:
        meta.write_bytes(b"")
    result = read_run(root)
    assert result.record is not None and result.record.inputs == ()
    assert codes(result) == [Code.META_EMPTY, Code.INPUT_DAMAGED]
    (entry,) = index_store(str(root)).datasets
    dataset = FileStoreSource(str(root)).read_dataset(entry)
    assert dataset.record is None and Code.DATASET_DAMAGED in codes(dataset)


def test_an_output_without_meta_is_known_by_its_directory(root: Path) -> None:
    path = write_run(root, "1", RUN)
    write_values(path / "outputs" / "m-1", {"meta.yaml": b"\x00"})
    result = read_run(root)
    assert result.record is not None and result.record.outputs == (OutputRecord("m-1", 0),)
    assert codes(result) == [Code.META_EMPTY, Code.OUTPUT_DAMAGED]


# ------------------------------------------------------------------- directories and files


@pytest.mark.parametrize("folder", ["params", "metrics", "tags", "artifacts", "inputs", "outputs"])
def test_a_file_where_a_directory_should_be_is_named(root: Path, folder: str) -> None:
    path = write_run(root, "1", RUN, params={"a": "1"})
    for file in path.glob(f"{folder}/*"):
        file.unlink()
    if (path / folder).is_dir():
        (path / folder).rmdir()
    (path / folder).write_text("x")
    result = read_run(root)
    assert result.record is not None and Code.FOLDER_IS_A_FILE in codes(result)
    assert result.files_ignored == 1


def test_pipes_sockets_and_unreadable_files_cost_themselves(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(root, "1", RUN, params={"ok": "1", "denied": "2"}, artifacts={"a.txt": "x"})
    os.mkfifo(path / "params" / "pipe")
    os.mkfifo(path / "metrics" / "pipe")
    os.mkfifo(path / "artifacts" / "pipe.txt")
    real = os.open

    def open_(name: Any, *args: Any, **kwargs: Any) -> int:
        if str(name).endswith("denied"):
            raise PermissionError(13, "Permission denied")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_)
    result = read_run(root)
    assert result.record is not None and result.record.params == {"ok": "1"}
    assert sorted(code.value for code in codes(result)) == [
        "artifact-link-not-followed",
        "file-unreadable",
        "special-file",
        "special-file",
    ]


def test_a_file_that_vanishes_costs_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(root, "1", RUN, params={"ok": "1", "gone": "2"})
    real = os.open

    def open_(name: Any, *args: Any, **kwargs: Any) -> int:
        if str(name).endswith("gone"):
            raise FileNotFoundError(2, "No such file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_)
    result = read_run(root)
    assert result.record is not None and result.record.params == {"ok": "1"}
    assert codes(result) == [Code.FILE_VANISHED]


def test_an_enormous_value_is_not_read(root: Path) -> None:
    path = write_run(root, "1", RUN, params={"ok": "1", "big": ""})
    os.truncate(path / "params" / "big", 10 << 30)
    os.truncate(path / "meta.yaml", 10 << 30)
    result = read_run(root)
    assert result.record is not None and result.record.params == {"ok": "1"}
    assert codes(result) == [
        Code.META_UNREADABLE,
        Code.FILE_TOO_LARGE,
        Code.RUN_REBUILT,
        Code.RUN_START_UNKNOWN,
    ]


def test_strays_in_a_run_are_named(root: Path) -> None:
    path = write_run(root, "1", RUN)
    write_values(path, {"notes.md": "x", ".ipynb_checkpoints/a": "1", "params/.git/x": "2"})
    result = read_run(root)
    assert result.files_ignored == 3
    assert set(codes(result)) == {Code.FILE_IGNORED, Code.DIRECTORY_IGNORED}


# --------------------------------------------------------------------------- artifacts


@pytest.mark.parametrize("inside", [True, False])
def test_artifacts_lie_where_a_custom_location_says(tmp_path: Path, inside: bool) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    custom = (root if inside else tmp_path) / "else where" / RUN / "artifacts"
    write_values(custom, {"a.txt": "hi"})
    for uri in (str(custom), custom.as_uri(), f"file:{custom}"):
        write_run(root, "1", RUN, artifact_uri=uri)
        run = record(root)
        assert run.artifact_dir == str(custom) and run.texts == {"a.txt": "hi"}


def test_a_recorded_location_that_is_not_the_runs_own_is_not_read(
    root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    write_values(secret, {"a.txt": "hi"})
    write_run(root, "1", RUN, artifact_uri=secret.as_uri())
    assert record(root).artifacts == ()


def test_artifacts_in_two_places_are_named(root: Path, tmp_path: Path) -> None:
    served = tmp_path / "mlartifacts"
    write_values(served / "1" / RUN / "artifacts", {"b.txt": "2"})
    write_run(root, "1", RUN, artifacts={"a.txt": "1"})
    result = read_run(root, artifact_roots=(str(served),))
    assert result.record is not None and result.record.texts == {"a.txt": "1"}
    assert codes(result) == [Code.ARTIFACTS_IN_TWO_PLACES]


def test_only_wanted_texts_are_read(root: Path) -> None:
    artifacts: dict[str, str | bytes] = {
        "prompt.txt": "ünï\r\n",
        "bom.json": b"\xef\xbb\xbf{}",
        "wide.txt": "hi".encode("utf-16"),
        "latin.txt": b"K\xf6ln",
        "binary.txt": b"a\x00b",
        "large.txt": "x" * 1_000_001,
        "rows.csv": "x" * 1_000_001,
        "eval_results.json": "x" * 10_000_001,
        "other.md": "not wanted",
        "response.txt": "version https://git-lfs.github.com/spec/v1\noid sha256:5\nsize 12\n",
    }
    write_run(root, "1", RUN, artifacts=artifacts)
    (entry,) = index_store(str(root)).runs
    result = runs.read_run(entry, lambda path: not path.endswith(".md"))
    assert_closed(result)
    assert result.record is not None
    texts = dict(result.record.texts)
    assert len(texts.pop("rows.csv")) == 1_000_001  # the rows of an evaluation may be more
    assert texts == {
        "prompt.txt": "ünï\r\n",
        "bom.json": "{}",
        "wide.txt": "hi",
        "latin.txt": "K\ufffdln",
    }
    assert len(result.record.artifacts) == 10
    assert sorted(codes(result), key=lambda code: code.value) == [
        Code.ARTIFACT_NOT_TEXT,
        Code.ARTIFACT_NOT_TEXT,
        Code.ARTIFACT_NOT_TEXT,
        Code.ARTIFACT_NOT_TEXT,
        Code.TEXT_UNDECODABLE,
    ]


def wants_all(path: str) -> bool:
    return True


def test_a_process_pool_can_read(root: Path) -> None:
    write_run(root, "1", RUN, **GOOD)
    (entry,) = index_store(str(root)).runs
    call = pickle.loads(
        pickle.dumps((FileStoreSource(str(root)).outline().read_run, entry, wants_all))
    )
    result = call[0](*call[1:])
    assert pickle.loads(pickle.dumps(result)) == result


# ------------------------------------------------------------------ the fast way through YAML

EDGES = [
    "null",
    "yes",
    "NO",
    "true",
    "on",
    "Off",
    "1e5",
    "12e03",
    "0b10",
    "0x1f",
    "1_000",
    "1:30",
    "0",
    "-1",
    "01",
    "1.5",
    ".inf",
    ".nan",
    "2023-01-01",
    "[]",
    "''",
    "'a'",
    "~",
    "a: b",
    "a #b",
    "a:b",
    "file:///x y/z",
    "file:",
    "=",
    "<<",
    "- a",
    "'it''s'",
    "a ",
    " a",
    "y",
    "0b" + "1" * 30,
    "1" * 32,
    "1e" + "2" * 30,
    "12b4" * 8,
    "e" * 32,
    "0o17",
    "9" * 18,
]
SCALARS = st.one_of(
    st.text("abez019 :#'\"-_./%[]{}&*!|>,?@\\\t\r\n\u0085ünull~", max_size=12),
    st.sampled_from(EDGES),
    st.integers(-(10**20), 10**20).map(str),
    st.text("0123456789abcdef", min_size=32, max_size=32),
)
KEYS = st.sampled_from(
    ["name", "run_id", "status", "y", "no", "on", "null", "end_time", "a b", "A"]
)
DOCUMENTS = st.lists(st.tuples(KEYS, SCALARS), min_size=1, max_size=5).map(
    lambda pairs: "".join(f"{key}: {value}\n" for key, value in pairs)
)


@settings(max_examples=500, deadline=None)
@given(DOCUMENTS)
def test_the_fast_way_reads_what_pyyaml_reads(text: str) -> None:
    fast = yamlfile._load_simple(text)
    if fast is not None:
        assert fast == yaml.safe_load(text)
        assert {type(value) for value in fast.values()} == {
            type(value) for value in yaml.safe_load(text).values()
        }


@pytest.mark.parametrize("value", EDGES)
def test_the_fast_way_agrees_on_what_only_looks_like_text(value: str) -> None:
    text = f"name: {value}\n"
    fast = yamlfile._load_simple(text)
    assert fast is None or repr(fast) == repr(yaml.safe_load(text))


def test_the_fast_way_is_taken_for_what_mlflow_writes(root: Path) -> None:
    path = write_run(root, "1", "5945be06ed42404d9837cc49fe99aa5b", name="question 1", end_ms=None)
    text = (path / "meta.yaml").read_text()
    assert yamlfile._load_simple(text) == yaml.safe_load(text)
    text = (root / "1" / "meta.yaml").read_text()
    assert yamlfile._load_simple(text) == yaml.safe_load(text)


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        DOCUMENTS.map(str.encode),
        st.text("{}[]&*!-:? \na|>'\"").map(str.encode),
    )
)
def test_loading_yaml_never_raises(data: bytes) -> None:
    loaded = yamlfile.load(data, frozenset({"status"}))
    assert isinstance(loaded.values, dict)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T21:23:34.566Z", 1795382614566),
        ("2026-11-22T21:23:34Z", 1795382614000),
        ("2026-11-22T21:23:34.123456789Z", 1795382614123),
        ("2026-11-22T21:23:34.5+02:00", 1795375414500),
        ("2026-11-22 21:23:34", 1795382614000),
        ("1969-12-31T23:59:59.900Z", -100),
        ("2026-13-40T00:00:00Z", None),
        ("soon", None),
    ],
)
def test_iso_times_become_milliseconds(text: str, expected: int | None) -> None:
    assert yamlfile.iso_ms(text) == expected


_NAMES = st.sampled_from(["lr", "loss", "a.b", ".DS_Store", "lr (1)", "lr~", "mañana", "x" * 200])
_POINTS = st.lists(
    st.sampled_from(
        [b"1700000000000 0.5 0", b"1700000000001 nan 1", b"5 1 2", b"1700000000000 1", b"", b"?"]
    ),
    max_size=4,
).map(b"\n".join)
_CONTENTS = st.one_of(
    st.binary(max_size=20),
    _POINTS,
    _POINTS.map(lambda text: text + b"\n"),
    st.just(b"1700000000000 0.5 0\n" * 1000),
)


@settings(deadline=None, max_examples=150)
@given(files=st.dictionaries(_NAMES, _CONTENTS, max_size=5), inside=st.booleans())
def test_a_directory_is_read_fast_as_it_is_read_file_by_file(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], inside: bool
) -> None:
    root = tmp_path_factory.mktemp("store")
    write_experiment(root, "1", "one")
    run = write_run(root, "1", RUN)
    for folder in ("params", "metrics", "tags"):
        (run / folder).mkdir(exist_ok=True)
        for name, content in files.items():
            (run / folder / name).write_bytes(content)
        if inside:
            (run / folder / "deeper").mkdir()
            (run / folder / "deeper" / "key").write_bytes(b"1700000000000 0.5 0\n")
    (entry,) = index_store(str(root)).runs
    fast = FileStoreSource(str(root)).read_run(entry, lambda path: True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("migrator.extractor.filestore.read_log.small_files", lambda folder: None)
        patch.setattr("migrator.extractor.filestore.runs.plain_point", lambda data: None)
        plain = FileStoreSource(str(root)).read_run(entry, lambda path: True)
    assert repr(fast) == repr(plain)  # by repr: NaN is not equal to itself
