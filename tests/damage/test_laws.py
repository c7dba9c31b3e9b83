"""The laws over whole stores that are made and damaged at random, and over mutated bytes.

``MIGRATOR_FUZZ`` sets the number of mutated files (10,000 and more by hand, a few in CI).
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator import pipeline
from migrator.errors import SourceError
from migrator.extractor.filestore import FileStoreSource
from migrator.issues import Code, Kind
from migrator.model import (
    DatasetRecord,
    ExperimentPlan,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    TracePlan,
)
from migrator.outcome.summary import Outcome
from migrator.pipeline.sinks import Discard
from migrator.transformer import node_sources
from tests.damage.test_damage import tree_hash
from tests.support.damagekit import DAMAGES, Spot, build
from tests.support.loaderkit import tables
from tests.support.storekit import START_MS, write_experiment, write_run
from tests.unit.extractor.test_damage import damage as damage_at_random

FUZZ = int(os.environ.get("MIGRATOR_FUZZ", "150"))


def convert(root: Path, target: Path) -> Outcome:
    report = str(target.with_suffix(".json"))
    uri = f"sqlite:///{target}"
    return pipeline.convert([str(root)], uri, pipeline.Options(), schema="3.9", report=report)


def random_store(root: Path, rng: random.Random) -> None:
    """Write a random forest of runs over some experiments, beside a spot with one of everything."""
    build(Spot(root, 1))
    exps = [str(n) for n in range(1, rng.randrange(2, 4))]
    for exp in exps:
        write_experiment(root, exp, f"exp {exp}", deleted=rng.random() < 0.2)
    ids: list[str] = []
    for _ in range(rng.randrange(1, 12)):
        run_id = f"{rng.getrandbits(128):032x}"
        start = START_MS + rng.randrange(-5000, 5000)
        parents = [None, *ids, run_id, "f" * 32]
        write_run(
            root,
            rng.choice(exps),
            run_id,
            name=rng.choice(["step", "agent", "trial 1", "ünïcode", ""]),
            parent=rng.choice(parents),
            start_ms=start,
            end_ms=rng.choice([None, start - 5, start + rng.randrange(9000)]),
            status=rng.choice([1, 3, 3, 4, 5]),
            deleted=rng.random() < 0.1,
            params={k: str(rng.random()) for k in rng.sample(["lr", "model", "prompt", "a/b"], 2)},
            metrics={
                "m": [(start + rng.randrange(9), rng.choice([1, 0.5, "nan"]), n % 3)
                      for n in range(rng.randrange(6))]
            },
            artifacts=rng.choice([{}, {"prompt.txt": "hi", "response.txt": "ho"}]),
        )  # fmt: skip
        ids.append(run_id)


def whole(outcome: Outcome) -> None:
    """Assert that the counts close and that every issue can be looked up."""
    assert outcome.ledger.gaps() == []
    for issue in outcome.ledger.issues:
        assert issue.message
    outcome.as_dict()


@pytest.mark.long
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), named=st.integers(0, 3), times=st.integers(0, 6))
def test_the_laws_hold_over_random_stores_under_random_damage(
    tmp_path_factory: pytest.TempPathFactory, seed: int, named: int, times: int
) -> None:
    base = tmp_path_factory.mktemp("laws")
    root, target = base / "mlruns", base / "m.db"
    rng = random.Random(seed)
    random_store(root, rng)
    for one in rng.sample(list(DAMAGES.values()), named):
        spot = Spot(root, 10 + list(DAMAGES).index(one.name))
        build(spot)
        one.apply(spot)
    for _ in range(times):
        damage_at_random(root, rng)
    if not root.is_dir():
        return
    before = tree_hash(root)
    try:
        scanned = pipeline.scan([str(root)], pipeline.Options())
    except SourceError:
        return  # the damage left nothing of a store
    whole(scanned)
    first = convert(root, target)
    whole(first)
    assert tree_hash(root) == before, "the source was changed"
    loaders = {Code.LOAD_REFUSED, Code.LOAD_WITHOUT_PARENT}
    if not loaders & {issue.code for issue in first.ledger.issues}:
        assert first.ledger.as_rows() == scanned.ledger.as_rows(), "scan told something else"
    content = target.read_bytes()
    again = convert(root, target)
    whole(again)
    assert target.read_bytes() == content, "converting twice changed the database"
    shutil.rmtree(base)


def test_the_order_of_directories_changes_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "mlruns"
    for number, one in enumerate(DAMAGES.values(), 1):
        if number % 5 == 0:
            build(Spot(root, number))
            one.apply(Spot(root, number))
    random_store(root, random.Random(3))
    convert(root, tmp_path / "a.db")
    real = os.scandir

    class Reversed:
        def __init__(self, path: Any) -> None:
            with real(path) as entries:
                self._entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self._entries

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", Reversed)
    convert(root, tmp_path / "b.db")
    monkeypatch.undo()
    assert tables(tmp_path / "a.db") == tables(tmp_path / "b.db")


def test_a_span_that_the_database_refuses_costs_that_span_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "mlruns"
    spot = Spot(root, 1)
    build(spot)
    monkeypatch.setattr(node_sources, "LATEST_MS", 10**18)  # as if times were not looked at
    for meta in root.glob("*/*/meta.yaml"):  # all of a tree: an odd child would be moved
        meta.write_text(meta.read_text().replace("_time: 17000", "_time: 9917000"))
    outcome = convert(root, tmp_path / "m.db")
    assert outcome.exit_code == 3 and outcome.ledger.gaps() == []
    assert Code.LOAD_REFUSED in {issue.code for issue in outcome.ledger.issues}
    assert outcome.ledger.rejected[Kind.SPAN] == 0, "it was not found, we made it"


# ------------------------------------------------------------------------------- bytes

WORDS = [
    *(b"\x00", b"\xff", b"\n", b"\r\n", b"\t", b": ", b"- ", b"'", b'"', b"{", b"[", b"&a", b"*a"),
    *(b"!!python/object:os.system", b"nan", b"1e999", b"-", b"9" * 400, b"\xed\xa0\x80"),
    *(b"<<: *a", b"%YAML 9", b"---", b"...", b"\\u0000", b"\\ud800", b"null", b"~", b"2023-01-01"),
    *(b"0x1F", b"1_000", b"\xe2\x80\xa8", b"\x85", b"? ", b"|", b">", b"# "),
]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change some bytes of a file in one of the ways in which bytes change."""
    at = rng.randrange(len(data) + 1)
    to = min(len(data), at + rng.randrange(1, 40))
    changes: list[Callable[[], bytes]] = [
        lambda: data[:at],
        lambda: data[:at] + data[to:],
        lambda: data[:at] + rng.randbytes(to - at) + data[to:],
        lambda: data[:at] + rng.choice(WORDS) + data[at:],
        lambda: data[:at] + data[at:to] * rng.randrange(2, 30) + data[to:],
        lambda: data[:at] + bytes(b ^ 1 << rng.randrange(8) for b in data[at:to]) + data[to:],
        lambda: data[to:] + data[:at],
        lambda: rng.randbytes(len(data)),
    ]
    return rng.choice(changes)()


