"""Adds the rows of a finished staging file to a database that is in use."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrator import conventions
from migrator.errors import LedgerError, TargetError
from migrator.issues import Code, Issue, Kind
from migrator.loader.publication import PublishOptions, Staged
from migrator.loader.rows import KINDS
from migrator.loader.sqlite import audit, clashes, model_names, seen, staging
from migrator.loader.sqlite.audit import quoted
from migrator.loader.sqlite.files import DatabaseFile, connect, reporting
from migrator.outcome.written import Written
from migrator.paths import readable_path

_WAIT_MS = 20_000  # as long as MLflow's own store waits for a lock
_EXAMPLES = 3
_CANONICAL = "canonical_json"  # SQL function

# Columns that don't come from the source: drawn at random, or stamped when written.
_INCIDENTAL = {
    "datasets": {"dataset_uuid"},
    "inputs": {"input_uuid"},
    "experiments": {"last_update_time"},
    "entity_associations": {"association_id", "created_time"},
    "webhooks": {"secret"},
}


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    json: frozenset[str]  # columns that hold JSON

    def matches(self, a: str, b: str) -> str:
        return " AND ".join(f"{a}.{quoted(c)} = {b}.{quoted(c)}" for c in self.key)

    @property
    def in_target(self) -> str:
        """SQL: the target has a row with the key of ``s``."""
        return (
            f"EXISTS (SELECT 1 FROM target.{quoted(self.name)} AS t WHERE {self.matches('t', 's')})"
        )


def merge(staged: Staged, target: DatabaseFile, options: PublishOptions) -> Written:
    """Add to the target every staged row that it lacks, in one transaction.

    What people changed or deleted in the target stays so (``seen``), other values follow the
    source. Traces that had not ended are brought up to date. Entities whose ids other entities of
    the target have are left out (``clashes``). Before the first change the target is copied to
    ``NAME.backup-REVISION-N``; if it lacks nothing, neither is done. Returns what the target had
    already. Raises TargetError and LedgerError.
    """
    db = staged.db
    db.execute(f"PRAGMA busy_timeout={_WAIT_MS}")
    db.execute("PRAGMA foreign_keys=ON")
    db.create_function(_CANONICAL, 1, _canonical_json, deterministic=True)
    db.execute("ATTACH DATABASE ? AS target", (readable_path(target.path),))
    db.execute("PRAGMA target.synchronous=FULL")
    result = Written()
    db.execute("BEGIN IMMEDIATE")
    try:
        _check_unchanged(db, target)
        _merge(staged, target, options, result)
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        if result.backup_path:  # nothing has changed, so it is of no use
            Path(result.backup_path).unlink(missing_ok=True)
        raise
    finally:
        with contextlib.suppress(sqlite3.OperationalError):
            db.execute("DETACH DATABASE target")
    return result


def _merge(staged: Staged, target: DatabaseFile, options: PublishOptions, result: Written) -> None:
    """Merge in an open transaction, and end it; fills ``result``."""
    db = staged.db
    seen.create(db, "target")
    result.add(model_names.settle(db))
    _adopt_ids(db)
    if not options.restore:
        result.add(seen.leave_out_deleted(db, options.source))
    tables = [_table(db, name) for name in audit.tables(db)]
    _check_names(db, target)
    if any(table.name == "trace_info" for table in tables):
        _keep_spans(db, result)  # first: an inferred root is not another trace
    result.add(clashes.leave_out(db))
    options.check_rejects(result.issues)
    seen.remember(db, options.source)
    seen.find_changes(db, options.source, restore=options.restore)
    missing = _count(db, tables, result)
    stale = _find_stale(db, tables)
    is_whole = not any(missing.values()) and not _latest_behind(db) and not stale
    renamed = _find_renamed(db) + len(result.renamed_models)
    has_news = renamed or seen.has_followers(db) or seen.is_behind(db)
    if is_whole and not has_news:
        result.issues += _differences(db, tables, staged.joined)
        db.execute("ROLLBACK")
        result.unchanged = True
        return
    if options.backup:
        # A connection of its own: ours holds the lock, under which others may still read.
        with contextlib.closing(connect(target.path, _WAIT_MS / 1000)) as source:
            result.backup_path = back_up(source, target.path, target.revision)
    result.issues += seen.changes_issues(db)
    seen.follow(db)
    if stale:
        result.issues += _update_traces(db, stale)
        missing = _count(db, tables, Written())
    _rename_experiments(db)
    result.issues += _differences(db, tables, staged.joined)
    _insert(db, target, tables, missing)
    _update_latest(db)
    seen.keep(db)
    seen.keep_state(db, "target", options.state, result.issues)
    options.committing()
    db.execute("COMMIT")


def _check_unchanged(db: sqlite3.Connection, target: DatabaseFile) -> None:
    revisions = [row[0] for row in db.execute("SELECT version_num FROM target.alembic_version")]
    if revisions != [target.revision]:
        raise TargetError(
            f"{target.path} was upgraded while the conversion ran; it was left as it is.",
            todo="Convert again.",
        )


def _table(db: sqlite3.Connection, name: str) -> _Table:
    ours = audit.columns(db, name)
    if not set(ours) <= set(audit.columns(db, name, "target")):
        raise TargetError(
            f"The target's table {name} is not as MLflow made it: columns are missing.",
            todo="Choose another target.",
        )
    info = db.execute(f"PRAGMA main.table_info({quoted(name)})")
    json_columns = frozenset(row[1] for row in info if row[2].upper() == "JSON")
    return _Table(name, ours, audit.key_columns(db, name), json_columns)


def _check_names(db: sqlite3.Connection, target: DatabaseFile) -> None:
    columns = _table(db, "experiments").columns
    workspace = " AND t.workspace = s.workspace" if "workspace" in columns else ""
    taken = db.execute(
        "SELECT s.name, s.experiment_id, t.experiment_id FROM main.experiments AS s "
        f"JOIN target.experiments AS t ON t.name = s.name{workspace} "
        # One that has its name there already may be in another workspace.
        "LEFT JOIN target.experiments AS o ON o.experiment_id = s.experiment_id "
        "WHERE t.experiment_id <> s.experiment_id AND o.name IS NOT s.name ORDER BY 1"
    ).fetchone()
    if taken:
        raise TargetError(
            f"The target has an experiment '{taken[0]}' of its own (id {taken[2]}; the source's "
            f"id is {taken[1]}).",
            todo="Say what to do with --on-conflict merge or --on-conflict rename.",
        )


def _find_renamed(db: sqlite3.Connection) -> int:
    """Find experiments that get another name in the target; fills ``temp.renamed``.

    They were renamed in the source, and not in the target, since a conversion wrote their tag
    ``migrator.source_experiment_name``. Returns how many there are.
    """
    db.execute("CREATE TEMP TABLE IF NOT EXISTS renamed (id INTEGER PRIMARY KEY)")
    db.execute("DELETE FROM temp.renamed")
    found = db.execute(
        "INSERT INTO temp.renamed SELECT s.experiment_id FROM main.experiments AS s "
        "JOIN target.experiments AS t ON t.experiment_id = s.experiment_id "
        "JOIN main.experiment_tags AS a ON a.experiment_id = s.experiment_id AND a.key = ? "
        "JOIN target.experiment_tags AS b ON b.experiment_id = s.experiment_id AND b.key = a.key "
        "WHERE s.name <> t.name AND a.value <> b.value",
        (conventions.MIGRATOR_SOURCE_NAME,),
    )
    return found.rowcount


def _rename_experiments(db: sqlite3.Connection) -> None:
    """Give the experiments that ``_find_renamed`` found the source's name."""
    db.execute(
        "UPDATE target.experiments AS t SET (name, last_update_time) = (SELECT name, "
        "last_update_time FROM main.experiments AS s WHERE s.experiment_id = t.experiment_id) "
        "WHERE t.experiment_id IN (SELECT id FROM temp.renamed)"
    )
    db.execute(
        "UPDATE target.experiment_tags AS t SET value = (SELECT value FROM main.experiment_tags "
        "AS s WHERE s.experiment_id = t.experiment_id AND s.key = t.key) "
        "WHERE t.key = ? AND t.experiment_id IN (SELECT id FROM temp.renamed)",
        (conventions.MIGRATOR_SOURCE_NAME,),
    )


