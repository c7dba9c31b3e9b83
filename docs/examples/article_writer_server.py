"""The article writer, tracked on an MLflow server; in a local database while that is away.

python article_writer_server.py http://127.0.0.1:5000
"""

from __future__ import annotations

import sys

from article_writer import SETTINGS, WORKFLOW, write_article

from migrator.tracker import MLFlowTracker


def main() -> None:
    """Write one article, and say where its trace is."""
    server = sys.argv[1]
    tracker = MLFlowTracker(
        SETTINGS, WORKFLOW, tracking_uri=server, fallback_uri="sqlite:///fallback.db"
    )
    write_article(tracker, "bees")
    tracker.flush()
    status = tracker.status()
    print(f"{tracker.last_trace_id} is in {status.tracking_uri}")
    if status.fallback_reason is not None:
        print(f"Later: mlflow-migrate push {status.tracking_uri} --to {server}")


if __name__ == "__main__":
    main()
