"""Records of a very large tree: what plans need of what was read, shared where it is equal."""

from __future__ import annotations

from dataclasses import replace

from migrator.extractor import open_source
from migrator.pipeline.small_records import SharedKeys, SmallRecords
from tests.support.fixturekit import store


def test_a_small_record_has_what_plans_need_and_shares_what_is_equal() -> None:
    with open_source(str(store("2.22.5-agents"))) as source:
        entries = source.index().runs
        runs = [each.record for each in source.read_runs(entries, lambda path: True)]
    small_records = SmallRecords()
    found = [(run, small_records.small(run)) for run in runs if run is not None]
    assert len(found) > 3
    texts: dict[str, int] = {}
    for run, small in found:
        artifact_dir = run.artifact_dir if run.artifacts else None
        assert small == replace(run, artifact_uri="", artifact_dir=artifact_dir)
        assert list(small.tags) == list(run.tags)
        for text in small.tags.values():
            assert texts.setdefault(text, id(text)) == id(text)


def test_a_mapping_with_shared_keys_is_a_mapping() -> None:
    places = {"a": 0, "b": 1}
    mapping = SharedKeys(places, ("x", "y"))
    assert mapping == {"a": "x", "b": "y"} and len(mapping) == 2
    assert mapping.get("c") is None and "c" not in mapping