def _adopt_ids(db: sqlite3.Connection) -> None:
    """Use the target's random ids of datasets and inputs in the staging file."""
    other = (
        "SELECT t.dataset_uuid FROM main.datasets AS d JOIN target.datasets AS t "
        "ON t.experiment_id = d.experiment_id AND t.name = d.name AND t.digest = d.digest "
        "WHERE t.dataset_uuid <> d.dataset_uuid AND d.dataset_uuid = main.inputs.source_id"
    )
    db.execute(
        f"UPDATE main.inputs SET source_id = ({other}) "
        f"WHERE source_type = 'DATASET' AND EXISTS ({other})"
    )
    key = ("source_type", "source_id", "destination_type", "destination_id")
    same = " AND ".join(f"t.{c} = i.{c}" for c in key)
    other = (
        f"SELECT t.input_uuid FROM main.inputs AS i JOIN target.inputs AS t ON {same} "
        "WHERE t.input_uuid <> i.input_uuid AND i.input_uuid = main.input_tags.input_uuid"
    )
    db.execute(f"UPDATE main.input_tags SET input_uuid = ({other}) WHERE EXISTS ({other})")
    _adopt_scorers(db)
    db.execute(  # records of one dataset with the same inputs are one
        "UPDATE OR IGNORE main.evaluation_dataset_records AS s SET dataset_record_id = "
        "t.dataset_record_id FROM target.evaluation_dataset_records AS t "
        "WHERE t.dataset_id = s.dataset_id AND t.input_hash = s.input_hash"
    )


