"""What old, emptied, crowded and hand-made stores become, as MLflow's own client reads it back.

From the files of a store to ``MlflowClient`` on the result; how single files are read is in
``test_extractor_runs.py`` and ``test_extractor_store.py``. The defaults are those of
``docs/reference/old-stores.md``.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import ViewType

from migrator import conventions, pipeline
from migrator.issues import Code, Kind
from migrator.outcome.summary import Outcome
from migrator.report.scan import scan_text
from migrator.report.text import convert_text
from tests.support.storekit import (
    START_MS,
    write_experiment,
    write_registered_model,
    write_run,
    write_trace,
    write_values,
    write_yaml,
)

RUN, OTHER = "a1" * 16, "b2" * 16


@dataclass(frozen=True)
class Converted:
    """A store that was converted, and MLflow's client on the result."""

    outcome: Outcome
    client: MlflowClient

    @property
    def codes(self) -> Counter[Code]:
        return Counter(issue.code for issue in self.outcome.ledger.issues)

    def experiments(self) -> dict[str, Any]:
        """Return all experiments by name, but the Default that MLflow adds where it is missing."""
        found = self.client.search_experiments(view_type=ViewType.ALL)
        return {e.name: e for e in found if e.name != "Default"}

    def runs(self) -> dict[str, Any]:
        """Return all runs by id, as the search of the web page gives them."""
        ids = [experiment.experiment_id for experiment in self.experiments().values()]
        found = self.client.search_runs(ids, run_view_type=ViewType.ALL)
        return {run.info.run_id: run for run in found}


