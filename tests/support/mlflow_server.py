"""A real MLflow server for tests, and MLflow's view of it against its view of a database.

``differences(database, server)`` reads both sides through ``MlflowClient`` (or the store behind it,
where the client hides something), translates the server's ids by the tags that it holds, and
returns a sentence for each thing that differs. Nothing of ``migrator`` is imported. The database is
one that the same source was converted into; ``tests/support/oracle.py`` compares it with that.

What may differ is here, line by line, and must be one of ``migrator.loader.rest.LIMITS``:

1.  Ids of experiments, runs and logged models; the old ones are in tags.
2.  Times of experiments, models and versions: the old ones are in ``migrator.source_fields``.
3.  Artifact locations; the files must be the same.
4.  A run without a name has its old id as name; ``mlflow.runName`` is the name.
5.  Sources of model versions that were paths of this machine.
6.  Tags ``migrator.source_*`` and ``migrator.digest``, and what MLflow 3.17 adds to traces
    (``mlflow.trace.infoFinalized``).
7.  NaN metrics of logged models are missing.
8.  A token count of a trace that is unknown may be 0 on a server before MLflow 3.17.
9.  A span without ``mlflow.llm.model`` may have the one that its inputs, its outputs or
    ``gen_ai.request.model`` name; one without ``mlflow.llm.provider`` that of ``gen_ai.system``;
    one without ``mlflow.llm.cost`` that which MLflow works out of its model and token counts; a
    trace without ``mlflow.trace.cost`` the sum of just these. MLflow 3.17's server adds them.
10. ``links`` of a span that has none may be an empty list.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from tests.support import trackerkit
from tests.support.ports import free_port

try:
    from mlflow.tracing.utils import calculate_cost_by_model_and_token_usage
except ImportError:  # MLflow 3.9, whose server adds no cost

    def calculate_cost_by_model_and_token_usage(*_: Any) -> None:
        """Return what this MLflow adds."""


RELEASE = tuple(int(part) for part in mlflow.__version__.split(".")[:2])
IN_COLUMNS = (3, 17)  # from here on MLflow keeps a trace's numbers in columns
ADDED = ("migrator.source_", "migrator.digest", "migrator.deleted_model.", "migrator.seen.")
OF_THE_SERVER = {"mlflow.artifactLocation", "mlflow.trace.infoFinalized"}


class Server:
    """An MLflow server on 127.0.0.1 that keeps artifacts itself, in a process of its own.

    They go to ``destination``, by default its folder ``artifacts``.
    """

    def __init__(self, folder: Path, destination: str | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.destination = destination or str(folder / "artifacts")
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = trackerkit.database(folder, "server.db")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, variables: Mapping[str, str] | None = None) -> Server:
        """Start it with further environment variables and wait until it answers."""
        environment = {
            **os.environ,
            **(variables or {}),
            "_MLFLOW_SERVER_FILE_STORE": self.database,
            "_MLFLOW_SERVER_REGISTRY_STORE": self.database,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": self.destination,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        for key in trackerkit.KEPT:
            environment.pop(key, None)
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "uvicorn", "mlflow.server.fastapi_app:app",
                "--host", "127.0.0.1", "--port", str(self.port), "--log-level", "error",
            ],
            env=environment, cwd=self.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 90
        while True:
            assert self._process.poll() is None, "the server ended"
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return self
            assert time.monotonic() < deadline, "the server doesn't answer"
            time.sleep(0.2)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def empty(self) -> None:
        """Take everything out of its database but MLflow's own experiment."""
        with closing(sqlite3.connect(self.path)) as db:
            tables = [
                row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
            ]
            for table in tables:
                if table not in ("alembic_version", "experiments", "workspaces"):
                    db.execute(f'DELETE FROM "{table}"')
            db.execute("DELETE FROM experiments WHERE experiment_id <> 0")
            db.execute("UPDATE experiments SET lifecycle_stage = 'active'")
            db.commit()

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all rows of its database."""
        with closing(sqlite3.connect(self.path)) as db:
            tables = [
                row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
            ]
            return {t: sorted(db.execute(f'SELECT * FROM "{t}"'), key=repr) for t in tables}

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return rows of its database."""
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute(sql, values).fetchall()

    def change(self, sql: str, *values: Any) -> None:
        """Do something to its database that its API would not."""
        with closing(sqlite3.connect(self.path)) as db:
            assert db.execute(sql, values).rowcount == 1
            db.commit()

    @property
    def path(self) -> str:
        return self.database.removeprefix("sqlite:///")