def _adopt_scorers(db: sqlite3.Connection) -> None:
    """Use the target's ids of scorers that have the same name in the same experiment."""
    found = db.execute(
        "SELECT t.scorer_id, s.scorer_id FROM main.scorers AS s JOIN target.scorers AS t "
        "ON t.experiment_id = s.experiment_id AND t.scorer_name = s.scorer_name "
        "WHERE t.scorer_id <> s.scorer_id"
    ).fetchall()
    if not found:
        return
    db.execute("PRAGMA defer_foreign_keys=ON")
    for table in ("scorers", "scorer_versions"):
        db.executemany(f"UPDATE main.{table} SET scorer_id = ? WHERE scorer_id = ?", found)


# The ids of traces whose only span was inferred from the fields of the trace itself.
_INFERRED = (
    "SELECT request_id FROM {}.trace_tags "
    f"WHERE key = '{conventions.MIGRATOR_INFERENCES}' AND value = '{conventions.INFERRED_ROOT}'"
)


def _keep_spans(db: sqlite3.Connection, result: Written) -> None:
    """Leave out the inferred root of a trace whose spans the target has; count it as there."""
    db.execute("DROP TABLE IF EXISTS temp.whole_traces")
    db.execute(
        "CREATE TEMP TABLE whole_traces AS SELECT t.trace_id AS id FROM target.spans AS t "
        f"WHERE t.trace_id IN ({_INFERRED.format('main')}) "
        f"AND t.trace_id NOT IN ({_INFERRED.format('target')})"
    )
    of_whole = "IN (SELECT id FROM temp.whole_traces)"
    spans = db.execute(f"DELETE FROM main.spans WHERE trace_id {of_whole}")
    result.already_there[Kind.SPAN] += spans.rowcount
    tags = db.execute(
        f"DELETE FROM main.trace_tags WHERE request_id {of_whole} AND key = ?",
        (conventions.MIGRATOR_INFERENCES,),
    )
    result.already_there[Kind.TRACE_TAG] += tags.rowcount