def convert(root: Path, tmp_path: Path, *more: str) -> Converted:
    """Convert one store or several; the counts must close."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    outcome = pipeline.convert([str(root), *more], uri, pipeline.Options())
    assert outcome.ledger.gaps() == []
    return Converted(outcome, MlflowClient(uri, registry_uri=uri))


def rewrite_meta(folder: Path, *removed: str, **changed: Any) -> None:
    """Change keys of a meta.yaml; ``removed`` are taken out."""
    meta = yaml.safe_load((folder / "meta.yaml").read_text(encoding="utf-8"))
    write_yaml(
        folder / "meta.yaml",
        {key: value for key, value in {**meta, **changed}.items() if key not in removed},
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    return root


# ------------------------------------------------------------------------------ old shapes


def test_a_run_of_mlflow_1_is_whole(root: Path, tmp_path: Path) -> None:
    """Only ``run_uuid``, the name in a tag, status and source type as names, odd metric lines."""
    run = write_run(
        root,
        "1",
        RUN,
        name="from the tag",
        layout="1.26",
        params={"lr": "0.1"},
        metrics={
            "two": b"1700000000000 1.5\n1700000000001 2.5\n",
            "three": b"1700000000000 1.5 7\n",
            "five": b"1700000000000 0.5 3 train 1234abcd\n",
            "mixed": b"1700000000000 1\n1700000000001 2 1\n1700000000002 True 2\n",
        },
    )
    rewrite_meta(run, "run_id", "end_time", status="FAILED", source_type="NOTEBOOK")
    converted = convert(root, tmp_path)
    found = converted.client.get_run(RUN)
    assert found.info.run_name == "from the tag"
    assert (found.info.status, found.info.start_time) == ("FAILED", START_MS)
    assert found.info.end_time is None
    assert found.data.params == {"lr": "0.1"}
    assert found.data.metrics == {"two": 2.5, "three": 1.5, "five": 0.5, "mixed": 1.0}

    def history(key: str) -> list[tuple[int, float, int]]:
        points = converted.client.get_metric_history(RUN, key)
        return [(point.timestamp - START_MS, point.value, point.step) for point in points]

    assert history("two") == [(0, 1.5, 0), (1, 2.5, 0)]
    assert history("three") == [(0, 1.5, 7)]
    assert history("five") == [(0, 0.5, 3)]
    assert history("mixed") == [(0, 1.0, 0), (1, 2.0, 1), (2, 1.0, 2)]
    assert converted.codes == {Code.METRIC_DATASET_DROPPED: 1, Code.METRIC_VALUE_BOOLEAN: 1}
    assert converted.outcome.exit_code == 0
    by_name = converted.client.search_runs(["1"], "attributes.run_name = 'from the tag'")
    assert [run.info.run_id for run in by_name] == [RUN]


def test_an_experiment_without_times_has_none_and_opens(root: Path, tmp_path: Path) -> None:
    write_experiment(root, "2", "old", layout="1.26")
    write_experiment(root, "3", "no update")
    rewrite_meta(root / "3", "last_update_time")
    converted = convert(root, tmp_path)
    experiments = converted.experiments()
    assert (experiments["old"].creation_time, experiments["old"].last_update_time) == (None, None)
    assert experiments["no update"].creation_time == START_MS
    assert experiments["no update"].last_update_time is None
    # Columns that are empty must break neither an order nor a page of results.
    for order in ("creation_time DESC", "last_update_time ASC"):
        found = converted.client.search_experiments(order_by=[order], max_results=2)
        again = converted.client.search_experiments(order_by=[order], page_token=found.token)
        names = {experiment.name for experiment in [*found, *again]}
        assert names == {"no update", "old", "one", "Default"}
    assert converted.outcome.exit_code == 0


def test_experiment_ids_that_the_database_can_not_hold_are_replaced(
    root: Path, tmp_path: Path
) -> None:
    kept = ["2147483648", str(2**63 - 1)]
    replaced = ["production", str(2**63), "0007", "-5", "größe"]
    for number, identity in enumerate([*kept, *replaced]):
        write_experiment(root, identity, f"experiment {identity}")
        write_run(root, identity, f"{number:032x}", params={"p": identity})
    converted = convert(root, tmp_path)
    experiments, runs = converted.experiments(), converted.runs()
    for number, identity in enumerate([*kept, *replaced]):
        experiment = experiments[f"experiment {identity}"]
        run = runs[f"{number:032x}"]
        assert run.info.experiment_id == experiment.experiment_id
        assert run.data.params == {"p": identity}
        if identity in kept:
            assert experiment.experiment_id == identity
        else:
            assert experiment.tags[conventions.MIGRATOR_SOURCE_EXPERIMENT] == identity
            assert 10**17 <= int(experiment.experiment_id) < 10**18
    assert converted.codes == {Code.EXPERIMENT_ID_CHANGED: len(replaced)}
    assert converted.outcome.exit_code == 0


def test_a_store_of_only_a_registry_is_converted(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_registered_model(root, "m", versions=[{}, {"current_stage": "Production"}])
    converted = convert(root, tmp_path)
    versions = converted.client.search_model_versions("name = 'm'")
    assert {(version.version, version.current_stage) for version in versions} == {
        (1, "None"),
        (2, "Production"),
    }
    assert converted.outcome.exit_code == 0


def test_a_store_of_only_deleted_experiments_is_converted_as_deleted(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "7", "gone", in_trash=True)  # and "active", as before MLflow 2.3
    write_run(root, "7", RUN, layout="1.26")
    converted = convert(root, tmp_path)
    assert converted.client.get_experiment("7").lifecycle_stage == "deleted"
    assert converted.client.get_run(RUN).info.lifecycle_stage == "deleted"
    assert converted.client.search_runs(["7"]) == []
    converted.client.restore_experiment("7")
    assert converted.client.get_run(RUN).info.lifecycle_stage == "active"
    assert converted.outcome.exit_code == 0


def test_folders_of_the_users_own_hide_nothing(root: Path, tmp_path: Path) -> None:
    write_experiment(root / "2023" / "spring", "5", "deep")
    write_run(root / "2023" / "spring", "5", RUN)
    write_run(root, "1", OTHER)
    shutil.move(root / "1" / OTHER, root / "1" / "good ones" / OTHER)
    write_values(root / "notes", {"todo.txt": "buy milk"})
    converted = convert(root, tmp_path)
    runs = converted.runs()
    assert runs[RUN].info.experiment_id == converted.experiments()["deep"].experiment_id == "5"
    # A folder of runs inside an experiment is one of its own: somebody set these apart.
    assert runs[OTHER].info.experiment_id == converted.experiments()["good ones"].experiment_id
    assert converted.codes[Code.EXPERIMENT_IN_FOLDER] == 2
    named = [i.path for i in converted.outcome.ledger.issues if i.code is Code.DIRECTORY_IGNORED]
    assert str(root / "notes") in named
    assert converted.outcome.exit_code == 0


# ---------------------------------------------------------------------------------- limits


def test_values_longer_than_mlflow_allows_are_carried_whole_and_read_back(
    root: Path, tmp_path: Path
) -> None:
    """MLflow 3.9's own limits: run name 250, param 6000, tag 8000, keys 250, experiment tag 5000.

    SQLite does not enforce its columns' lengths, and MLflow checks them only when it writes.
    """
    params = {"long": "p" * 10_000, "k" * 240: "long key"}
    tags = {"long": "ü" * 9_000, "t" * 240: "long key"}
    experiment = write_experiment(root, "2", "e" * 250, tags={"long": "x" * 6_000})
    write_run(root, "2", RUN, name="n" * 600, params=params, tags=tags)
    # A file's name has at most 255 bytes, but a / in a key makes directories: this key has 301.
    deep = "/".join(["d" * 150, "e" * 150])
    write_values(experiment / RUN / "params", {deep: "deep"})
    write_values(experiment / RUN / "metrics", {deep: b"1700000000000 1 0\n"})
    model = write_registered_model(root, "m", description="d" * 6_000, tags={"long": "r" * 6_000})
    assert model.is_dir()
    converted = convert(root, tmp_path)
    for found in (converted.client.get_run(RUN), converted.runs()[RUN]):
        assert found.info.run_name == "n" * 600
        assert found.data.params == {**params, deep: "deep"}
        assert found.data.tags.items() >= tags.items()
        assert found.data.metrics == {deep: 1.0}
    assert converted.client.get_experiment("2").tags["long"] == "x" * 6_000
    registered = converted.client.get_registered_model("m")
    assert (registered.description, registered.tags) == ("d" * 6_000, {"long": "r" * 6_000})
    assert [p.value for p in converted.client.get_metric_history(RUN, deep)] == [1.0]
    hits = converted.client.search_runs(["2"], f"params.long LIKE '{'p' * 50}%'")
    assert [run.info.run_id for run in hits] == [RUN]
    assert converted.outcome.exit_code == 0


def test_an_experiment_name_that_is_too_long_is_cut_and_kept_in_a_tag(
    root: Path, tmp_path: Path
) -> None:
    name = "long " * 60
    write_experiment(root, "2", name)
    converted = convert(root, tmp_path)
    experiment = converted.client.get_experiment("2")
    assert len(experiment.name) <= 256 and experiment.name.startswith("long long")
    assert experiment.tags[conventions.MIGRATOR_SOURCE_NAME] == name
    (issue,) = converted.outcome.ledger.issues
    assert issue.code is Code.EXPERIMENT_RENAMED and name in issue.message
    assert converted.outcome.exit_code == 0


# ---------------------------------------------------------------------------------- clashes


@pytest.mark.parametrize(
    ("run_in_30", "started_ms", "keeper"),
    [
        (False, START_MS, "20"),  # most runs
        (True, START_MS, "20"),  # as many: the one that was made or changed last
        (True, START_MS + 9, "30"),  # or in which a run started last
    ],
)
def test_of_two_active_experiments_of_one_name_the_fuller_then_the_newer_keeps_it(
    run_in_30: bool, started_ms: int, keeper: str, root: Path, tmp_path: Path
) -> None:
    write_experiment(root, "20", "same", creation_ms=START_MS + 1)
    write_experiment(root, "30", "same", creation_ms=START_MS)
    write_run(root, "20", RUN)
    if run_in_30:
        write_run(root, "30", OTHER, start_ms=started_ms, end_ms=started_ms + 1)
    converted = convert(root, tmp_path)
    other = {"20": "30", "30": "20"}[keeper]
    names = {e.name: e.experiment_id for e in converted.experiments().values()}
    assert names == {"one": "1", "same": keeper, f"same ({other})": other}
    runs = {key: run.info.experiment_id for key, run in converted.runs().items()}
    assert runs == {RUN: "20", **({OTHER: "30"} if run_in_30 else {})}
    assert converted.client.get_experiment(other).tags[conventions.MIGRATOR_SOURCE_NAME] == "same"
    assert converted.codes == {Code.EXPERIMENT_RENAMED: 1}
    assert converted.outcome.exit_code == 0
    shown = convert_text(converted.outcome)  # without -v
    assert f"experiment {keeper} has the same name" in shown and f'"same ({other})"' in shown


def test_of_a_deleted_and_an_active_experiment_of_one_name_the_active_keeps_it(
    root: Path, tmp_path: Path
) -> None:
    write_experiment(root, "20", "same", creation_ms=START_MS, deleted=True)
    write_experiment(root, "30", "same", creation_ms=START_MS + 1)
    write_run(root, "20", RUN, deleted=True)
    converted = convert(root, tmp_path)
    experiments = converted.experiments()
    assert (experiments["same"].experiment_id, experiments["same"].lifecycle_stage) == (
        "30",
        "active",
    )
    assert experiments["same (20)"].lifecycle_stage == "deleted"
    assert converted.runs()[RUN].info.experiment_id == "20"
    assert converted.codes == {Code.EXPERIMENT_RENAMED: 1}
    assert converted.outcome.exit_code == 0


def test_scan_shows_every_rename_without_being_asked(root: Path) -> None:
    for exp in ("20", "30", "40", "50", "60"):
        write_experiment(root, exp, "same")
    write_run(root, "60", RUN)
    shown = scan_text(pipeline.scan([str(root)], pipeline.Options()), "next")
    assert all(f'as "same ({exp})"' in shown for exp in ("20", "30", "40", "50"))


@pytest.mark.parametrize("deleted_first", [True, False])
def test_an_experiment_that_only_one_of_two_sources_has_deleted_is_active(
    deleted_first: bool, root: Path, tmp_path: Path
) -> None:
    write_experiment(root, "20", "same", deleted=True)
    write_run(root, "20", RUN)
    second = tmp_path / "second"
    write_experiment(second, "30", "same")
    write_run(second, "30", OTHER)
    stores = [str(root), str(second)] if deleted_first else [str(second), str(root)]
    target = f"sqlite:///{tmp_path}/both.db"
    outcome = pipeline.convert(stores, target, pipeline.Options())
    client = MlflowClient(target)
    (same,) = client.search_experiments(filter_string="name = 'same'")
    assert same.lifecycle_stage == "active" and outcome.exit_code == 0
    found = client.search_runs([same.experiment_id], run_view_type=ViewType.ALL)
    assert {run.info.run_id for run in found} == {RUN, OTHER}


def test_folders_may_hold_experiments_of_one_id(root: Path, tmp_path: Path) -> None:
    """Stores of two years, moved into a third: each run stays with its own."""
    for year, run_id in (("2023", RUN), ("2024", OTHER)):
        write_experiment(root / year, "1", f"work of {year}", tags={"year": year})
        write_run(root / year, "1", run_id, params={"year": year})
    converted = convert(root, tmp_path)
    experiments, runs = converted.experiments(), converted.runs()
    for year, run_id in (("2023", RUN), ("2024", OTHER)):
        experiment = experiments[f"work of {year}"]
        assert experiment.tags["year"] == year
        assert runs[run_id].info.experiment_id == experiment.experiment_id
        assert runs[run_id].data.params == {"year": year}
    assert converted.codes[Code.EXPERIMENT_ID_CHANGED] == 2  # all three have the id 1
    assert experiments["one"].experiment_id == "1"
    assert converted.outcome.exit_code == 0


def test_of_a_copied_experiment_the_original_keeps_its_runs(root: Path, tmp_path: Path) -> None:
    """The copy stands for itself, but a run can only be in one experiment: the copies are
    rejected, though nothing in them is lost."""
    write_run(root, "1", RUN, params={"p": "1", "q": "2"})
    shutil.copytree(root / "1", root / "1 (copy)")
    converted = convert(root, tmp_path)
    assert converted.runs()[RUN].info.experiment_id == "1"
    assert set(converted.experiments()) == {"one", "one (1 (copy))"}
    ledger = converted.outcome.ledger
    assert (ledger.found[Kind.RUN], ledger.converted[Kind.RUN]) == (2, 1)
    assert (ledger.rejected[Kind.RUN], ledger.rejected[Kind.PARAM]) == (1, 2)
    clashes = [i.message for i in ledger.issues if i.code is Code.ENTITY_CLASHES]
    assert clashes and all("same content, but in another experiment" in m for m in clashes)
    assert converted.outcome.exit_code == 3


def test_of_a_run_that_occurs_twice_the_active_one_is_taken(root: Path, tmp_path: Path) -> None:
    write_run(root, "1", RUN, params={"p": "1"})
    write_experiment(root, "0009", "gone", deleted=True)
    write_run(root, "0009", RUN, params={"p": "2"}, deleted=True)
    converted = convert(root, tmp_path)
    run = converted.runs()[RUN]
    assert (run.data.params, run.info.experiment_id) == ({"p": "1"}, "1")
    assert run.info.lifecycle_stage == "active"
    ledger = converted.outcome.ledger
    assert (ledger.found[Kind.RUN], ledger.converted[Kind.RUN]) == (2, 1)
    assert (ledger.rejected[Kind.RUN], ledger.merged[Kind.RUN]) == (1, 0)
    assert any(i.code is Code.ENTITY_CLASHES and "other params" in i.message for i in ledger.issues)
    assert converted.outcome.exit_code == 3


def test_a_run_that_two_sources_hold_alike_is_there_once(root: Path, tmp_path: Path) -> None:
    write_run(root, "1", RUN, params={"p": "1"}, metrics={"m": b"1700000000000 nan 0\n"})
    backup = shutil.copytree(root, tmp_path / "backup" / "mlruns")
    converted = convert(root, tmp_path, str(backup))
    assert converted.runs()[RUN].data.params == {"p": "1"}
    ledger = converted.outcome.ledger
    for kind in (Kind.EXPERIMENT, Kind.RUN, Kind.PARAM, Kind.METRIC_POINT):
        assert (ledger.found[kind], ledger.converted[kind], ledger.merged[kind]) == (2, 1, 1), kind
    assert converted.codes[Code.ENTITY_REPEATED] == 1
    assert converted.outcome.exit_code == 0


def test_of_a_trace_that_occurs_twice_the_active_one_is_taken(root: Path, tmp_path: Path) -> None:
    trace_id = "tr-" + "c3" * 16
    write_experiment(root, "9", "gone", deleted=True)
    write_trace(root, "9", trace_id, tags={"which": "deleted"})
    write_trace(root, "1", trace_id, tags={"which": "active"})
    converted = convert(root, tmp_path)
    (trace,) = converted.client.search_traces(locations=["1", "9"], include_spans=False)
    assert (trace.info.tags["which"], trace.info.experiment_id) == ("active", "1")
    assert converted.outcome.ledger.rejected[Kind.TRACE] == 1
    assert converted.outcome.exit_code == 3


def test_a_copied_run_directory_becomes_a_run_that_mlflow_opens(root: Path, tmp_path: Path) -> None:
    """A file manager's copy has a name that MLflow takes for no run id."""
    write_run(root, "1", RUN, name="original", params={"p": "1"})
    shutil.copytree(root / "1" / RUN, root / "1" / f"{RUN} (copy)")
    converted = convert(root, tmp_path)
    runs = converted.runs()
    assert len(runs) == 2 and RUN in runs
    for run_id in runs:
        assert converted.client.get_run(run_id).data.params == {"p": "1"}
    (issue,) = [i for i in converted.outcome.ledger.issues if i.code is Code.RUN_ID_CHANGED]
    assert issue.path == str(root / "1" / f"{RUN} (copy)") and issue.entity_id in runs
    assert converted.outcome.exit_code == 0