def differences(database: str, server: Server) -> list[str]:
    """Return what a server has other than a database, ids translated; see the module."""
    here = View(database).everything()
    there = View(server.uri, server.folder / "artifacts").everything()
    for identity, experiment in there["experiments"].items():
        known = here["experiments"].get(identity, {}).get("traces", {})
        for trace_id, trace in experiment["traces"].items():
            if trace_id in known:
                _take_out_what_mlflow_adds(trace, known[trace_id])
    return list(compare("", here, there))


def _take_out_what_mlflow_adds(trace: dict[str, Any], known: dict[str, Any]) -> None:
    """Number 9: from what is served of a trace, where the database has nothing of that name."""
    added = []
    for span_id, span in trace["spans"].items():
        facts, old = span["attributes"], known["spans"].get(span_id, {}).get("attributes", {})
        model, cost = facts.get("mlflow.llm.model"), facts.get("mlflow.llm.cost")
        if cost is not None and "mlflow.llm.cost" not in old:
            usage, provider = facts["mlflow.chat.tokenUsage"], facts.get("mlflow.llm.provider")
            if cost == calculate_cost_by_model_and_token_usage(model, usage, provider):
                added.append(facts.pop("mlflow.llm.cost"))
        if model is not None and "mlflow.llm.model" not in old:
            texts = [facts.get(f"mlflow.span{end}") for end in ("Inputs", "Outputs")]
            named = [text.get("model") for text in texts if isinstance(text, dict)]
            if model in [*named, facts.get("gen_ai.request.model")]:
                del facts["mlflow.llm.model"]
        provider = facts.get("mlflow.llm.provider")
        if provider == facts.get("gen_ai.system") and "mlflow.llm.provider" not in old:
            facts.pop("mlflow.llm.provider", None)
    if "mlflow.trace.cost" not in known["metadata"] and added:
        total = trace["metadata"].get("mlflow.trace.cost")
        if total == {key: pytest.approx(sum(each[key] for each in added)) for key in added[0]}:
            del trace["metadata"]["mlflow.trace.cost"]


def compare(name: str, here: Any, there: Any) -> Iterator[str]:
    """Yield a sentence for each difference of two views, or of parts of them at a path."""
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for key in sorted(here.keys() | there.keys(), key=str):
            label = f"{name}/{key}"
            if key not in there:
                yield f"{label}: missing on the server, {here[key]!r:.200} in the database"
            elif key not in here:
                yield f"{label}: {there[key]!r:.200} on the server only"
            else:
                yield from compare(label, here[key], there[key])
    elif here != there:
        yield f"{name}: {here!r:.300} in the database, {there!r:.300} on the server"