def _count(db: sqlite3.Connection, tables: Sequence[_Table], result: Written) -> Counter[str]:
    """Count the rows that the target has into ``result``; return how many it lacks, by table."""
    missing: Counter[str] = Counter()
    slices: dict[str, list[audit.Slice]] = {}
    for one in audit.SLICES:
        slices.setdefault(one.table, []).append(one)
    for table in tables:
        found = db.execute(
            f"SELECT count(*) FROM main.{quoted(table.name)} AS s WHERE NOT {table.in_target}"
        )
        missing[table.name] = found.fetchone()[0]
        for kind, _, condition, rebuilt in slices.get(table.name, ()):
            found = db.execute(
                f"SELECT count(*) FROM main.{table.name} AS s "
                f"WHERE {condition} AND {table.in_target}"
            )
            counter = result.rebuilt_already_there if rebuilt else result.already_there
            counter[kind] += found.fetchone()[0]
    _count_promoted(db, result)
    return missing


def _count_promoted(db: sqlite3.Connection, result: Written) -> None:
    """Count the rows of the target's traces that a newer schema keeps in columns."""
    found = db.execute(
        "SELECT p.tbl, p.trace_id IN (SELECT trace_id FROM temp.native), sum(p.n) "
        "FROM temp.promoted AS p JOIN target.trace_info AS t ON t.request_id = p.trace_id "
        "GROUP BY 1, 2"
    )
    for table, native, n in found.fetchall():
        counter = result.already_there if native else result.rebuilt_already_there
        counter[KINDS[table]] += n


# ------------------------------------------------------------- traces that had not ended

TRACE_PARTS = {  # tables of a trace's parts -> the column that names it
    "spans": "trace_id",
    "trace_metrics": "request_id",
    "trace_request_metadata": "request_id",
    "trace_tags": "request_id",
}


def _find_stale(db: sqlite3.Connection, tables: Sequence[_Table]) -> dict[str, _Table]:
    """Find traces that are unfinished in the target and differ in the source.

    Fills ``temp.stale_traces``; returns the tables by name, none if nothing is stale. A rebuilt
    trace is also stale when it lacks a span, because a run has joined its tree since. So is a
    native trace with an inferred root whose spans the source has now.
    """
    by_name = {table.name: table for table in tables}
    db.execute("CREATE TEMP TABLE IF NOT EXISTS stale_traces (id TEXT PRIMARY KEY)")
    db.execute("DELETE FROM temp.stale_traces")
    if "trace_info" in by_name:
        lacks = " OR ".join(
            f"EXISTS (SELECT 1 FROM main.{name} AS a WHERE a.{column} = s.request_id "
            f"AND NOT EXISTS (SELECT 1 FROM target.{name} AS b WHERE {same}))"
            for name, column, same in (
                (
                    "spans",
                    "trace_id",
                    "b.trace_id = a.trace_id AND b.span_id = a.span_id AND b.content = a.content",
                ),
                (
                    "trace_tags",
                    "request_id",
                    "b.request_id = a.request_id AND b.key = a.key AND b.value = a.value",
                ),
            )
        )
        tag = "SELECT 1 FROM target.trace_tags AS g WHERE g.request_id = t.request_id AND g.key"
        db.execute(
            "INSERT INTO temp.stale_traces SELECT s.request_id FROM main.trace_info AS s "
            "JOIN target.trace_info AS t ON t.request_id = s.request_id "
            "WHERE s.request_id NOT IN (SELECT id FROM temp.whole_traces) "
            f"AND ({lacks}) AND (t.status = 'IN_PROGRESS' "
            f"OR EXISTS ({tag} = '{conventions.MIGRATOR_UNFINISHED}') "
            f"OR (t.request_id IN ({_INFERRED.format('target')}) "
            f"AND t.request_id NOT IN ({_INFERRED.format('main')})) "
            f"OR (EXISTS ({tag} = '{conventions.MIGRATOR_ROOT_RUN}') AND EXISTS ("
            "SELECT 1 FROM main.spans AS a WHERE a.trace_id = s.request_id AND NOT EXISTS ("
            "SELECT 1 FROM target.spans AS b WHERE b.trace_id = a.trace_id "
            "AND b.span_id = a.span_id))))"
        )
    found = db.execute("SELECT 1 FROM temp.stale_traces LIMIT 1").fetchone()
    return by_name if found else {}