class Keep(Discard):
    """A sink that keeps what it is handed, by a key that no mutation of a file changes."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def add_experiment(self, plan: ExperimentPlan) -> None:
        self.kept[plan.record.path] = plan.record

    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        self.kept[run.path] = run

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        self.kept[f"{record.experiment_id}/datasets/{record.dataset_id}"] = record

    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        self.kept[record.path] = record

    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        self.kept[record.path] = record

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        self.kept[f"trace/{plan.trace_id}"] = plan


# What is found is told from directories, whatever the files in them hold. (Points and spans are
# lines and items of a file, tags of inputs stand in a meta.yaml.)
LISTED = (
    *(Kind.EXPERIMENT, Kind.EXPERIMENT_TAG, Kind.RUN, Kind.PARAM, Kind.TAG, Kind.INPUT),
    *(Kind.OUTPUT, Kind.DATASET, Kind.TRACE, Kind.TRACE_TAG, Kind.TRACE_METADATA),
    *(Kind.LOGGED_MODEL, Kind.LOGGED_MODEL_PARAM, Kind.LOGGED_MODEL_TAG, Kind.REGISTERED_MODEL),
    *(Kind.REGISTERED_MODEL_TAG, Kind.MODEL_VERSION, Kind.MODEL_VERSION_TAG, Kind.ALIAS),
)


def homes_of(spot: Spot) -> dict[str, tuple[Path, ...]]:
    """Return the files and directories that alone may change what is handed over, by its key."""
    (dataset,) = (spot.folder / "datasets").iterdir()
    alone = [spot.train, spot.flow, spot.write, spot.model, spot.registered]
    return {
        **{str(path): (path,) for path in alone},
        str(spot.folder): (spot.folder / "meta.yaml", spot.folder / "tags"),
        f"{spot.exp}/datasets/{dataset.name}": (dataset,),
        f"trace/{spot.trace_id}": (spot.trace,),
        f"trace/tr-{spot.id('flow')}": (spot.flow, spot.write),
    }


class Fuzzed:
    """A store of many spots, of which each has some files mutated at a time."""

    def __init__(self, root: Path, spots: int) -> None:
        self.root = root
        self.spots = [Spot(root, number) for number in range(1, spots + 1)]
        for spot in self.spots:
            build(spot)
        self.files = {
            spot.number: sorted(
                path
                for folder in (spot.folder, spot.registered)
                for path in folder.rglob("*")
                if path.is_file()
            )
            for spot in self.spots
        }
        self.outcome, self.whole = self.read()
        assert len(self.whole) == 9 * spots, "everything is looked at"
        self.homes = {key: homes for spot in self.spots for key, homes in homes_of(spot).items()}
        assert self.homes.keys() == self.whole.keys()

    def read(self) -> tuple[Outcome, dict[str, Any]]:
        sink = Keep()
        outcome = Outcome("fuzz", (str(self.root),), None)
        stores = pipeline.open_stores(pipeline.Opened([FileStoreSource.open(str(self.root))]))
        walked = pipeline.walk_sources(stores, pipeline.Options(), sink, outcome)
        walked.check_handed()
        outcome.ledger.add_outcome(walked.handed, {})
        return outcome, sink.kept

    def check(self, changed: set[Path]) -> None:
        """Assert that the laws hold while these files are changed."""
        outcome, found = self.read()
        whole(outcome)
        ledger = outcome.ledger
        before = {kind: self.outcome.ledger.found[kind] for kind in LISTED}
        assert {kind: ledger.found[kind] for kind in LISTED} == before
        assert ledger.files_ignored == 0 and ledger.files == self.outcome.ledger.files
        named = " ".join(f"{issue.path} {issue.entity_id}" for issue in ledger.issues)
        for key, record in self.whole.items():
            if record != found.get(key):
                homes = self.homes[key]
                near = {above for path in changed for above in (path, *path.parents)}
                assert near & set(homes), f"{key} has changed, its files have not"
                name = homes[0].name
                assert key in found or len(homes) > 1 or name in named, f"{key}: gone, no word"

    def mutate(self, rng: random.Random, most: int) -> dict[Path, bytes]:
        """Mutate up to ``most`` files of each spot; return what they held."""
        originals: dict[Path, bytes] = {}
        for files in self.files.values():
            for path in rng.sample(files, rng.randrange(1, most + 1)):
                originals[path] = path.read_bytes()
                path.write_bytes(mutate(originals[path], rng))
        return originals

    def restore(self, originals: dict[Path, bytes]) -> None:
        for path, data in originals.items():
            path.write_bytes(data)

    def find(self, originals: dict[Path, bytes]) -> str:
        """Return which mutated files break a law alone, spot by spot."""
        mutated = {path: path.read_bytes() for path in originals}
        self.restore(originals)
        found = []
        for files in self.files.values():
            mine = {path: mutated[path] for path in files if path in mutated}
            self.restore(mine)
            try:
                self.check(set(mine))
            except Exception as error:  # noqa: BLE001  # whatever it is, it is to be named
                found.append(f"{error!r:.600} by {mine}")
            self.restore({path: originals[path] for path in mine})
        return "\n".join(found) or "only together"


@pytest.mark.long
def test_mutated_files_raise_nothing_hang_nowhere_and_close_the_ledger(tmp_path: Path) -> None:
    store = Fuzzed(tmp_path / "mlruns", 25)
    rng = random.Random(int(os.environ.get("MIGRATOR_SEED", "1")))
    done, rounds = 0, 0
    while done < FUZZ:
        originals = store.mutate(rng, 3)
        done += len(originals)
        rounds += 1
        began = time.monotonic()
        try:
            store.check(set(originals))
            if rounds % 8 == 1:
                target = tmp_path / "m.db"
                target.unlink(missing_ok=True)
                whole(convert(store.root, target))
        except Exception as error:
            raise AssertionError(store.find(originals)) from error
        assert time.monotonic() - began < 60, f"it hangs: {store.find(originals)}"
        store.restore(originals)
