"""A month of nightly conversions: source and target change at random in between.

The expected target is computed here, field by field, from three values: what was converted, what
people made of it, what the source has now. It is compared with what MLflow's client shows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from migrator import pipeline
from migrator.extractor.filestore import fingerprint
from migrator.loader.sqlite import seen
from migrator.outcome.summary import Outcome
from tests.support import storekit
from tests.support.mlflow_server import Server
from tests.support.sql_servers import Server as SqlServer

pytestmark = [pytest.mark.xdist_group("month"), pytest.mark.long]

EXPERIMENT, MODEL = "7", "clf"
START = storekit.START_MS
TAGS = ("stage", "owner", "note")
BY_PEOPLE = "deleted by people"  # MLflow shows "deleted"; its time is another one


@dataclass
class Run:
    """A run, on one side."""

    name: str
    tags: dict[str, str]
    end: int | None
    points: int
    stage: str = "active"

    def fields(self) -> dict[str, Any]:
        """The values that each side can change, by name."""
        tags = {f"tag {key}": value for key, value in self.tags.items()}
        return {"name": self.name, "end": self.end, "stage": self.stage, **tags}


@dataclass
class Side:
    """What one side holds: the source, the target, or what was converted."""

    experiment: str = "rag"
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)  # run id -> fields
    points: dict[str, int] = field(default_factory=dict)
    traces: set[str] = field(default_factory=set)
    aliases: dict[str, Any] = field(default_factory=dict)
    versions: int = 0


def merged(source: dict[str, Any], base: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    """The target after a conversion: what people changed since the last one stays."""
    result = dict(target)
    for key, value in source.items():
        if key not in base:
            result.setdefault(key, value)
        elif key in target and target[key] == base[key]:
            result[key] = value
    return result


class Month:
    """The source and its target, and what is expected of both."""

    def __init__(self, root: Path, target: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.root = root / "mlruns"
        self.target = target
        self.source: dict[str, Run] = {}
        self.there, self.base = Side(), Side()
        self.name = "rag"
        self.aliases: dict[str, int] = {}
        self.versions = 1
        self.number = 0
        self.write_experiment()
        self.new_run()
        self.write_model()

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.target)

    # ------------------------------------------------------------------ what the source does

    def write_experiment(self) -> None:
        storekit.write_experiment(self.root, "0", "Default")
        storekit.write_experiment(self.root, EXPERIMENT, self.name)

    def write_model(self) -> None:
        storekit.write_registered_model(
            self.root, MODEL, versions=[{}] * self.versions, aliases=self.aliases
        )

    def write(self, run_id: str) -> None:
        run = self.source[run_id]
        storekit.write_run(
            self.root, EXPERIMENT, run_id, name=run.name, tags=run.tags,
            start_ms=START, end_ms=run.end, status=1 if run.end is None else 3,
            params={"model": "gpt-4o"}, deleted=run.stage == "deleted",
            metrics={"score": [(START + n, float(n), n) for n in range(run.points)]},
            artifacts={"prompt.txt": "P", "response.txt": "R"},
        )  # fmt: skip

    def new_run(self) -> None:
        self.number += 1
        run_id = f"{self.number:032x}"
        is_open = self.random.random() < 0.5
        end = None if is_open else START + 1000
        self.source[run_id] = Run(f"run {self.number}", {"stage": "dev", "owner": "a"}, end, 1)
        self.write(run_id)

    def change_run(self) -> None:
        run_id = self.random.choice(list(self.source))
        run = self.source[run_id]
        what = self.random.choice(["name", "tag", "tag", "points", "end", "stage"])
        if what == "name":
            run.name += "'"
        elif what == "tag":
            run.tags[self.random.choice(TAGS)] = f"source {self.random.randrange(3)}"
        elif what == "points" and run.end is None:
            run.points += 1
        elif what == "end" and run.end is None:
            run.end = START + 2000
            run.points += 1
        elif what == "stage":
            run.stage = "deleted" if run.stage == "active" else "active"
        self.write(run_id)

    def rename_experiment(self) -> None:
        self.name += "'"
        self.write_experiment()

    def change_model(self) -> None:
        if self.random.random() < 0.5:
            self.versions += 1
        else:
            alias = self.random.choice(["prod", "test"])
            self.aliases[alias] = self.random.randint(1, self.versions)
        self.write_model()

    # ------------------------------------------------------------------ what people do

    def people_tag(self, run_id: str, run: dict[str, Any]) -> None:
        key = self.random.choice(TAGS)
        if f"tag {key}" in run and self.random.random() < 0.4:
            self.client.delete_tag(run_id, key)
            del run[f"tag {key}"]
        else:
            value = f"people {self.random.randrange(3)}"
            self.client.set_tag(run_id, key, value)
            run[f"tag {key}"] = value

    def people_rename(self, run_id: str, run: dict[str, Any]) -> None:
        run["name"] = f"people {self.random.randrange(3)}"
        self.client.update_run(run_id, name=run["name"])

    def people_delete(self, run_id: str, run: dict[str, Any]) -> None:
        self.client.delete_run(run_id)
        run["stage"] = BY_PEOPLE

    def people_delete_trace(self, run_id: str, run: dict[str, Any]) -> None:
        if f"tr-{run_id}" in self.there.traces:
            self.client.delete_traces(EXPERIMENT, trace_ids=[f"tr-{run_id}"])
            self.there.traces.discard(f"tr-{run_id}")

    def people(self) -> None:
        what = self.random.random()
        if what < 0.15:
            self.there.experiment = f"people {self.random.randrange(3)}"
            self.client.rename_experiment(EXPERIMENT, self.there.experiment)
        elif what < 0.35:
            alias = self.random.choice(["prod", "test"])
            if alias in self.there.aliases and self.random.random() < 0.5:
                self.client.delete_registered_model_alias(MODEL, alias)
                del self.there.aliases[alias]
            else:
                version = self.random.randint(1, self.there.versions)
                self.client.set_registered_model_alias(MODEL, alias, str(version))
                self.there.aliases[alias] = version
        else:
            run_id = self.random.choice(list(self.there.runs))
            run = self.there.runs[run_id]
            if run["stage"] != "active":
                self.client.restore_run(run_id)
                run["stage"] = "active"
                return
            act: Callable[[str, dict[str, Any]], None] = self.random.choice(
                [self.people_tag, self.people_tag, self.people_rename, self.people_delete,
                 self.people_delete_trace]
            )  # fmt: skip
            act(run_id, run)

    # ------------------------------------------------------------------ the night

    def convert(self) -> Outcome:
        outcome = pipeline.convert(
            [self.root], self.target, pipeline.Options(), backup=self.target.startswith("http")
        )
        assert outcome.exit_code == 0, outcome.ledger.issues
        return outcome

    def expect(self) -> None:
        """Compute what the conversion is to make of the target."""
        there, base = self.there, self.base
        if there.experiment == base.experiment or not base.runs:
            there.experiment = self.name
        base.experiment = self.name if there.experiment == self.name else base.experiment
        for run_id, run in self.source.items():
            fields = run.fields()
            if run_id not in base.runs:
                there.runs[run_id] = dict(fields)
            else:
                there.runs[run_id] = merged(fields, base.runs[run_id], there.runs[run_id])
            base.runs[run_id] = {**base.runs.get(run_id, {}), **fields}
            there.points[run_id] = run.points
            trace_id = f"tr-{run_id}"
            if trace_id not in base.traces and run.stage == "active":
                there.traces.add(trace_id)
                base.traces.add(trace_id)
        there.aliases = merged(dict(self.aliases), base.aliases, there.aliases)
        base.aliases.update(self.aliases)
        there.versions = self.versions

    def expected(self) -> Side:
        """What MLflow's client is to show."""
        runs = {}
        for run_id, run in self.there.runs.items():
            stage = "deleted" if run["stage"] == BY_PEOPLE else run["stage"]
            runs[run_id] = {**run, "stage": stage}
        return replace(self.there, runs=runs)

    def shown(self) -> Side:
        """What MLflow's client shows of the target."""
        client = self.client
        side = Side(client.get_experiment(EXPERIMENT).name)
        for run in client.search_runs([EXPERIMENT], run_view_type=ViewType.ALL):
            tags = {key: value for key, value in run.data.tags.items() if key in TAGS}
            shown = Run(run.info.run_name, tags, run.info.end_time, 0, run.info.lifecycle_stage)
            side.runs[run.info.run_id] = shown.fields()
            history = client.get_metric_history(run.info.run_id, "score")
            side.points[run.info.run_id] = len(history)
        side.traces = {
            trace.info.trace_id for trace in client.search_traces(locations=[EXPERIMENT])
        }
        model = client.get_registered_model(MODEL)
        side.aliases = {alias: int(version) for alias, version in model.aliases.items()}
        side.versions = len(client.search_model_versions(f"name='{MODEL}'"))
        return side


