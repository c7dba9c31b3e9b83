"""Reads a conversion back through MLflow, and compares it with what was to be written.

``verify`` reads a source again as ``convert`` does, with a comparer in place of the writer. The
comparer gets every item that was decided, and looks each up with MLflow's own stores
(``mlflow.store.tracking`` and ``mlflow.store.model_registry``, 3.9 and later). It shares no code
with the writers, so that a mistake there is found here. An entity that the source lacks is not a
difference, because a database may be in use. Anything unexpected *inside* an expected run or trace
is one.

Some facts are in no MLflow entity: deletion time and source of a run, the span columns that
searches and charts read, token rows, datasets that no run uses. These, and the metric histories,
are read with MLflow's own table classes in the store's own session.

MLflow itself changes some values. These changes are not differences:

- A metric value of NaN is served as NaN; infinities as ±1.7976931348623157e308, the float nearest
  to them; -0.0 as 0.0 (SQLite). Points that are equal after that are one point. A logged model's
  metric has no NaN mark: MLflow keeps 0.0.
- The latest value of a metric is the point with the greatest step, time and encoded value. Where a
  NaN ties with 0.0, either is right.
- The message of a span is served only when its status is ERROR.
- The type of a span that has none is guessed from OpenTelemetry attributes as it is loaded; the
  same MLflow function is applied to what is expected.
- A model or version without a time, an experiment without one: any time is right.
- MLflow 3.17 and later keep a trace's session (cut to its column), token usage and cost in columns
  and serve them again as JSON, maybe in another order and without keys that are not numbers.
- Values in assessments that MLflow can't send over REST are made harmless (``conventions``).
- Keys that begin with ``migrator.``, and ``mlflow.experimentKind``, may be there unexpectedly. Tags
  that this tool gives an experiment may have another value: it never overwrites one.
- An experiment that was there before the conversion keeps its own fields and tags (see
  ``DatabaseComparer``).
- Of two items with one id, from two sources, the first is expected; of two equal edges between a
  run and a dataset or model, the first.

At the end MLflow's default ``search_traces`` is run on every experiment. A single trace that MLflow
can't load makes it raise for all of them, and a trace that it considers unfinished is left out
silently. Both are differences. Spans that were compared before are not read again (``ReadOnce``).

Not compared: inputs whose dataset the source does not have, and the model inputs of a run that
expects none (MLflow shows them run by run only).
"""

from migrator.verification.comparing import verify
from migrator.verification.database import DatabaseComparer
from migrator.verification.findings import (
    MAX_DIFFERENCES,
    MISSING,
    NOTHING,
    Difference,
    VerifyResult,
)
from migrator.verification.rest import RestComparer

__all__ = [
    "MAX_DIFFERENCES",
    "MISSING",
    "NOTHING",
    "DatabaseComparer",
    "Difference",
    "RestComparer",
    "VerifyResult",
    "verify",
]
