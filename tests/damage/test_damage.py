"""The damage catalogue end to end: each damage is named, costs what it says, and nothing else.

All damages are converted at once, each in an experiment of its own
(``tests/support/damagekit.py``), and read back through MLflow's client. What a damage costs is the
difference to the experiment that is not damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from migrator import pipeline
from migrator.issues import Issue, Kind, Severity
from migrator.outcome.summary import Outcome
from tests.support.damagekit import DAMAGES, Damage, Spot, build

pytestmark = pytest.mark.xdist_group("damage_damage")

WHOLE = 0  # the number of the spot that nothing happens to
NUMBERED = {damage.name: number for number, damage in enumerate(DAMAGES.values(), 1)}
EACH = pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))


@dataclass(frozen=True)
class Converted:
    root: Path
    outcome: Outcome
    client: MlflowClient
    issues: dict[int, list[Issue]]  # by spot
    before: str  # hash of the source
    after: str


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    base = tmp_path_factory.mktemp("damages")
    root = base / "mlruns"
    build(Spot(root, WHOLE))
    for damage in DAMAGES.values():
        spot = Spot(root, NUMBERED[damage.name])
        build(spot)
        damage.apply(spot)
    before = tree_hash(root)
    uri = f"sqlite:///{base}/mlflow.db"
    outcome = pipeline.convert([str(root)], uri, pipeline.Options(), schema="3.9")
    issues = by_spot(root, outcome.ledger.issues)
    return Converted(root, outcome, MlflowClient(uri, uri), issues, before, tree_hash(root))


@pytest.fixture(scope="module")
def whole(converted: Converted) -> dict[str, Any]:
    """What MLflow shows of the spot that nothing happened to."""
    return snapshot(converted.client, Spot(converted.root, WHOLE))


def tree_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*"), key=os.fsencode):
        stat = path.lstat()
        name = os.fsencode(path.relative_to(root))
        digest.update(b"%s %d %d %d\n" % (name, stat.st_mode, stat.st_mtime_ns, stat.st_size))
        if path.is_file() and not path.is_symlink() and stat.st_size < 1 << 24:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def by_spot(root: Path, issues: list[Issue]) -> dict[int, list[Issue]]:
    """Tell to which spot each issue belongs: by its path, else by the ids in it."""
    spots = [Spot(root, number) for number in (WHOLE, *NUMBERED.values())]
    by_exp = {spot.exp: spot.number for spot in spots}
    by_id = {name: spot.number for spot in spots for name in spot.names if name != spot.exp}
    by_id |= {spot.id("outside"): spot.number for spot in spots}
    found: dict[int, list[Issue]] = defaultdict(list)
    for issue in issues:
        relative = issue.path.removeprefix(f"{root}/")
        number = None if relative == issue.path else by_exp.get(relative[:4])
        if number is None:
            text = f"{issue.path} {issue.entity_id} {issue.message}"
            numbers = {number for name, number in by_id.items() if name in text}
            assert len(numbers) == 1, issue
            number = numbers.pop()
        found[number].append(issue)
    return found


# ------------------------------------------------------------------ what MLflow shows


def snapshot(client: MlflowClient, spot: Spot) -> dict[str, Any]:
    """Return what MLflow's client shows of a spot, flat, the same for any two whole ones."""
    shown: dict[str, Any] = {}
    ids = [_experiment_of(client, spot.id(role)) for role in ("train", "write", "flow")]
    exp = next(each for each in ids if each is not None)
    experiment = client.get_experiment(exp)
    shown["experiment/name"] = experiment.name
    shown["experiment/stage"] = experiment.lifecycle_stage
    shown |= {f"experiment/tag/{key}": value for key, value in experiment.tags.items()}
    for run in client.search_runs([exp], run_view_type=ViewType.ALL):
        shown |= _run(client, run)
    for trace in client.search_traces(locations=[exp], include_spans=True):
        shown |= _trace(trace, spot)
    shown |= _logged_model(client, spot)
    shown |= _registered(client, spot)
    names = {**spot.names, exp: "exp", spot.id("copy"): "copy", spot.id("outside"): "outside"}
    copied = hashlib.sha256(f"{spot.id('train')} - Copy".encode()).hexdigest()[:32]
    names[copied] = "derived"
    return {_plain(key, names): _plain(value, names) for key, value in shown.items()}