class ServerMonth(Month):
    """A month on a server, which gives ids of its own.

    A server's API can't remember values, so people and the source change different things there.
    """

    def experiment_id(self) -> str:
        """The server's id of the experiment."""
        found = self.client.search_experiments(ViewType.ALL)
        key = "migrator.source_experiment_id"
        return str(next(e.experiment_id for e in found if e.tags.get(key) == EXPERIMENT))

    def ids(self) -> dict[str, str]:
        """The server's ids of runs by the source's."""
        found = self.client.search_runs([self.experiment_id()], run_view_type=ViewType.ALL)
        return {run.data.tags["migrator.source_run_id"]: run.info.run_id for run in found}

    def change_run(self) -> None:
        run_id = self.random.choice(list(self.source))
        run = self.source[run_id]
        if run.end is None:
            run.points += 1
            run.end = self.random.choice([None, START + 2000])
            self.write(run_id)

    def people(self) -> None:
        run_id = self.random.choice(list(self.there.runs))
        run, there = self.there.runs[run_id], self.ids()[run_id]
        what = self.random.random()
        if what < 0.2:
            self.there.experiment = f"people {self.random.randrange(3)}"
            self.client.rename_experiment(self.experiment_id(), self.there.experiment)
        elif what < 0.4 and "prod" in self.there.aliases:
            self.client.delete_registered_model_alias(MODEL, "prod")
            del self.there.aliases["prod"]
        elif what < 0.6 and f"tr-{run_id}" in self.there.traces:
            self.client.delete_traces(self.experiment_id(), trace_ids=[f"tr-{run_id}"])
            self.there.traces.discard(f"tr-{run_id}")
        elif what < 0.8 and run["stage"] == "active":
            self.client.delete_run(there)
            run["stage"] = BY_PEOPLE
        elif run["stage"] == "active":
            run["tag note"] = f"people {self.random.randrange(3)}"
            self.client.set_tag(there, "note", run["tag note"])

    def change_model(self) -> None:
        self.versions += 1
        self.aliases.setdefault("prod", 1)
        self.write_model()

    def shown(self) -> Side:
        client, number = self.client, self.experiment_id()
        side = Side(client.get_experiment(number).name)
        for run_id, there in self.ids().items():
            run = client.get_run(there)
            tags = {key: value for key, value in run.data.tags.items() if key in TAGS}
            shown = Run(run.info.run_name, tags, run.info.end_time, 0, run.info.lifecycle_stage)
            side.runs[run_id] = shown.fields()
            side.points[run_id] = len(client.get_metric_history(there, "score"))
        side.traces = {trace.info.trace_id for trace in client.search_traces(locations=[number])}
        model = client.get_registered_model(MODEL)
        side.aliases = {alias: int(version) for alias, version in model.aliases.items()}
        side.versions = len(client.search_model_versions(f"name='{MODEL}'"))
        return side


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server").start()
    yield server
    server.kill()


