"""Compares what was to be written with an MLflow server, for ``convert --to http://…``.

Ids are translated by the tags that the conversion left. What the API has no field for is compared
with the tag that keeps it, and counted as an exception where nothing keeps it. It shares no code
with what writes to servers. ``comparer`` takes the items, ``runs``, ``models``, ``traces``
and ``assets`` compare them.

Not compared: contents of artifacts (their names and sizes are), datasets that no run uses, links of
traces to prompts, and whether a logged model is deleted.
"""

from migrator.verification.rest.comparer import RestComparer

__all__ = ["RestComparer"]
