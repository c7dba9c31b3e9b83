"""Two sources that share ids, in one call or one after the other: the same database and the same
exit code; an entity that is another one never mixes with the first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.errors import RejectedError
from migrator.issues import Code, Kind
from migrator.outcome.summary import Outcome
from tests.support.loaderkit import tables
from tests.support.storekit import (
    START_MS,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
)

RUN, TRACE, MODEL = "a1" * 16, "tr-" + "d4" * 16, "m-" + "e5" * 16
LATER = START_MS + 60_000
Write = Callable[[Path], object]


def experiment(root: Path, **tags: str) -> None:
    write_experiment(root, "1", "agents", tags=tags, artifact_location="s3://bucket/1")


def run(**given: Any) -> Write:
    base: dict[str, Any] = {
        "params": {"lr": "1"},
        "metrics": {"loss": [(START_MS, 1.0, 0)]},
        "tags": {"team": "blue"},
        "artifact_uri": "s3://bucket/1/run/artifacts",
    }

    def write(root: Path) -> None:
        experiment(root)
        write_run(root, "1", RUN, **{**base, **given})

    return write


def call(answer: str, **given: Any) -> Write:
    """A run from which a trace is rebuilt."""
    texts = {"prompt.txt": "Say hello", "response.txt": answer}
    return run(params={"model": "gpt-4o", "answer": answer}, artifacts=texts, **given)


def native(span: str = "1", **given: Any) -> Write:
    content = {
        "span_id": span * 16,
        "name": span,
        "start_time_unix_nano": START_MS * 10**6,
        "end_time_unix_nano": START_MS * 10**6 + 5,
    }

    def write(root: Path) -> None:
        experiment(root)
        write_trace(root, "1", TRACE, spans=[content], **{"tags": {"k": "1"}, **given})

    return write


def logged_model(**given: Any) -> Write:
    def write(root: Path) -> None:
        experiment(root)
        base: dict[str, Any] = {"params": {"p": "1"}, "artifact_location": "s3://bucket/m"}
        write_logged_model(root, "1", MODEL, **{**base, **given})

    return write


def registered(*versions: dict[str, Any], **given: Any) -> Write:
    def write(root: Path) -> None:
        experiment(root)
        write_registered_model(root, "bot", versions=versions, **given)

    return write


V1, V2 = {"source": "s3://bucket/v1"}, {"source": "s3://bucket/v2"}
OTHERS: dict[str, tuple[Write, Write]] = {  # another entity of the same id
    "run: start": (run(), run(start_ms=LATER, end_ms=LATER + 1)),
    "run: value of a param": (run(), run(params={"lr": "2"})),
    "run: params of its own": (run(), run(params={"depth": "2"})),
    "run: value of a metric": (run(), run(metrics={"loss": [(START_MS, 2.0, 0)]})),
    "run: with a trace": (call("Hello"), call("Goodbye", tags={"more": "1"})),
    "trace: time": (native(), native(request_time="2024-11-14T22:13:20Z")),
    "trace: spans": (native(), native("2", tags={"more": "1"})),
    "model: time": (logged_model(), logged_model(creation_timestamp=LATER, tags={"m": "1"})),
    "model: params": (logged_model(), logged_model(params={"p": "2"})),
    "registered model": (
        registered(V1, creation_timestamp=START_MS),
        registered(V1, V2, creation_timestamp=LATER, aliases={"best": 2}),
    ),
    "version": (
        registered({**V1, "creation_timestamp": START_MS}),
        registered({**V1, "creation_timestamp": LATER, "tags": {"x": "1"}}, aliases={"best": 1}),
    ),
}
GROWN: dict[str, tuple[Write, Write]] = {  # the same entity, later
    "run: nothing": (run(), run()),
    "run: ended": (
        run(status=1, end_ms=None),
        run(
            params={"lr": "1", "depth": "2"},
            metrics={"loss": [(START_MS, 1.0, 0), (START_MS + 1, 0.5, 1)], "acc": [(LATER, 1, 0)]},
            tags={"team": "red", "note": "x"},
        ),
    ),
    "run: another name, more tags": (
        run(),
        run(name="better", tags={"team": "red", "note": "x"}),
    ),
    "run: with a trace": (
        call("Hello", status=1, end_ms=None),
        call("Hello", tags={"team": "blue", "more": "1"}),
    ),
    "trace": (native(), native(tags={"k": "2", "more": "1"})),
    "model": (logged_model(), logged_model(params={"p": "1", "q": "2"}, tags={"more": "1"})),
    "registered model": (registered(V1), registered(V1, V2, tags={"x": "1"}, aliases={"b": 2})),
    "experiment": (
        lambda root: experiment(root, note="one", a="1"),
        lambda root: experiment(root, note="two", b="2"),
    ),
}


def convert(stores: list[Path], target: Path, **how: Any) -> Outcome:
    options = pipeline.Options(on_conflict="merge", artifacts="keep")
    uri = f"sqlite:///{target}"
    return pipeline.convert([str(store) for store in stores], uri, options, **how)


def codes(outcome: Outcome) -> set[Code]:
    return {issue.code for issue in outcome.ledger.issues}


@pytest.fixture
def stores(tmp_path: Path, request: pytest.FixtureRequest) -> list[Path]:
    first, second = request.param
    first(tmp_path / "one" / "mlruns")
    second(tmp_path / "two" / "mlruns")
    return [tmp_path / "one" / "mlruns", tmp_path / "two" / "mlruns"]


@pytest.mark.parametrize("stores", OTHERS.values(), indirect=True, ids=OTHERS.keys())
def test_another_entity_of_one_id_is_rejected_whole_by_either_route(
    stores: list[Path], tmp_path: Path
) -> None:
    alone, together, after = (tmp_path / f"{name}.db" for name in ("alone", "together", "after"))
    assert convert(stores[:1], alone).exit_code == 0
    in_one = convert(stores, together)
    convert(stores[:1], after)
    before = after.read_bytes()
    in_two = convert(stores[1:], after)
    assert after.read_bytes() == before
    assert tables(together) == tables(alone)
    for outcome in (in_one, in_two):
        assert outcome.exit_code == 3
        assert Code.ENTITY_CLASHES in codes(outcome)
        assert not outcome.ledger.gaps()
    assert in_one.ledger.rejected == in_two.ledger.rejected
    assert in_two.ledger.already_there[Kind.EXPERIMENT] == 1
    with pytest.raises(RejectedError, match="entity-clashes"):
        convert(stores[1:], after, stop_on_error=True)
    assert after.read_bytes() == before


@pytest.mark.parametrize("stores", GROWN.values(), indirect=True, ids=GROWN.keys())
def test_an_entity_that_went_on_is_completed_by_either_route(
    stores: list[Path], tmp_path: Path
) -> None:
    together, after = tmp_path / "together.db", tmp_path / "after.db"
    outcomes = [convert(stores, together), convert(stores[:1], after), convert(stores[1:], after)]
    assert tables(together) == tables(after)
    for outcome in outcomes:
        assert outcome.exit_code == 0
        assert Code.ENTITY_CLASHES not in codes(outcome)
        assert not outcome.ledger.gaps()
    content = after.read_bytes()
    convert(stores, after)
    convert(stores[::-1], after)
    assert after.read_bytes() == content


def test_a_run_that_ended_since_has_its_end_and_all_points(tmp_path: Path) -> None:
    first, second = GROWN["run: ended"]
    first(tmp_path / "one")
    second(tmp_path / "two")
    target = tmp_path / "m.db"
    convert([tmp_path / "one", tmp_path / "two"], target)
    client = MlflowClient(f"sqlite:///{target}")
    found = client.get_run(RUN)
    assert found.info.status == "FINISHED" and found.data.params == {"lr": "1", "depth": "2"}
    assert (found.data.tags["team"], found.data.tags["note"]) == ("red", "x")
    assert [point.value for point in client.get_metric_history(RUN, "loss")] == [1.0, 0.5]


def test_what_people_changed_in_the_target_makes_no_other_run_of_it(tmp_path: Path) -> None:
    store, target = tmp_path / "mlruns", tmp_path / "m.db"
    run()(store)
    convert([store], target)
    client = MlflowClient(f"sqlite:///{target}")
    client.set_tag(RUN, "team", "green")
    client.set_tag(RUN, "mine", "1")
    client.log_metric(RUN, "review", 0.5)
    client.update_run(RUN, name="mine")
    (store / "1" / RUN / "tags" / "late").write_text("1")
    again = convert([store], target)
    assert (again.exit_code, again.ledger.converted[Kind.TAG]) == (0, 1)
    assert not codes(again), "what people changed is theirs"
    found = client.get_run(RUN)
    assert (found.data.tags["team"], found.data.tags["late"]) == ("green", "1")
    assert found.info.run_name == "mine"


def test_a_run_that_another_experiment_of_the_target_has_is_another_one(tmp_path: Path) -> None:
    one, two, target = tmp_path / "one", tmp_path / "two", tmp_path / "m.db"
    run()(one)
    write_experiment(two, "2", "others", artifact_location="s3://bucket/2")
    write_run(two, "2", RUN, params={"lr": "1"})
    convert([one], target)
    before = tables(target)["runs"]
    again = convert([two], target)
    assert again.exit_code == 3 and tables(target)["runs"] == before
    (said,) = {i.message for i in again.ledger.issues if i.code is Code.ENTITY_CLASHES}
    assert said == f"The target has another run {RUN}: it belongs to experiment 1 there."
