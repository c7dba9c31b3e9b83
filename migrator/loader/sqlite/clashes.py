"""Finds entities of the source whose id belongs to a different entity in the target.

A run that was converted before may have grown since: it ended, or got metric points, params, tags
or another name. It is still the run that the target has, and gets what it lacks there. A different
run with the same id must not be added: it would mix with the target's. Two entities are different
if they contradict one another in something that MLflow never changes once it is written: the
experiment, the start or creation time, the values of params and metric points. The source's is then
left out completely. A value that is unknown on one side contradicts nothing.
``migrator.pipeline.copies`` has the same rule for records.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from migrator import conventions, encoding
from migrator.issues import Code, Issue, Kind
from migrator.loader.owners import ROOTS, owner_of
from migrator.loader.rows import KINDS
from migrator.loader.sqlite import audit
from migrator.loader.sqlite.audit import quoted
from migrator.loader.sqlite.seen import UNFINISHED
from migrator.loader.sqlite.taking_out import create_marks, take_out, version_id
from migrator.outcome.written import Written

_OUR_ROOT = "migrator_root_span"  # SQL function: the id of a root span that we added to a trace


def _lacks(table: str, one: str, other: str, owner: str, keys: Sequence[str]) -> str:
    """SQL: database ``one`` has a row of the entity ``s`` that ``other`` lacks."""
    same = " AND ".join(f"b.{key} = a.{key}" for key in keys)
    return (
        f"EXISTS (SELECT 1 FROM {one}.{table} AS a WHERE a.{owner} = s.{owner} "
        f"AND NOT EXISTS (SELECT 1 FROM {other}.{table} AS b WHERE {same}))"
    )


def _params(table: str, owner: str, key: str, value: str) -> str:
    """SQL: params contradict one another, or each side has one that the other lacks."""
    keys = (owner, key)
    return (
        f"EXISTS (SELECT 1 FROM main.{table} AS a JOIN target.{table} AS b "
        f"ON b.{owner} = a.{owner} AND b.{key} = a.{key} "
        f"WHERE a.{owner} = s.{owner} AND a.{value} IS NOT b.{value}) "
        f"OR {_lacks(table, 'main', 'target', owner, keys)} "
        f"AND {_lacks(table, 'target', 'main', owner, keys)}"
    )


_HAS_SPANS = (
    "EXISTS (SELECT 1 FROM {0}.spans AS a WHERE a.trace_id = s.request_id "
    f"AND a.span_id <> {_OUR_ROOT}(a.trace_id))"
)
_COMMON_SPAN = (
    "EXISTS (SELECT 1 FROM main.spans AS a JOIN target.spans AS b ON b.trace_id = a.trace_id "
    f"AND b.span_id = a.span_id WHERE a.trace_id = s.request_id "
    f"AND a.span_id <> {_OUR_ROOT}(a.trace_id))"
)
_TRACE_TAG = (
    "EXISTS (SELECT 1 FROM target.trace_tags AS g WHERE g.request_id = s.request_id AND g.key = "
    f"'{conventions.MIGRATOR_UNFINISHED}')"
)
_ELSEWHERE = (
    "s.experiment_id <> t.experiment_id",
    "'it belongs to experiment ' || t.experiment_id || ' there'",
)
# For each kind of entity, conditions under which a row ``s`` of the source and a row ``t`` of the
# target are different entities, each with SQL for the reason.
_CONTRADICTIONS = {
    "runs": (
        _ELSEWHERE,
        ("s.start_time <> t.start_time", "'it started at another time there'"),
        (_params("params", "run_uuid", "key", "value"), "'it has other params there'"),
        (
            "s.run_uuid IN (SELECT id FROM temp.other_points)",
            "'it has other metric points there'",
        ),
    ),
    "logged_models": (
        _ELSEWHERE,
        (
            "s.creation_timestamp_ms <> t.creation_timestamp_ms",
            "'it was created at another time there'",
        ),
        ("s.source_run_id <> t.source_run_id", "'another run made it there'"),
        (
            _params("logged_model_params", "model_id", "param_key", "param_value"),
            "'it has other params there'",
        ),
        (
            "EXISTS (SELECT 1 FROM main.logged_model_metrics AS a "
            "JOIN target.logged_model_metrics AS b ON b.model_id = a.model_id "
            "AND b.metric_name = a.metric_name AND b.metric_step = a.metric_step "
            "AND b.metric_timestamp_ms = a.metric_timestamp_ms AND b.run_id = a.run_id "
            "WHERE a.model_id = s.model_id AND a.metric_value <> b.metric_value)",
            "'it has other metric points there'",
        ),
    ),
    "trace_info": (
        _ELSEWHERE,
        ("s.timestamp_ms <> t.timestamp_ms", "'it began at another time there'"),
        (
            "s.client_request_id <> t.client_request_id AND t.client_request_id <> ''",
            "'it is of another request there'",
        ),
        (
            f"t.status <> 'IN_PROGRESS' AND NOT {_TRACE_TAG} AND {_HAS_SPANS.format('main')} "
            f"AND {_HAS_SPANS.format('target')} AND NOT {_COMMON_SPAN}",
            "'it has other spans there'",
        ),
    ),
    "registered_models": (
        ("s.creation_time <> t.creation_time", "'it was created at another time there'"),
    ),
    "evaluation_datasets": (
        ("s.created_time <> t.created_time", "'it was created at another time there'"),
    ),
    "webhooks": (
        ("s.creation_timestamp <> t.creation_timestamp", "'it was created at another time there'"),
    ),
    "model_versions": (
        ("s.creation_time <> t.creation_time", "'it was created at another time there'"),
        (
            "s.run_id <> t.run_id AND t.run_id <> '' AND t.current_stage <> 'Deleted_Internal'",
            "'another run made it there'",
        ),
    ),
}


def leave_out(db: sqlite3.Connection) -> Written:
    """Delete entities of the main database whose ids belong to different entities in ``target``.

    Runs in the caller's transaction. Returns the rejected counts, and an issue for each kind of
    row of each entity.
    """
    db.create_function(
        _OUR_ROOT, 1, lambda trace_id: encoding.span_id_of(trace_id, "root"), deterministic=True
    )
    _find_other_points(db)
    left_out = Written()
    create_marks(db, "clash")
    for root in _CONTRADICTIONS.keys() & ROOTS.keys():
        _find(db, root, owner_of(db, root).sql)
    _find(db, "model_versions", version_id(db, "model_versions"))
    db.execute(  # traces that were rebuilt from such runs; natives are judged by themselves
        "INSERT OR IGNORE INTO temp.clash_trace_info SELECT request_id, 'its run is another one' "
        "FROM main.trace_info WHERE request_id NOT IN (SELECT trace_id FROM temp.native) AND "
        "(request_id IN (SELECT 'tr-' || id FROM temp.clash_runs) OR request_id IN ("
        "SELECT request_id FROM main.trace_request_metadata WHERE key = ? AND value IN "
        "(SELECT id FROM temp.clash_runs)))",
        (conventions.SOURCE_RUN,),
    )

    def count(owner: str, entity_id: object, kind: Kind, number: int, *, rebuilt: bool) -> None:
        if rebuilt:
            left_out.rebuilt_rejected[kind] += number
        else:
            _reject(db, left_out, owner, str(entity_id), kind, number)

    take_out(db, "clash", count)
    return left_out


def _find_other_points(db: sqlite3.Connection) -> None:
    """Find ended runs where each side has points of one metric that the other lacks.

    A run that still goes on may have been read while it was written, so it proves nothing.
    """
    db.execute("CREATE TEMP TABLE IF NOT EXISTS other_points (id TEXT PRIMARY KEY)")
    db.execute("DELETE FROM temp.other_points")
    keys = audit.key_columns(db, "metrics")
    same = " AND ".join(f"b.{quoted(key)} = a.{quoted(key)}" for key in keys)
    db.execute(
        "INSERT OR IGNORE INTO temp.other_points SELECT p.run_uuid FROM ("
        "SELECT DISTINCT a.run_uuid, a.key FROM main.metrics AS a "
        "JOIN target.runs AS t ON t.run_uuid = a.run_uuid "
        f"WHERE t.status NOT IN {UNFINISHED} "
        f"AND NOT EXISTS (SELECT 1 FROM target.metrics AS b WHERE {same})) AS p "
        "WHERE EXISTS (SELECT 1 FROM target.metrics AS a "
        "WHERE a.run_uuid = p.run_uuid AND a.key = p.key "
        f"AND NOT EXISTS (SELECT 1 FROM main.metrics AS b WHERE {same}))"
    )


def _find(db: sqlite3.Connection, table: str, entity_id: str) -> None:
    """Fill ``temp.clash_TABLE`` with the ids (SQL of ``s``) that clash, and the reasons."""
    cases = " ".join(f"WHEN {condition} THEN {why}" for condition, why in _CONTRADICTIONS[table])
    keys = audit.key_columns(db, table)
    same = " AND ".join(f"t.{quoted(key)} = s.{quoted(key)}" for key in keys)
    condition = "1"
    if table == "trace_info":
        condition = "s.request_id IN (SELECT trace_id FROM temp.native)"
    elif table == "model_versions":
        model_id = owner_of(db, table).sql
        condition = f"{model_id} NOT IN (SELECT id FROM temp.clash_registered_models)"
    db.execute(
        f"INSERT INTO temp.clash_{table} SELECT id, why FROM (SELECT {entity_id} AS id, "
        f"CASE {cases} END AS why FROM main.{table} AS s JOIN target.{table} AS t ON {same} "
        f"WHERE {condition}) WHERE why IS NOT NULL"
    )


def _reject(
    db: sqlite3.Connection, left_out: Written, owner: str, entity_id: str, kind: Kind, count: int
) -> None:
    why = db.execute(f"SELECT why FROM temp.clash_{owner} WHERE id = ?", (entity_id,)).fetchone()[0]
    left_out.rejected[kind] += count
    left_out.issues.append(
        Issue(
            Code.ENTITY_CLASHES,
            "",
            f"The target has another {KINDS[owner].value} {entity_id}: {why}.",
            kept="what the target has",
            kind=kind,
            entity_id=entity_id,
            count=count,
        )
    )