def _update_traces(db: sqlite3.Connection, by_name: Mapping[str, _Table]) -> list[Issue]:
    """Update stale traces, and delete their parts that came from the source. Returns an issue.

    Those are inserted again. What people added or changed in the target (assessments, tags) stays.
    """
    info = by_name["trace_info"]
    values = ", ".join(quoted(c) for c in info.columns if c not in info.key)
    db.execute(
        f"UPDATE target.trace_info AS t SET ({values}) = (SELECT {values} FROM "
        "main.trace_info AS s WHERE s.request_id = t.request_id) "
        "WHERE t.request_id IN (SELECT id FROM temp.stale_traces)"
    )
    if "assessments" in by_name:  # ours, such as totals; one that was marked invalid stays so
        kept = (*by_name["assessments"].key, "valid")
        values = ", ".join(quoted(c) for c in by_name["assessments"].columns if c not in kept)
        db.execute(
            f"UPDATE target.assessments AS t SET ({values}) = (SELECT {values} FROM "
            "main.assessments AS s WHERE s.assessment_id = t.assessment_id) "
            "WHERE t.trace_id IN (SELECT id FROM temp.stale_traces) "
            "AND t.assessment_id IN (SELECT assessment_id FROM main.assessments) "
            f"AND NOT {seen.is_of_people('assessments', by_name['assessments'].key)}"
        )
    is_ours = (
        "(t.key LIKE 'migrator.%' OR EXISTS (SELECT 1 FROM main.trace_tags AS s "
        "WHERE s.request_id = t.request_id AND s.key = t.key)) "
        f"AND NOT {seen.is_of_people('trace_tags', ('key', 'request_id'))}"
    )
    for name, column in TRACE_PARTS.items():
        condition = f" AND ({is_ours})" if name == "trace_tags" else ""
        db.execute(
            f"DELETE FROM target.{name} AS t "
            f"WHERE t.{column} IN (SELECT id FROM temp.stale_traces){condition}"
        )
    return _stale_issues(db)


def _stale_issues(db: sqlite3.Connection) -> list[Issue]:
    ids = [row[0] for row in db.execute("SELECT id FROM temp.stale_traces ORDER BY id")]
    named = ", ".join(ids[:_EXAMPLES]) + (", …" if len(ids) > _EXAMPLES else "")
    return [
        Issue(
            Code.TARGET_UPDATED,
            "",
            f"{len(ids)} of kind {Kind.TRACE.value} had not ended or lacked spans: {named}.",
            kept="what the source has now",
            kind=Kind.TRACE,
            entity_id=ids[0],
            count=len(ids),
        )
    ]


# MLflow's rule for the latest metric: the greatest (step, timestamp, value).
_BEHIND = (
    "FROM main.latest_metrics AS s JOIN target.latest_metrics AS t "
    "ON t.key = s.key AND t.run_uuid = s.run_uuid "
    "WHERE (s.step, s.timestamp, s.value) > (t.step, t.timestamp, t.value)"
)


def _latest_behind(db: sqlite3.Connection) -> int:
    return int(db.execute(f"SELECT count(*) {_BEHIND}").fetchone()[0])


def _update_latest(db: sqlite3.Connection) -> None:
    db.execute(
        "UPDATE target.latest_metrics AS t SET (value, timestamp, step, is_nan) = "
        "(s.value, s.timestamp, s.step, s.is_nan) FROM main.latest_metrics AS s "
        "WHERE t.key = s.key AND t.run_uuid = s.run_uuid "
        "AND (s.step, s.timestamp, s.value) > (t.step, t.timestamp, t.value)"
    )