def live(month: Month, nights: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "CLOCK_NS", -(10**18))  # files are known by times at once
    for night in range(nights):
        for _ in range(month.random.randrange(4)):
            change = month.random.choice(
                [month.new_run, *[month.change_run] * 4, month.rename_experiment,
                 month.change_model]
            )  # fmt: skip
            change()
        if night:
            for _ in range(month.random.randrange(4)):
                month.people()
            if month.random.random() < 0.2:
                before = month.shown()
                with monkeypatch.context() as patch:
                    patch.setattr(seen, "keep", killed)
                    try:
                        month.convert()
                    except KeyboardInterrupt:
                        assert month.shown() == before, "a killed conversion left something"
        month.convert()
        month.expect()
        assert month.shown() == month.expected(), f"night {night}"
        if night % 4 == 0:
            assert month.convert().unchanged, f"night {night}"


def killed(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("seed", [1, 2])
def test_a_month_of_nights(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    month = Month(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", seed)
    live(month, 15, monkeypatch)


def test_a_week_of_nights_on_postgresql(
    postgresql: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    live(Month(tmp_path, postgresql.uri(postgresql.fresh()), 3), 6, monkeypatch)


def test_a_week_of_nights_on_a_server(server: Server, tmp_path: Path) -> None:
    month = ServerMonth(tmp_path, server.uri, 4)
    for night in range(6):
        for _ in range(month.random.randrange(4)):
            month.random.choice(
                [month.new_run, month.change_run, month.rename_experiment, month.change_model]
            )()
        if night:
            for _ in range(month.random.randrange(1, 4)):
                month.people()
        month.convert()
        month.expect()
        assert month.shown() == month.expected(), f"night {night}"
    rows = server.rows()
    month.convert()
    assert server.rows() == rows
