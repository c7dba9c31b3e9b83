"""Listing what a database holds, by keys, in pages; nothing is parsed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from migrator import conventions
from migrator.extractor.database.connection import Database
from migrator.extractor.database.models import registry_folder
from migrator.extractor.database.rows import column_of, pages, type_of
from migrator.extractor.database.schema import Orphans, SchemaReport
from migrator.extractor.database.workspaces import Workspaces
from migrator.issues import Code, Issue, Kind
from migrator.model import (
    AssetEntry,
    Entry,
    RegistryEntry,
    RunEntry,
    SourceIndex,
    TraceEntry,
)

EXPERIMENTS = "experiments"
E = TypeVar("E", bound=Entry)
_SEPARATORS = frozenset("/\\\0")


class Indexer:
    """Lists the entities of one database."""

    def __init__(
        self,
        database: Database,
        name: str,
        workspaces: Workspaces,
        on_progress: Callable[[int], None],
    ) -> None:
        self._database = database
        self._workspaces = workspaces
        self._name = name
        self._on_progress = on_progress
        self._folders: dict[str, str] = {}  # of experiments, by id
        self._issues: list[Issue] = []
        self._run_ids: dict[str, str] = {}  # so that an id that is also a parent's is one string

    def index(self) -> SourceIndex:
        """List everything. Rows that belong to nothing are named and not listed."""
        with self._database.snapshot():
            experiments = self._experiments()
            runs = tuple(self._runs())
            index = SourceIndex(
                root=self._name,
                experiments=experiments,
                runs=_sorted(runs),
                datasets=_sorted(self._entries("datasets", "dataset_uuid", Kind.DATASET)),
                traces=_sorted(self._traces()),
                logged_models=_sorted(
                    self._entries("logged_models", "model_id", Kind.LOGGED_MODEL)
                ),
                registered_models=_sorted(self._registered_models()),
                assets=(
                    *_sorted(self._evaluation_datasets()),
                    *_sorted(self._scorers()),
                    *_sorted(self._webhooks()),
                    *self._workspace_entries(),
                ),
                files=0,
                size_bytes=_size_bytes(self._name),
                ignored_files=0,
                issues=(
                    *self._issues,
                    *SchemaReport(self._database, self._name).issues(),
                    *self._workspaces.issues(self._name),
                    *Orphans(self._database, self._name).issues(),
                ),
            )
        self._on_progress(len(runs))
        return index

    def _experiments(self) -> tuple[Entry, ...]:
        folder = f"{self._name}/{EXPERIMENTS}"
        seen: dict[str, Entry] = {}
        columns = [
            column_of(self._database, EXPERIMENTS, column)
            for column in ("experiment_id", "workspace")
        ]
        for key, workspace in pages(self._database, "", columns, EXPERIMENTS, "experiment_id"):
            if not self._workspaces.takes(workspace):
                continue
            if not isinstance(key, int):
                self._reject(EXPERIMENTS, key, Kind.EXPERIMENT, "a whole number")
                continue
            experiment_id = str(key)
            seen.setdefault(experiment_id, Entry(experiment_id, folder, experiment_id))
            self._folders[experiment_id] = f"{folder}/{experiment_id}"
        return _sorted(seen.values())

    def _runs(self) -> Iterator[RunEntry]:
        database = self._database
        tag = f"t.{database.name('key')} = '{conventions.PARENT_RUN_ID}'"
        source = f"LEFT JOIN {database.name('tags')} t ON t.run_uuid = c.run_uuid AND {tag}"
        columns = ["c.run_uuid", "c.experiment_id", "t.value"]
        found = self._once("runs", "run_uuid", source, columns, Kind.RUN)
        for number, (run_id, home, parent) in enumerate(found, 1):
            run_id = self._run_ids.setdefault(run_id, run_id)
            parent_id = parent.strip() if isinstance(parent, str) else ""
            parent_id = self._run_ids.setdefault(parent_id, parent_id)
            folder = self._folders[home]
            yield RunEntry(run_id, folder, f"runs:{run_id}", home, False, parent_id or None)
            if number % 1000 == 0:
                self._on_progress(number)

    def _traces(self) -> Iterator[TraceEntry]:
        database = self._database
        source, run = "", "NULL"
        if database.has("trace_request_metadata", "request_id", "key", "value"):
            key = f"m.{database.name('key')} = '{conventions.SOURCE_RUN}'"
            source = f"LEFT JOIN trace_request_metadata m ON m.request_id = c.request_id AND {key}"
            run = "m.value"
        columns = ["c.request_id", "c.experiment_id", run]
        for trace_id, home, run_id in self._once(
            "trace_info", "request_id", source, columns, Kind.TRACE
        ):
            source_run = run_id if isinstance(run_id, str) else None
            folder = self._folders[home]
            yield TraceEntry(trace_id, folder, f"trace_info:{trace_id}", home, False, source_run)

    def _entries(self, table: str, key: str, kind: Kind) -> Iterator[Entry]:
        columns = [f"c.{self._database.name(key)}", "c.experiment_id", "NULL"]
        for entity_id, home, _ in self._once(table, key, "", columns, kind):
            yield Entry(entity_id, self._folders[home], f"{table}:{entity_id}", home)

    def _evaluation_datasets(self) -> Iterator[AssetEntry]:
        links: dict[object, list[str]] = {}
        if self._database.has("entity_associations", "source_id", "destination_id"):
            for dataset_id, experiment_id in self._database.rows(
                "SELECT source_id, destination_id FROM entity_associations WHERE "
                "source_type = 'evaluation_dataset' AND destination_type = 'experiment'"
            ):
                links.setdefault(dataset_id, []).append(str(experiment_id))
        for entry in self._shared_assets("evaluation_datasets", "dataset_id"):
            experiment_ids = tuple(sorted(links.get(entry.entity_id, ())))
            yield replace(entry, experiment_ids=experiment_ids)

    def _scorers(self) -> Iterator[AssetEntry]:
        columns = ["c.scorer_id", "c.experiment_id", "NULL"]
        for scorer_id, home, _ in self._once("scorers", "scorer_id", "", columns, Kind.SCORER):
            folder = self._folders[home]
            yield AssetEntry(scorer_id, folder, f"scorers:{scorer_id}", home, False, Kind.SCORER)

    def _webhooks(self) -> Iterator[AssetEntry]:
        for entry in self._shared_assets("webhooks", "webhook_id"):
            yield replace(entry, kind=Kind.WEBHOOK)

    def _workspace_entries(self) -> Iterator[AssetEntry]:
        folder = f"{self._name}/workspaces"
        for workspace in self._workspaces.rows():
            if isinstance(workspace, str):
                yield AssetEntry(workspace, folder, workspace, kind=Kind.WORKSPACE)
            else:
                self._reject("workspaces", workspace, Kind.WORKSPACE, "a text")

    def _shared_assets(self, table: str, key: str) -> Iterator[AssetEntry]:
        """List the rows of a table whose entities belong to no single experiment."""
        if not self._database.has(table, key):
            return
        seen: set[str] = set()
        columns = [column_of(self._database, table, column) for column in (key, "workspace")]
        for entity_id, workspace in pages(self._database, "", columns, table, key):
            if not self._workspaces.takes(workspace):
                continue
            if not isinstance(entity_id, str):
                kind = Kind.WEBHOOK if table == "webhooks" else Kind.EVALUATION_DATASET
                self._reject(table, entity_id, kind, "a text")
            elif entity_id not in seen:
                seen.add(entity_id)
                yield AssetEntry(entity_id, f"{self._name}/{table}", entity_id)

    def _once(
        self, table: str, key: str, source: str, columns: list[str], kind: Kind
    ) -> Iterator[tuple[str, str, object]]:
        """Yield id, experiment and a third value of each entity of a listed experiment, once.

        Of rows with one id the first is listed; ``read_…`` meets and counts the others.
        """
        if not self._database.has(table, key, "experiment_id"):
            return
        seen: set[str] = set()
        for entity_id, home, value in pages(self._database, source, columns, table, key):
            experiment_id = sys.intern(str(home))
            if experiment_id not in self._folders:
                continue  # named by ``Orphans`` or ``Workspaces``
            if not isinstance(entity_id, str):
                self._reject(table, entity_id, kind, "a text")
            elif not _is_file_name(entity_id):
                self._reject(table, entity_id, kind, "an id that MLflow accepts")
            elif entity_id not in seen:
                seen.add(entity_id)
                yield entity_id, experiment_id, value

    def _registered_models(self) -> Iterator[RegistryEntry]:
        table = "registered_models"
        if not self._database.has(table, "name"):
            return
        workspaces: list[object] = [None]
        if self._database.has(table, "workspace"):
            default = f"COALESCE(workspace, '{conventions.DEFAULT_WORKSPACE}')"
            found = self._database.rows(f"SELECT {default}, COUNT(*) FROM {table} GROUP BY 1")
            workspaces = [workspace for workspace, _ in found if isinstance(workspace, str)]
            for workspace, count in found:
                if not isinstance(workspace, str):
                    message = f"The workspace is {type_of(workspace)}, not a text."
                    path, kind = f"{self._name}/{table}.workspace", Kind.REGISTERED_MODEL
                    issue = Issue(Code.ROW_DAMAGED, path, message, "", kind, count=int(count))
                    self._issues.append(issue)
        for workspace in filter(self._workspaces.takes, workspaces):
            folder = registry_folder(self._name, workspace)
            home = self._workspaces.home(workspace)
            seen: set[str] = set()
            for (model,) in pages(self._database, "", ["c.name"], table, "name", workspace):
                if not isinstance(model, str):
                    self._reject(table, model, Kind.REGISTERED_MODEL, "a text")
                elif model not in seen:
                    seen.add(model)
                    yield RegistryEntry(model, folder, model, workspace=home)

    def _reject(self, table: str, key: object, kind: Kind, wanted: str) -> None:
        message = f"The key of the row is {type_of(key)}, not {wanted}."
        path = f"{self._name}/{table}/{key!r:.60}"
        self._issues.append(Issue(Code.ROW_DAMAGED, path, message, "", kind))


def _is_file_name(entity_id: str) -> bool:
    """Whether an id can name a directory. A database must not lead us to any that it names."""
    return entity_id not in ("", ".", "..") and not _SEPARATORS & set(entity_id)


def _sorted(entries: Iterable[E]) -> tuple[E, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _size_bytes(name: str) -> int:
    try:
        return os.path.getsize(name)
    except OSError:
        return 0  # on a server
