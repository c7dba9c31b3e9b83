"""What a profile reads from a run: compiled for its shape, and source by source, are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.model import Json, RunRecord
from migrator.transformer import load_profiles
from migrator.transformer.profile_index import Shape, index_of, shape_of
from migrator.transformer.profiles import AssessmentRule, Profile, Source, normalise
from migrator.transformer.run_view import RunView
from migrator.transformer.values import last_value
from tests.support.planskit import PROFILES, run

MINE = load_profiles(
    texts=[
        (
            "mine.toml",
            'name = "mine"\nextends = "generic"\n[fields]\n'
            'model = ["tag:model*", "param:*_model", "root.param:model", "param:model"]\n'
            'inputs = ["root.metric:*tokens", "metric:a_*", "tag:prompt", "param:prompt"]\n'
            '[[assessments]]\nfrom = ["metric:score_*", "param:prompt", "root.tag:judge"]\n',
        )
    ]
)
WORDS = ("model", "LLM model", "prompt", "Prompt", "a b", "a_b", "input_tokens", "judge", "score_x")
KEYS = st.sampled_from(
    sorted({*WORDS, "judge/v1/score", "status", "node_kind", "latency_ms", "success", "ключ"})
)
PROFILES_TRIED = st.sampled_from(sorted({*PROFILES, *MINE}, key=lambda each: each.name))
TEXTS = st.dictionaries(KEYS, st.sampled_from(["", "gpt-4o", "yes", "0"]), max_size=6)
NUMBERS = st.dictionaries(KEYS, st.sampled_from([0, 1, 2.5]), max_size=6)


@st.composite
def records(draw: st.DrawFn, name: str) -> RunRecord:
    return run(name, params=draw(TEXTS), metrics=draw(NUMBERS), tags=draw(TEXTS))


def values_at(record: RunRecord, place: str) -> Mapping[str, Json]:
    if place == "metric":
        return {key: last_value(points) for key, points in record.metrics.items()}
    return record.params if place == "param" else record.tags


def interpreted(record: RunRecord, source: Source) -> list[tuple[str, str, Json]]:
    """The values at one source of params, metrics or tags, found by trying each key of the run."""
    values = values_at(record, source.place)
    found: dict[str, str] = {}
    for key in sorted(values):
        plain = normalise(key)
        is_meant = plain == source.key if source.pattern is None else source.pattern.match(plain)
        if is_meant:
            found.setdefault(plain, key)
    return [(source.place, found[plain], values[found[plain]]) for plain in sorted(found)]


def field_interpreted(
    sources: Sequence[Source], record: RunRecord, root: RunRecord
) -> list[tuple[str, str, Json]]:
    """The values of a field in the order of its sources, each once."""
    unique: dict[tuple[str, str, int], tuple[str, str, Json]] = {}
    for source in sources:
        if source.place == "artifact":
            continue
        for found in interpreted(root if source.of_root else record, source):
            unique.setdefault((found[0], found[1], id(found[2])), found)
    return list(unique.values())


def is_judging(source: Source, record: RunRecord) -> bool:
    is_own_key = source.place in ("param", "metric", "tag") and not source.of_root
    if not is_own_key or source.pattern is not None:
        return True  # it is tried in each run
    return bool(interpreted(record, source))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PROFILES_TRIED, records("root"), records("child"))
def test_a_compiled_profile_reads_what_its_sources_say(
    profile: Profile, root: RunRecord, child: RunRecord
) -> None:
    above = RunView(root, profile)
    for record, view in ((root, above), (child, RunView(child, profile, above))):
        for name, sources in profile.fields.items():
            found = [(each.place, each.key, each.value) for each in view.every(name)]
            assert found == field_interpreted(sources, record, root), name
            for source in sources:
                if source.place != "artifact":
                    holder = root if source.of_root else record
                    assert view.has(source) == bool(interpreted(holder, source))
        judging: list[tuple[AssessmentRule, Source]] = []
        for rule in profile.assessments:
            judging += [(rule, each) for each in rule.sources if is_judging(each, record)]
        assert list(view.judging()) == judging
        fitting = [rule for rule in profile.spans if all(map(view.has, rule.has))]
        kept = [rule for rule in view.span_rules() if all(map(view.has, rule.has))]
        assert [replace(rule, has=()) for rule in kept] == [
            replace(rule, has=()) for rule in fitting
        ]


def test_runs_with_the_same_keys_share_what_was_compiled_for_them() -> None:
    one = run("one", params={"Prompt": "a", "model": "b"}, metrics={"cost": 1})
    two = run("two", params={"Prompt": "c", "model": "d"}, metrics={"cost": 2})
    other = run("other", params={"model": "d"}, metrics={"cost": 2})
    assert shape_of(one) is shape_of(two)
    assert shape_of(one) is not shape_of(other)
    index = index_of(PROFILES[0])
    assert index.program(shape_of(one)) is index.program(shape_of(two))


def test_a_run_with_very_many_keys_is_not_remembered() -> None:
    record = run("big", params={f"key_{number}": "" for number in range(1_000)})
    assert shape_of(record) is not shape_of(record)
    assert isinstance(shape_of(record), Shape)
    assert len(shape_of(record).spelled["param"]) == 1_000