class View:
    """Everything that MLflow says of one side, by the ids of the source."""

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        self.uri = uri
        self.artifacts = artifacts  # where a server keeps them
        self.client = MlflowClient(uri)
        self.store = self.client._tracking_client.store
        self.registry = self.client._get_registry_client().store
        self.served = uri.startswith("http")
        self.old: dict[str, str] = {}  # new id of a run or model -> old id

    def everything(self) -> dict[str, Any]:
        experiments = {}
        found = self.client.search_experiments(ViewType.ALL)
        runs = {e.experiment_id: self._runs(e.experiment_id) for e in found}
        models = {e.experiment_id: self._models(e) for e in found}
        for each in found:
            identity = each.tags.get("migrator.source_experiment_id", each.experiment_id)
            times = (each.creation_time, each.last_update_time)
            if self.served and identity != "0":
                fields = json.loads(each.tags["migrator.source_fields"])
                times = (fields.get("creation_ms"), fields.get("last_update_ms"))
            experiments[identity] = {
                "name": each.name,
                "stage": each.lifecycle_stage,
                "times": None if identity == "0" else times,
                "tags": _tags(each.tags),
                "runs": {self.old[r.info.run_id]: self._run(r) for r in runs[each.experiment_id]},
                "models": {
                    self.old[m.model_id]: self._model(m) for m in models[each.experiment_id]
                },
                "traces": self._traces(each.experiment_id, identity),
            }
        return {"experiments": experiments, "registry": self._registry()}

    # ------------------------------------------------------------------------------ runs

    def _runs(self, experiment_id: str) -> list[Any]:
        runs = []
        for run in self.client.search_runs([experiment_id], "", ViewType.ALL, 1000):
            old = run.data.tags.get("migrator.source_run_id", run.info.run_id)
            assert not self.served or old != run.info.run_id, "a run without its old id"
            assert old not in self.old.values(), f"two runs of {old}"
            self.old[run.info.run_id] = old
            runs.append(self.client.get_run(run.info.run_id))
        return runs

    def _run(self, run: Any) -> dict[str, Any]:
        info, old = run.info, self.old[run.info.run_id]
        tags = _tags(run.data.tags)
        if "mlflow.parentRunId" in tags:
            tags["mlflow.parentRunId"] = self._old(tags["mlflow.parentRunId"])
        tags["mlflow.runName"] = info.run_name or old
        return {
            "name": info.run_name or old,
            "status": info.status,
            "start": info.start_time,
            "end": info.end_time,
            "stage": info.lifecycle_stage,
            "user": info.user_id or "",
            "params": dict(run.data.params),
            "tags": tags,
            "latest": {key: repr(value) for key, value in run.data.metrics.items()},
            "metrics": {
                key: sorted(
                    (m.timestamp, m.step, repr(m.value))
                    for m in self.client.get_metric_history(info.run_id, key)
                )
                for key in run.data.metrics
            },
            "datasets": sorted(
                json.dumps([i.dataset.to_dictionary(), sorted((t.key, t.value) for t in i.tags)])
                for i in run.inputs.dataset_inputs
            ),
            "inputs": sorted(self._old(i.model_id) for i in run.inputs.model_inputs or ()),
            "outputs": sorted((self._old(o.model_id), o.step) for o in run.outputs.model_outputs),
            "files": self._files(info.artifact_uri),
        }  # fmt: skip

    def _old(self, new: str) -> str:
        return self.old.get(new, new)

    def _files(self, uri: str) -> dict[str, bytes]:
        folder = Path(url2pathname(urlsplit(uri).path))
        if uri.startswith("mlflow-artifacts:/") and self.artifacts is not None:
            folder = self.artifacts / uri.removeprefix("mlflow-artifacts:/")
        elif not uri.startswith("file:"):
            return {}
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    # ------------------------------------------------------------------------------ models

    def _models(self, experiment: Any) -> list[Any]:
        models = list(self.store.search_logged_models([experiment.experiment_id]))
        known = {model.model_id for model in models}
        if self.served:
            prefix = "migrator.deleted_model."
            deleted = [v.split()[0] for k, v in experiment.tags.items() if k.startswith(prefix)]
        else:
            with closing(sqlite3.connect(self.uri.removeprefix("sqlite:///"))) as db:
                query = "SELECT model_id FROM logged_models WHERE experiment_id = ?"
                deleted = [row[0] for row in db.execute(query, (experiment.experiment_id,))]
        for model_id in set(deleted) - known:
            models.append(self.store.get_logged_model(model_id, allow_deleted=True))
        for model in models:
            self.old[model.model_id] = model.tags.get("migrator.source_model_id", model.model_id)
        return models

    def _model(self, model: Any) -> dict[str, Any]:
        times: Any = [model.creation_timestamp, model.last_updated_timestamp]
        if self.served:
            fields = json.loads(model.tags["migrator.source_fields"])
            times = [fields["creation_ms"], fields["last_updated_ms"]]
        active = {m.model_id for m in self.store.search_logged_models([model.experiment_id])}
        metrics = sorted(
            (
                m.key, m.timestamp, m.step, repr(m.value), self._old(m.run_id),
                m.dataset_name or "", m.dataset_digest or "",
            )
            for m in model.metrics or ()
        )  # fmt: skip
        return {
            "name": model.name,
            "active": model.model_id in active,
            "type": model.model_type or "",
            "status": str(model.status),
            "run": self._old(model.source_run_id or ""),
            "times": times,
            "params": dict(model.params),
            "tags": _tags(model.tags),
            "metrics": [m for m in metrics if m[0] != "nan"],  # number 7
            "files": self._files(model.artifact_location),
        }

    def _registry(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for model in self.registry.search_registered_models(max_results=1000):
            tags = {tag.key: tag.value for tag in model.to_proto().tags}
            versions = {}
            for version in self.registry.search_model_versions(f"name='{model.name}'", 1000):
                versions[str(version.version)] = self._version(version)
            fields = json.loads(tags.get("migrator.source_fields", "{}"))
            times = [model.creation_timestamp, model.last_updated_timestamp]
            if self.served:
                times = [fields.get("creation_ms"), fields.get("last_updated_ms")]
            found[model.name] = {
                "description": model.description or "",
                "times": times,
                "tags": _tags(tags),
                "aliases": {alias: str(number) for alias, number in model.aliases.items()},
                "versions": versions,
            }
        return found

    def _version(self, version: Any) -> dict[str, Any]:
        times: Any = [version.creation_timestamp, version.last_updated_timestamp]
        source, user, run = version.source or "", version.user_id or "", version.run_id or ""
        if self.served:
            fields = json.loads(version.tags["migrator.source_fields"])
            times = [fields.get("creation_ms"), fields.get("last_updated_ms")]
            source, user = fields.get("source", source), fields.get("user_id", user)
        for new, old in self.old.items():
            source = source.replace(new, old)
        return {
            "times": times,
            "description": version.description or "",
            "stage": version.current_stage or "None",
            "run": self._old(run),
            "source": source,
            "user": user,
            "link": version.run_link or "",
            "tags": _tags(version.tags),
        }

    # ------------------------------------------------------------------------------ traces

    def _traces(self, experiment_id: str, identity: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        infos, _ = self.store.search_traces(locations=[experiment_id], max_results=500)
        links: dict[str, list[str]] = {info.trace_id: [] for info in infos}
        for new, old in self.old.items():
            if not new.startswith("m-"):
                linked, _ = self.store.search_traces(
                    locations=[experiment_id], filter_string=f"attributes.run_id = '{new}'"
                )
                for info in linked:
                    links[info.trace_id].append(old)
        for listed in infos:
            info = self.store.get_trace_info(listed.trace_id)
            metadata = {k: v for k, v in info.trace_metadata.items() if k not in OF_THE_SERVER}
            if "mlflow.sourceRun" in metadata:
                metadata["mlflow.sourceRun"] = self._old(metadata["mlflow.sourceRun"])
            tags = {k: v for k, v in _tags(info.tags).items() if k not in OF_THE_SERVER}
            spans = {}
            if "mlflow.trace.spansLocation" in tags:
                (trace,) = self.store.batch_get_traces([info.trace_id])
                spans = {span.span_id: self._span(span, identity) for span in trace.data.spans}
            found[info.trace_id] = {
                "time": info.request_time,
                "duration": info.execution_duration,
                "state": str(info.state),
                "request": info.request_preview,
                "response": info.response_preview,
                "client_request_id": info.client_request_id,
                "tags": tags,
                "metadata": {key: _metadata(key, value) for key, value in metadata.items()},
                "assessments": {
                    a.assessment_id: {**a.to_dictionary(), "valid": None} for a in info.assessments
                },
                "spans": spans,
                "runs": sorted(links[info.trace_id]),
            }
        return found

    def _span(self, span: Any, identity: str) -> dict[str, Any]:
        plain: dict[str, Any] = span.to_dict()
        plain["links"] = plain.get("links", [])  # number 10
        attributes = plain["attributes"]
        plain["attributes"] = {key: _value(text) for key, text in attributes.items()}
        if "mlflow.experimentId" in attributes:
            plain["attributes"]["mlflow.experimentId"] = identity
        return plain


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if not key.startswith(ADDED)}


def _metadata(key: str, text: str) -> Any:
    value = _value(text)
    if key == "mlflow.trace.tokenUsage" and RELEASE < IN_COLUMNS:  # number 8
        return {name: n for name, n in value.items() if n}
    return value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
