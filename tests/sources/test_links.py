"""Symbolic links inside a store: read where they are used, never out of the store or in circles."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.issues import Code, Kind
from migrator.outcome.summary import Outcome
from tests.support.storekit import (
    START_MS,
    write_dataset,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
)

pytestmark = pytest.mark.xdist_group("sources_links")

RUN, OTHER, MODEL, TRACE = "a1" * 16, "b2" * 16, "m-" + "c3" * 16, "tr-" + "d4" * 16
SPAN = {"name": "step", "span_id": "00000000000000a1", "start_time_unix_nano": START_MS * 10**6}
FEEDBACK = {
    "assessment_id": "a-1",
    "assessment_name": "good",
    "create_time": "2023-11-14T22:13:21Z",
    "feedback": {"value": True},
    "last_update_time": "2023-11-14T22:13:21Z",
    "source": {"source_id": "ana", "source_type": "HUMAN"},
}


class Plain(NamedTuple):
    """What became of the store without links, and what MLflow's client reads of it."""

    outcome: Outcome
    seen: dict[str, Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store that holds one of everything."""
    write_all(tmp_path / "mlruns")
    return tmp_path / "mlruns"


def write_all(root: Path) -> None:
    write_experiment(root, "1", "one", tags={"team": "a"})
    write_run(
        root, "1", RUN, params={"lr": "0.1"}, metrics={"loss": [(START_MS, 0.5, 1)]},
        tags={"stage": "dev"}, artifacts={"deep/answer.txt": "yes"},
    )  # fmt: skip
    write_dataset(root, "1", "train", "d1", runs=[RUN])
    write_logged_model(
        root, "1", MODEL, source_run_id=RUN, params={"p": "1"}, tags={"t": "2"},
        metrics={"f1": [(START_MS, 0.5, 1, RUN)]}, artifacts={"model.bin": "x"}, output_step=1,
    )  # fmt: skip
    write_trace(
        root, "1", TRACE, tags={"topic": "x"}, spans=[SPAN], assessments={"a-1": FEEDBACK}
    )  # fmt: skip
    write_registered_model(root, "reg", tags={"o": "1"}, versions=[{"tags": {"v": "1"}}, {}],
                           aliases={"best": 2})  # fmt: skip


def convert(root: Path, target: Path) -> Outcome:
    return pipeline.convert([str(root)], str(target), pipeline.Options())


def seen(target: Path) -> dict[str, Any]:
    """Return what MLflow's client reads of the store's one of everything."""
    client = MlflowClient(f"sqlite:///{target}")
    run = client.get_run(RUN)
    trace = client.get_trace(TRACE, display=False)
    model = client.get_logged_model(MODEL)
    return {
        "experiments": {e.name: e.tags for e in client.search_experiments()},
        "runs": sorted(r.info.run_id for r in client.search_runs(["1"])),
        "run": (run.data.params, run.data.metrics, run.data.tags.get("stage")),
        "inputs": [each.dataset.name for each in run.inputs.dataset_inputs],
        "outputs": [each.model_id for each in run.outputs.model_outputs],
        "artifacts": [each.path for each in client.list_artifacts(RUN, "deep")],
        "model": (model.params, model.tags.get("t"), [m.value for m in model.metrics]),
        "trace": (trace.info.tags["topic"], [span.name for span in trace.data.spans]),
        "assessments": [each.name for each in trace.info.assessments],
        "registered": client.get_registered_model("reg").aliases,
        "versions": sorted(
            (v.version, tuple(v.tags)) for v in client.search_model_versions("name='reg'")
        ),
    }  # fmt: skip


def move_behind_link(path: Path, root: Path) -> None:
    """Move a directory into a hidden one of the store, and leave a link in its place."""
    hidden = root / ".shared" / "-".join(path.relative_to(root).parts)
    hidden.parent.mkdir(exist_ok=True)
    shutil.move(path, hidden)
    path.symlink_to(hidden)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    """The store of ``root`` without any link, as it is converted and read."""
    root = tmp_path_factory.mktemp("plain") / "mlruns"
    write_all(root)
    outcome = convert(root, root.parent / "plain.db")
    return Plain(outcome, seen(root.parent / "plain.db"))


LEAVES = (
    *("1/tags", "models/reg/tags", "models/reg/aliases", "models/reg/version-1/tags"),
    *(f"1/{RUN}/{name}" for name in ("params", "metrics", "tags", "artifacts", "inputs")),
    *(f"1/models/{MODEL}/{name}" for name in ("params", "tags", "metrics", "artifacts")),
    *(f"1/traces/{TRACE}/{name}" for name in ("tags", "request_metadata", "artifacts")),
    *(f"1/traces/{TRACE}/assessments", f"1/{RUN}/outputs"),
)
ABOVE = (
    *("1", "models", f"1/{RUN}", "1/traces", "1/models", "1/datasets", "models/reg"),
    *(f"1/models/{MODEL}", f"1/traces/{TRACE}", f"1/{RUN}/outputs/{MODEL}"),
    *("models/reg/version-1", f"1/{RUN}/artifacts/deep"),
)


def test_links_to_directories_are_read_where_they_are_used(root: Path, plain: Plain) -> None:
    for folder in LEAVES:
        move_behind_link(root / folder, root)
    outcome = convert(root, root.parent / "out.db")
    assert seen(root.parent / "out.db") == plain.seen
    assert outcome.ledger.found == plain.outcome.ledger.found
    assert not outcome.ledger.has_rejects and outcome.ledger.gaps() == []


@pytest.mark.parametrize("folder", [*LEAVES, *ABOVE])
def test_each_link_to_a_directory_is_read(root: Path, plain: Plain, folder: str) -> None:
    move_behind_link(root / folder, root)
    ledger = pipeline.scan([str(root)], pipeline.Options()).ledger
    assert ledger.found == plain.outcome.ledger.found
    assert not ledger.has_rejects and ledger.gaps() == []


def test_links_behind_links_are_read(root: Path, plain: Plain) -> None:
    for folder in ("1", f"1/{RUN}", f"1/{RUN}/params", f"1/traces/{TRACE}"):
        move_behind_link(root / folder, root)
    outcome = convert(root, root.parent / "out.db")
    assert seen(root.parent / "out.db") == plain.seen
    assert outcome.ledger.found == plain.outcome.ledger.found


@pytest.mark.parametrize(("runs", "is_read"), [(250, True), (251, False)])
def test_too_many_links_behind_a_link_are_named(runs: int, is_read: bool, tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    for number in range(runs):
        write_run(root, "1", f"{number:032x}")
        move_behind_link(root / "1" / f"{number:032x}", root)
    move_behind_link(root / "1", root)
    ledger = pipeline.scan([str(root)], pipeline.Options(workers=1)).ledger
    named = [issue for issue in ledger.issues if issue.code is Code.LINKS_TOO_MANY]
    assert ledger.found[Kind.RUN] - ledger.rejected[Kind.RUN] == (runs if is_read else 0)
    assert len(named) == (0 if is_read else 251)
    for issue in named:
        assert "by which more than 250 paths lead here; it was not opened" in issue.message
    assert ledger.gaps() == []


def test_a_link_behind_three_others_is_named(root: Path) -> None:
    for folder in ("1", f"1/{RUN}", f"1/{RUN}/artifacts", f"1/{RUN}/artifacts/deep"):
        move_behind_link(root / folder, root)
    ledger = pipeline.scan([str(root)], pipeline.Options(workers=1)).ledger
    (issue,) = [each for each in ledger.issues if each.code is Code.ARTIFACT_LINK]
    assert issue.message == "It is a link behind 3 other links; it was not followed."


def test_linked_artifacts_are_listed_and_copied(root: Path) -> None:
    """MLflow itself does not list what a link in an artifact directory leads to."""
    move_behind_link(root / "1" / RUN / "artifacts" / "deep", root)
    options = pipeline.Options(artifacts=f"copy:{root.parent}/copies")
    pipeline.convert([str(root)], str(root.parent / "out.db"), options)
    client = MlflowClient(f"sqlite:///{root.parent}/out.db")
    assert [each.path for each in client.list_artifacts(RUN, "deep")] == ["deep/answer.txt"]


def test_two_runs_share_their_params(root: Path) -> None:
    write_run(root, "1", OTHER)
    shutil.rmtree(root / "1" / OTHER / "params")
    (root / "1" / OTHER / "params").symlink_to(f"../{RUN}/params")
    outcome = convert(root, root.parent / "out.db")
    assert MlflowClient(f"sqlite:///{root.parent}/out.db").get_run(OTHER).data.params == {
        "lr": "0.1"
    }
    assert outcome.ledger.found[Kind.PARAM] == 2


@pytest.mark.parametrize(
    ("link", "target"),
    [
        (f"1/{OTHER}", RUN),
        (f"2/{RUN}", f"../1/{RUN}"),
        ("3", "1"),
        ("2/traces", "../1/traces"),
        (f"2/traces/{TRACE}", f"../../1/traces/{TRACE}"),
        (f"2/models/{MODEL}", f"../../1/models/{MODEL}"),
        ("loop", "."),
        ("1/loop", ".."),
    ],
)
def test_what_is_read_where_it_lies_is_not_read_twice(root: Path, link: str, target: str) -> None:
    write_experiment(root, "2", "two")
    before = pipeline.scan([str(root)], pipeline.Options()).ledger
    (root / link).parent.mkdir(exist_ok=True)
    (root / link).symlink_to(target)
    ledger = pipeline.scan([str(root)], pipeline.Options()).ledger
    assert (ledger.found, ledger.files) == (before.found, before.files)
    notes = [each for each in ledger.issues if each.code is Code.LINK_INSIDE_STORE]
    assert [each.path for each in notes] == [str(root / link)]
    assert not ledger.has_rejects and ledger.gaps() == []


@pytest.mark.parametrize("folder", ["params", "tags", "metrics", "inputs"])
def test_links_out_of_the_store_are_refused_and_named(root: Path, folder: str) -> None:
    place = root / "1" / RUN / folder
    shutil.move(place, root.parent / "outside")
    place.symlink_to("../../../outside")
    outcome = pipeline.scan([str(root)], pipeline.Options())
    (issue,) = [each for each in outcome.ledger.issues if each.code is Code.LINK_NOT_FOLLOWED]
    assert issue.path == str(place) and outcome.ledger.has_rejects
    kind = {"params": Kind.PARAM, "tags": Kind.TAG, "metrics": Kind.METRIC_POINT}
    assert outcome.ledger.found[kind.get(folder, Kind.INPUT)] == 0


@pytest.mark.parametrize("target", [".", "..", "../..", "../../.."])
def test_circles_end_and_are_named(root: Path, target: str) -> None:
    (root / "1" / RUN / "params" / "loop").symlink_to(target)
    (root / "1" / RUN / "artifacts" / "loop").symlink_to(target)
    outcome = pipeline.scan([str(root)], pipeline.Options())
    codes = Counter(each.code for each in outcome.ledger.issues)
    assert codes[Code.LINK_NOT_FOLLOWED] == 1 and codes[Code.ARTIFACT_LINK] == 1
    assert outcome.ledger.gaps() == []


def test_links_to_one_another_end(root: Path) -> None:
    """Each of six directories links to all of them: no path is followed through more than three."""
    folders = [root / "1" / RUN / "artifacts" / f"d{n}" for n in range(6)]
    for folder in folders:
        folder.mkdir()
    for folder in folders:
        for other in folders:
            (folder / f"to-{other.name}").symlink_to(f"../{other.name}")
    outcome = pipeline.scan([str(root)], pipeline.Options())
    assert outcome.ledger.gaps() == [] and outcome.ledger.found[Kind.RUN] == 1


# --------------------------------------------------------------------- pipes, sockets, devices


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path may have 108 bytes only
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("make", [make_pipe, make_socket])
@pytest.mark.parametrize(
    "folder",
    [
        *("1/tags", "1/traces", "1/models", "1/datasets"),
        *(f"1/{RUN}/{name}" for name in ("params", "metrics", "tags", "artifacts", "inputs")),
        *(f"1/traces/{TRACE}/{name}" for name in ("tags", "assessments", "artifacts")),
        *(f"1/models/{MODEL}/params", "models/reg/aliases"),
        *(f"1/{RUN}/params/lr", f"1/{RUN}/metrics/loss", f"1/{RUN}/meta.yaml", "1/meta.yaml"),
        f"1/traces/{TRACE}/artifacts/traces.json",
    ],
)
def test_a_pipe_or_socket_is_named_and_never_opened(
    root: Path, folder: str, make: Callable[[Path], None]
) -> None:
    place = root / folder
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    make(place)
    outcomes: list[Outcome] = []
    worker = threading.Thread(
        target=lambda: outcomes.append(pipeline.scan([str(root)], pipeline.Options())), daemon=True
    )
    worker.start()
    worker.join(60)
    assert outcomes, "the conversion is blocked"
    named = [each for each in outcomes[0].ledger.issues if each.path == str(place)]
    assert named and outcomes[0].ledger.gaps() == []
    if place.suffix == "" and place.parent.name not in ("params", "metrics"):
        assert Code.FOLDER_IS_A_FILE in {each.code for each in named}