def _differences(
    db: sqlite3.Connection, tables: Sequence[_Table], joined: Collection[int]
) -> list[Issue]:
    """Return an issue for each kind of row that has other values in the target."""
    issues = []
    for table in tables:
        kind = KINDS.get(table.name)
        watched = seen.watched_columns(table.name)
        skipped = _INCIDENTAL.get(table.name, set()) | set(table.key) | watched
        compared = [column for column in table.columns if column not in skipped]
        conditions = [_differs(quoted(column), column in table.json) for column in compared]
        if watched:
            conditions.append(seen.unknown_difference(table.name))
        if kind is None or not conditions:
            continue
        condition = " OR ".join(conditions)
        if table.name == "experiment_tags":
            condition = (
                f"({condition}) AND (s.key, s.experiment_id) NOT IN "
                "(SELECT key, experiment_id FROM temp.own_tags)"
            )
        key = ", ".join(f"s.{quoted(c)}" for c in table.key)
        found = db.execute(
            f"SELECT {key} FROM main.{table.name} AS s JOIN target.{table.name} AS t "
            f"ON {table.matches('t', 's')} WHERE {condition} ORDER BY {key}"
        )
        different = [row for row in found if table.name != "experiments" or row[0] not in joined]
        if different:
            named = ["/".join(map(str, row)) for row in different[:_EXAMPLES]]
            more = ", …" if len(different) > len(named) else ""
            issues.append(
                Issue(
                    Code.TARGET_DIFFERS,
                    "",
                    f"The target has {len(different)} of kind {kind.value} with other values: "
                    f"{', '.join(named)}{more}.",
                    kept="what the target has",
                    kind=kind,
                    entity_id=named[0],
                    count=len(different),
                )
            )
    return issues


def _differs(column: str, is_json: bool) -> str:
    """SQL: a row ``s`` has another value than ``t``; servers write JSON in forms of their own."""
    if not is_json:
        return f"s.{column} IS NOT t.{column}"
    return f"{_CANONICAL}(s.{column}) IS NOT {_CANONICAL}(t.{column})"


def _canonical_json(text: Any) -> Any:
    """JSON text with sorted keys; text that is not JSON stays as it is."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return text


def _insert(
    db: sqlite3.Connection, target: DatabaseFile, tables: Sequence[_Table], missing: Counter[str]
) -> None:
    for table in tables:
        if not missing[table.name]:
            continue
        columns = ", ".join(map(quoted, table.columns))
        try:
            added = db.execute(
                f"INSERT INTO target.{quoted(table.name)} ({columns}) "
                f"SELECT {columns} FROM main.{quoted(table.name)} AS s WHERE NOT {table.in_target}"
            ).rowcount
        except sqlite3.IntegrityError as error:
            raise TargetError(
                f"{target.path} refuses rows of table {table.name} ({error}); it was left as it "
                "is.",
                todo="Convert into a new database, and report this with the message.",
            ) from error
        if added != missing[table.name]:
            raise LedgerError(
                f"{added} rows went into table {table.name} where {missing[table.name]} were "
                "missing; the target was left as it is."
            )


def back_up(source: sqlite3.Connection, path: str, revision: str) -> str:
    """Copy a database to ``NAME.backup-REVISION-N``, which appears when it is complete.

    ``source`` is a connection to the database in ``path``. Until it is complete, the copy has a
    staging file's name and is removed like one. Returns the backup's path.
    """
    file = staging.StagingFile(path)
    try:
        with reporting(file.path):
            with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous=OFF")  # it is synced when it gets its name
                source.backup(copy)
            Path(file.path).chmod(Path(path).stat().st_mode & 0o777)
            number = 1
            while not staging.publish_new(file.path, f"{path}.backup-{revision}-{number}"):
                number += 1
    finally:
        file.remove()
    return f"{path}.backup-{revision}-{number}"