def _plain(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, role in names.items():
            value = value.replace(name, role)
    elif isinstance(value, dict):
        return {_plain(k, names): _plain(v, names) for k, v in value.items()}
    elif isinstance(value, (list, tuple)):
        return [_plain(item, names) for item in value]
    return value


def _experiment_of(client: MlflowClient, run_id: str) -> str | None:
    with contextlib.suppress(MlflowException):
        return str(client.get_run(run_id).info.experiment_id)
    return None


def _run(client: MlflowClient, run: Any) -> dict[str, Any]:
    at = f"run/{run.info.run_id}"
    shown: dict[str, Any] = {
        f"{at}/meta/{key}": getattr(run.info, key)
        for key in ("run_name", "status", "start_time", "end_time", "user_id", "lifecycle_stage")
    }
    shown |= {f"{at}/param/{key}": value for key, value in run.data.params.items()}
    shown |= {f"{at}/tag/{key}": value for key, value in run.data.tags.items()}
    for key in run.data.metrics:
        points = client.get_metric_history(run.info.run_id, key)
        shown[f"{at}/metric/{key}"] = sorted((p.timestamp, repr(p.value), p.step) for p in points)
    for source in run.inputs.dataset_inputs:
        tags = {tag.key: tag.value for tag in source.tags}
        shown[f"{at}/input/{source.dataset.name}"] = (source.dataset.digest, tags)
    for output in run.outputs.model_outputs if run.outputs else ():
        shown[f"{at}/output/{output.model_id}"] = output.step
    return shown


def _trace(trace: Any, spot: Spot) -> dict[str, Any]:
    root_run = trace.info.tags.get("migrator.root_run_id")
    at = "trace" if root_run is None else f"rebuilt/{root_run}"
    shown: dict[str, Any] = {
        f"{at}/info/state": str(trace.info.state),
        f"{at}/info/request_time": trace.info.request_time,
        f"{at}/info/execution_duration": trace.info.execution_duration,
        f"{at}/info/client_request_id": trace.info.client_request_id,
        f"{at}/info/request_preview": trace.info.request_preview,
    }
    skipped = {"mlflow.trace.sizeStats", "mlflow.trace.sizeBytes"}
    for kind, values in (("tag", trace.info.tags), ("metadata", trace.info.trace_metadata)):
        for key, value in values.items():
            if key not in skipped:
                shown[f"{at}/{kind}/{key}"] = value
    names = {span.span_id: span.name for span in trace.data.spans}
    for span in trace.data.spans:
        shown |= {
            f"{at}/span/{span.name}/type": span.span_type,
            f"{at}/span/{span.name}/status": str(span.status.status_code),
            f"{at}/span/{span.name}/times": (span.start_time_ns, span.end_time_ns),
            f"{at}/span/{span.name}/inputs": span.inputs,
            f"{at}/span/{span.name}/outputs": span.outputs,
            f"{at}/span/{span.name}/parent": names.get(span.parent_id or ""),
        }
    for one in trace.info.assessments:
        shown[f"{at}/assessment/{one.name}"] = (one.value, str(one.source), one.create_time_ms)
    return shown


def _logged_model(client: MlflowClient, spot: Spot) -> dict[str, Any]:
    try:
        model = client.get_logged_model(spot.model_id)
    except MlflowException:
        return {}
    keys = ("name", "model_type", "status", "creation_timestamp", "source_run_id")
    return {
        **{f"model/meta/{key}": str(getattr(model, key)) for key in keys},
        **{f"model/param/{key}": value for key, value in model.params.items()},
        **{f"model/tag/{key}": value for key, value in model.tags.items()},
        **{f"model/metric/{m.key}": (m.value, m.timestamp, m.step) for m in model.metrics},
    }


def _registered(client: MlflowClient, spot: Spot) -> dict[str, Any]:
    name = spot.registered_name
    model = client.get_registered_model(name)
    shown: dict[str, Any] = {
        "registered/meta/creation": model.creation_timestamp,
        "registered/meta/description": model.description,
        **{f"registered/tag/{key}": value for key, value in model.tags.items()},
        **{f"registered/alias/{key}": int(value) for key, value in model.aliases.items()},
    }
    for version in client.search_model_versions(f"name = '{name}'"):
        at = f"registered/version/{version.version}"
        shown |= {
            f"{at}/creation": version.creation_timestamp,
            f"{at}/run_id": version.run_id,
            f"{at}/source": version.source,
            f"{at}/status": version.status,
            f"{at}/tags": dict(version.tags),
        }
    return shown


# --------------------------------------------------------------------------- the tests


def test_the_catalogue_holds_at_least_sixty_damages() -> None:
    assert len(DAMAGES) >= 60


def test_the_whole_spot_is_shown_whole(whole: dict[str, Any]) -> None:
    assert whole["run/train/param/note"] == "two lines\nof text, with an ümlaut"
    assert len(whole["run/train/metric/loss"]) == 5
    assert whole["run/write/tag/mlflow.parentRunId"] == "flow"
    assert whole["rebuilt/flow/span/write/parent"] == "flow"
    assert whole["trace/span/think/outputs"] == "because"
    assert whole["trace/assessment/good"][0] is True
    assert whole["model/metric/f1"][0] == 0.7
    assert whole["registered/alias/best"] == 2


def test_nothing_is_said_of_the_whole_spot(converted: Converted) -> None:
    assert converted.issues.get(WHOLE, []) == []


@EACH
def test_what_a_damage_costs_is_named_and_everything_else_is_there(
    damage: Damage, converted: Converted, whole: dict[str, Any]
) -> None:
    spot = Spot(converted.root, NUMBERED[damage.name])
    issues = converted.issues.get(spot.number, [])
    assert {issue.code for issue in issues} == damage.codes, issues
    assert rejected(issues) == Counter(damage.rejected), issues
    shown = snapshot(converted.client, spot)
    different = {
        key: (whole.get(key), shown.get(key))
        for key in {*whole, *shown}
        if whole.get(key) != shown.get(key)
    }
    beyond = {k: v for k, v in different.items() if not any_match(k, damage.differs)}
    assert beyond == {}
    unused = [p for p in damage.differs if not any(fnmatchcase(k, p) for k in different)]
    assert unused == [], "the damage costs less than it says"


def any_match(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def rejected(issues: list[Issue]) -> Counter[Kind]:
    counts: Counter[Kind] = Counter()
    for issue in issues:
        if issue.severity is Severity.REJECTED and issue.kind is not None:
            counts[issue.kind] += issue.count
    return counts


def test_the_ledger_closes_over_all_damages_at_once(converted: Converted) -> None:
    ledger = converted.outcome.ledger
    assert ledger.gaps() == []
    assert converted.outcome.exit_code == 3
    total: Counter[Kind] = Counter()
    for damage in DAMAGES.values():
        total.update(damage.rejected)
    assert +ledger.rejected == total


def test_the_source_is_as_it_was(converted: Converted) -> None:
    assert converted.before == converted.after
    assert not (converted.root.parent / "executed").exists()


def test_nothing_from_outside_the_store_is_in_the_database(converted: Converted) -> None:
    database = (converted.root.parent / "mlflow.db").read_bytes()
    assert b"SECRET-OUTSIDE" not in database
    assert b"root:x:0:0" not in database


@EACH
def test_a_damage_alone_is_named_by_scan(damage: Damage, tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    spot = Spot(root, 1)
    build(spot)
    damage.apply(spot)
    outcome = pipeline.scan([str(root)], pipeline.Options())
    assert outcome.ledger.gaps() == []
    found = {issue.code for issue in outcome.ledger.issues}
    loaders = {code for code in damage.codes if code.value.startswith("load-")}
    assert found == damage.codes - loaders
