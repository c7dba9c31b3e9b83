"""Where entities belong: the part of an index that is sent to another process."""

from __future__ import annotations

from migrator.extractor import open_source
from migrator.model import Entry, ExperimentPlan
from migrator.pipeline.indexes import ExperimentIndex
from migrator.pipeline.stores import Store
from tests.support.fixturekit import store


def test_a_part_knows_the_same_about_its_entities_and_nothing_of_others() -> None:
    with open_source(str(store("3.1.4-models"))) as source:
        whole_store = Store(0, source.index(), source)
        index = ExperimentIndex([whole_store])
        for entry in whole_store.index.experiments:
            record = source.read_experiment(entry).record
            assert record is not None
            index.plans[entry.path] = ExperimentPlan(record, 1, record.name, "", {})
        assert len(index.plans) > 1
        first = whole_store.index.runs[0]
        moved = Entry("m", "/elsewhere", "m", first.experiment_id)
        part = index.part([(whole_store, first), (whole_store, moved)])
        folder = index.folder_of(whole_store, first)
        assert list(part.plans) == [folder]
        assert part.folder_of(whole_store, first) == folder
        assert part.folder_of(whole_store, moved) == index.folder_of(whole_store, moved) == folder
        other = next(e for e in whole_store.index.experiments if e.path != folder)
        inside = Entry("r", other.path, "r", other.entity_id)
        assert part.plan_of(whole_store, inside) is None
