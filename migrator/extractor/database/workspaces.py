"""Workspaces of a database (MLflow 3.10 and later): all are read, or one and the others counted.

Names are unique in a workspace only, and a workspace may be closed to those who see another. So
what several hold is never mixed: where the target has no workspaces, one is read. An older database
has none either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from migrator.conventions import DEFAULT_WORKSPACE
from migrator.errors import SourceError
from migrator.extractor.database.connection import Database
from migrator.issues import Code, Issue, Kind

_DEFAULT_DESCRIPTION = "Default workspace for legacy resources"  # as MLflow writes it
_VARIABLE = "MLFLOW_WORKSPACE"  # MLflow's own, which also chooses that of a server

# What belongs to a workspace: by a column of its own, or by its experiment.
_OWN: Mapping[str, Kind] = {
    "experiments": Kind.EXPERIMENT,
    "registered_models": Kind.REGISTERED_MODEL,
    "model_versions": Kind.MODEL_VERSION,
    "evaluation_datasets": Kind.EVALUATION_DATASET,
    "webhooks": Kind.WEBHOOK,
}
_OF_EXPERIMENT: Mapping[str, Kind] = {
    "runs": Kind.RUN,
    "datasets": Kind.DATASET,
    "logged_models": Kind.LOGGED_MODEL,
    "trace_info": Kind.TRACE,
    "scorers": Kind.SCORER,
}


def chosen_workspace(database: Database, name: str, *, kept: bool) -> str | None:
    """The workspace to read of a database, None for all.

    It is that in MLFLOW_WORKSPACE, else all of them if they are ``kept``, or the default one.
    Raises SourceError where the database has workspaces, but not the one in the variable.
    """
    named = os.environ.get(_VARIABLE)
    if not named and kept:
        return None
    workspace = named or DEFAULT_WORKSPACE
    if workspace == DEFAULT_WORKSPACE or not database.has("workspaces", "name"):
        return workspace
    there = sorted(str(row[0]) for row in database.rows("SELECT name FROM workspaces"))
    if workspace not in there:
        raise SourceError(
            f"{name} has no workspace {workspace!r}, which {_VARIABLE} names; it has: "
            f"{', '.join(there)}.",
            todo=f"Change or unset {_VARIABLE}.",
        )
    return workspace


@dataclass(frozen=True, slots=True)
class Workspaces:
    """Which workspace of a database is read; ``chosen`` is None for all of them.

    With ``kept`` what is read stays in its workspace; otherwise it comes into the default one.
    """

    database: Database
    chosen: str | None
    kept: bool

    def takes(self, workspace: object) -> bool:
        """Whether the rows of a workspace are read; None is that of a schema without any."""
        return self.chosen is None or workspace in (None, self.chosen)

    def home(self, workspace: object) -> str:
        """The workspace in which what is read of a workspace is to be."""
        if self.kept and isinstance(workspace, str):
            return workspace
        return DEFAULT_WORKSPACE

    def rows(self) -> Iterator[object]:
        """Yield the keys of the workspaces to carry; MLflow itself makes the default one."""
        if not self.kept or not self.database.has("workspaces", "name"):
            return
        for (name,) in self.database.rows("SELECT name FROM workspaces ORDER BY name"):
            if name != DEFAULT_WORKSPACE and self.takes(name):
                yield name

    def issues(self, name: str) -> Iterator[Issue]:
        """Yield an issue for each kind of thing in each other workspace, with its number.

        One workspace that was not asked for is a loss; what is left out on request is a note. What
        was changed in the row of the default one is named too: every target has that row.
        """
        if self._is_default_changed():
            yield Issue(
                Code.TABLE_NOT_CARRIED,
                f"{name}/workspaces/{DEFAULT_WORKSPACE}",
                "The description, artifact root and archive of the default workspace stay here: "
                "the target has its own.",
            )
        if self.chosen is None or not self.database.has("experiments", "workspace"):
            return
        code = Code.WORKSPACE_NOT_CHOSEN if os.environ.get(_VARIABLE) else Code.WORKSPACE_LEFT
        for workspace, kind, count in self._others():
            yield Issue(
                code,
                f"{name}/workspaces/{workspace}",
                f"{count:,} of kind {kind.value} in workspace {workspace}; {self.chosen} is read.",
                "",
                kind,
                count=count,
            )

    def _is_default_changed(self) -> bool:
        """Whether the default workspace, which is read, is not as MLflow made it."""
        columns = ("default_artifact_root", "trace_archival_location", "trace_archival_retention")
        there = [column for column in columns if self.database.has("workspaces", column)]
        if not self.kept or not self.database.has("workspaces", "name", "description"):
            return False
        changed = " OR ".join(["description <> ?", *(f"{column} IS NOT NULL" for column in there)])
        sql = f"SELECT COUNT(*) FROM workspaces WHERE name = ? AND ({changed})"
        values = [DEFAULT_WORKSPACE, _DEFAULT_DESCRIPTION]
        return self.takes(DEFAULT_WORKSPACE) and self.database.number(sql, values) > 0

    def _others(self) -> Iterator[tuple[str, Kind, int]]:
        """Yield workspace, kind and number of what is in other workspaces."""
        quoted = self.database.name
        for table, kind in _OWN.items():
            if self.database.has(table, "workspace"):
                source = f"{quoted(table)} w"
                yield from self._counts(source, kind)
        for table, kind in _OF_EXPERIMENT.items():
            if self.database.has(table, "experiment_id"):
                on = "w.experiment_id = c.experiment_id"
                yield from self._counts(f"{quoted(table)} c JOIN experiments w ON {on}", kind)

    def _counts(self, source: str, kind: Kind) -> Iterator[tuple[str, Kind, int]]:
        sql = (
            f"SELECT w.workspace, COUNT(*) FROM {source} WHERE w.workspace <> ? "
            "GROUP BY w.workspace ORDER BY w.workspace"
        )
        for workspace, count in self.database.rows(sql, [self.chosen]):
            yield str(workspace), kind, int(count)