# --------------------------------------------------------------------------------- defaults


def test_what_is_missing_has_the_default_that_the_page_says(tmp_path: Path) -> None:
    """``docs/reference/old-stores.md``: every file says as little as it can."""
    root = tmp_path / "mlruns"
    model_id, dataset_id, trace_id = "m-" + "d4" * 16, "e5" * 16, "tr-" + "c3" * 16
    write_yaml(root / "1" / "meta.yaml", {"experiment_id": "1"})
    write_yaml(root / "1" / RUN / "meta.yaml", {"run_uuid": RUN})
    write_yaml(root / "1" / OTHER / "meta.yaml", {"run_uuid": OTHER, "end_time": START_MS + 9})
    write_values(root / "1" / RUN / "metrics", {"m": f"{START_MS} 1\n"})
    write_yaml(root / "1" / RUN / "inputs" / "i" / "meta.yaml", {"source_id": dataset_id})
    write_yaml(root / "1" / RUN / "outputs" / model_id / "meta.yaml", {"tags": {}})
    write_yaml(root / "1" / "datasets" / dataset_id / "meta.yaml", {"name": "d", "digest": "1"})
    write_yaml(root / "1" / "models" / model_id / "meta.yaml", {"model_id": model_id})
    write_values(root / "1" / "models" / model_id / "metrics", {"m": f"{START_MS + 5} 1 0 {RUN}\n"})
    write_yaml(root / "models" / "r" / "meta.yaml", {"name": "r"})
    write_yaml(root / "models" / "r" / "version-3" / "meta.yaml", {"version": 3})
    trace = root / "1" / "traces" / trace_id
    write_yaml(trace / "trace_info.yaml", {"trace_id": trace_id, "request_time": "2023-11-14"})
    assessments = {"f": {"feedback": {"value": 1}}, "e": {"expectation": {"value": 2}}}
    for name, content in assessments.items():
        write_yaml(trace / "assessments" / f"{name}.yaml", {"assessment_name": name, **content})
    client = convert(root, tmp_path).client

    experiment = client.get_experiment("1")
    assert (experiment.name, experiment.lifecycle_stage) == ("1", "active")
    assert (experiment.creation_time, experiment.last_update_time) == (None, None)
    run, other = client.get_run(RUN), client.get_run(OTHER)
    assert (run.info.run_name, run.info.user_id) == ("", "")
    assert run.info.artifact_uri == (root / "1" / RUN / "artifacts").as_uri()
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("RUNNING", START_MS, None)
    assert (other.info.status, other.info.start_time) == ("FINISHED", START_MS + 9)
    assert run.info.lifecycle_stage == "active"
    (point,) = client.get_metric_history(RUN, "m")
    assert point.step == 0
    (dataset_input,) = run.inputs.dataset_inputs
    dataset = dataset_input.dataset
    assert (dataset.source, dataset.source_type, dataset.schema) == ("", "", None)
    (output,) = run.outputs.model_outputs
    assert (output.model_id, output.step) == (model_id, 0)
    model = client.get_logged_model(model_id)
    assert model.name == model_id and model.status == "UNSPECIFIED"
    assert (model.creation_timestamp, model.last_updated_timestamp) == (START_MS + 5,) * 2
    version = client.get_model_version("r", "3")
    assert (version.current_stage, version.status) == ("None", "READY")
    assert version.creation_timestamp == 0
    (found,) = client.search_traces(locations=["1"], include_spans=False)
    start_ms = 1_699_920_000_000  # 2023-11-14 in UTC
    assert (found.info.state, found.info.timestamp_ms) == ("STATE_UNSPECIFIED", start_ms)
    by_name = {assessment.name: assessment for assessment in found.info.assessments}
    assert (by_name["f"].source.source_type, by_name["e"].source.source_type) == ("CODE", "HUMAN")
    assert {a.create_time_ms for a in by_name.values()} == {start_ms}
    assert all(a.valid in (None, True) for a in by_name.values())
    # What the REST API sends must be complete too.
    for entity in (experiment, run, model, version, client.get_registered_model("r"), found.info):
        assert entity.to_proto().ByteSize() > 0
