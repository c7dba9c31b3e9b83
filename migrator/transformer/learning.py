"""Proposes a profile for runs that no profile knows, from what their values look like.

Names are a hint only. Values decide: what asks is a question; prose beside it is an answer; names
of models are models; ids that come again in several trees are sessions; numbers that are as long as
a text are its tokens, and two counts that always add up to a third are the parts of a total;
numbers as long as the runs are durations. Nothing is random and nothing leaves the machine.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from statistics import mean, median, stdev

from migrator.counting import counted
from migrator.model import Json, RunRecord
from migrator.transformer.learned_ids import Trees, session_among, user_among
from migrator.transformer.learned_texts import TextRole, roles_of_texts
from migrator.transformer.logged_keys import HINTS, LEAST_PAIRS, MOST_RUNS, LoggedKey, values_inside
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.payloads import is_chat_log
from migrator.transformer.trees import RunTree
from migrator.transformer.values import (
    ERROR_WORDS,
    OK_WORDS,
    as_number,
    last_value,
    natural,
    parse_json,
)
from migrator.transformer.verdicts import plain_words, verdict

MOST_INPUTS = 2
MOST_VALUES = 400  # of a key, so many are looked at
LEAST_RUNS = 2  # a key that fewer runs have says nothing about a tracker
CHARS_OF_TOKEN = (1.5, 9.0)  # a token is so many characters of text
EXAMPLE_CHARS = 60

OF_CALLS = ("inputs", "outputs", "calls")
EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Timeout|Interrupt)\b")
CURRENCY = re.compile(r"(?:^|_)(?:eur|euros?|gbp|chf|jpy|yen|cny|inr|brl|cents?)(?:_|$)")

NUMBERS = re.compile(r"[0-9a-f-]{12,}|\d{2,}")  # of files that have other names in each run
UNITS = (("duration_ms", 1.0), ("duration_s", 1000.0), ("duration_min", 60_000.0))
SWITCHES = frozenset({"true", "false"})
OUTCOMES = OK_WORDS | ERROR_WORDS


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A source for a field, with the reason for it."""

    field: str  # of a profile; "feedback" for an assessment
    source: str
    runs: int
    why: str
    example: str
    is_verdict: bool = False  # feedback of words for yes and no
    is_sure: bool = False  # it says by itself that a language model was at work


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the runs of an experiment seem to hold."""

    runs: int
    trees: int
    suggestions: tuple[Suggestion, ...]
    recognise: tuple[tuple[str, ...], ...]  # groups of sources of the root
    recognise_below: tuple[tuple[str, ...], ...]  # of a run below it

    def of(self, name: str) -> list[Suggestion]:
        """The suggestions for a field, the best first."""
        return [each for each in self.suggestions if each.field == name]


@dataclass(slots=True)
class Learner:
    """Counts over the trees that were added, in their order."""

    runs: int = 0
    trees: int = 0
    _keys: dict[str, LoggedKey] = field(default_factory=dict)
    _length_ms: dict[str, float] = field(default_factory=dict)  # of runs
    _tree_of: dict[str, str] = field(default_factory=dict)
    _start_ms: dict[str, float] = field(default_factory=dict)  # of trees
    _failed: int = 0
    _llm_trees: set[str] = field(default_factory=set)

    def add(self, tree: RunTree, *, is_llm_work: bool = False) -> None:
        """Look at the runs of a tree; ``is_llm_work``: the built-in profiles know it is."""
        self.trees += 1
        if is_llm_work:
            self._llm_trees.add(tree.root_id)
        for run_id in sorted(tree.runs):
            run = tree.runs[run_id]
            self.runs += 1
            self._tree_of[run_id] = tree.root_id
            if run_id == tree.root_id and run.start_ms is not None:
                self._start_ms[run_id] = run.start_ms
            is_failed = run.status == "FAILED"
            self._failed += is_failed
            if run.start_ms is not None and run.end_ms is not None:
                self._length_ms[run_id] = run.end_ms - run.start_ms
            for source, value in _values_of(run):
                key = self._keys.setdefault(source, LoggedKey(source))
                if len(key.values) >= MOST_VALUES:
                    continue
                key.values[run_id] = value
                key.failed += is_failed
                if run_id == tree.root_id:
                    key.roots.add(run_id)

    def proposal(self) -> Proposal:
        """What the values mean, the surest first."""
        least = LEAST_RUNS if self.runs >= LEAST_RUNS else 1
        keys = [
            key
            for _, key in sorted(self._keys.items())
            if len(key.values) >= least or _is_error_of_a_run(key)
        ]
        trees = Trees(self._tree_of, self._start_ms)
        found = _Finding(keys, self._length_ms, trees, self._failed).all()
        root, below = _recognition(found, self._keys, self._tree_of, self._llm_trees)
        return Proposal(self.runs, self.trees, tuple(found), root, below)


def _values_of(run: RunRecord) -> Iterator[tuple[str, Json]]:
    """The sources of a run with their values; of a JSON file each value inside."""
    for key, text in run.params.items():
        yield f"param:{key}", text
    for key, points in run.metrics.items():
        yield f"metric:{key}", last_value(points)
    for key, text in run.tags.items():
        if not key.startswith("mlflow."):
            yield f"tag:{key}", text
    for file, text in run.texts.items():
        path = NUMBERS.sub("*", file)
        value = parse_json(text)
        if isinstance(value, Mapping) and not is_chat_log(value):
            for inner, inside in values_inside(value):
                yield f"artifact:{path}#{inner}", inside
        else:
            yield f"artifact:{path}", value


@dataclass(slots=True)
class _Finding:
    """Finds the meaning of keys, each for one field; a key that has one is taken."""

    keys: Sequence[LoggedKey]
    length_ms: Mapping[str, float]
    trees: Trees
    failed: int
    _found: list[Suggestion] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def all(self) -> list[Suggestion]:
        self._models()
        self._errors()
        self._statuses()
        self._texts()
        self._tokens()
        self._durations()
        self._costs()
        self._ids()
        self._feedback()
        return self._found

    def _free(self, place: str = "") -> list[LoggedKey]:
        return [
            key
            for key in self.keys
            if key.source not in self._taken and key.source.startswith(place)
        ]

    def _add(
        self,
        name: str,
        key: LoggedKey,
        why: str,
        *,
        is_verdict: bool = False,
        is_sure: bool = False,
    ) -> None:
        self._taken.add(key.source)
        example = _example(next(iter(key.values.values())))
        runs = len(key.values)
        self._found.append(Suggestion(name, key.source, runs, why, example, is_verdict, is_sure))

    # ---------------------------------------------------------------------- names and words

    def _models(self) -> None:
        for key in self._free():
            texts = key.texts()
            kinds = Counter(kind_of_model(text) for text in texts if len(text) < 100)
            is_file = key.source.startswith("artifact:") and "#" not in key.source
            if not texts or is_file:
                continue
            if kinds[ModelKind.LLM] >= MOST_RUNS * len(texts):
                self._add("model", key, "names of language models")
            elif kinds[ModelKind.VENDOR] >= MOST_RUNS * len(texts):
                self._add("provider", key, "names of vendors of models")

    def _errors(self) -> None:
        for key in self._free():
            texts = [text for text in key.texts() if text.strip()]
            if not self.failed or not texts or key.failed < MOST_RUNS * len(key.values):
                continue
            is_exception = all(_names_exception(text) for text in texts)
            is_hinted = HINTS["error"].search(key.name) is not None
            if is_hinted or is_exception or len(texts) >= LEAST_PAIRS:
                is_text = any(" " in text or ":" in text for text in texts)
                if is_text:
                    self._add("error_message", key, "only runs that failed have it")

    def _statuses(self) -> None:
        for key in self._free():
            words = {plain_words(text) for text in key.texts()}
            if words and words <= OUTCOMES and not words <= {"done"}:
                self._add("status", key, "words for success and failure")

    # ------------------------------------------------------------------------------- texts

    def _texts(self) -> None:
        roles = roles_of_texts(self._free())
        for each in _most_telling(roles.asked, MOST_INPUTS):
            self._add("inputs", each.key, each.why, is_sure=each.is_sure)
        for each in _most_telling(roles.answered, 1):
            self._add("outputs", each.key, each.why, is_sure=each.is_sure)
        for each in roles.transcripts:
            self._add("calls", each.key, each.why, is_sure=each.is_sure)
        for each in roles.chats:
            self._add("outputs", each.key, each.why, is_sure=each.is_sure)

    # ------------------------------------------------------------------------------ numbers

    def _tokens(self) -> None:
        counts = [key for key in self._free() if _is_count(key)]
        if self._sums(counts):
            return
        for name, other, field_name in (
            ("output_tokens", "inputs", "outputs"),
            ("input_tokens", "outputs", "inputs"),
        ):
            texts, others = self._first_key(field_name), self._first_key(other)
            for key in counts:
                if key.source in self._taken or texts is None:
                    continue
                is_hinted = "tok" in key.name and HINTS[name].search(key.name) is not None
                fits_other = others is not None and _counts_tokens(key, others)
                is_clear = name == "output_tokens" or not fits_other
                if is_hinted or (is_clear and _counts_tokens(key, texts)):
                    why = f"as many as the tokens of {texts.source}"
                    self._add(name, key, why, is_sure=True)
                    break
        self._other_tokens(counts)

    def _first_key(self, name: str) -> LoggedKey | None:
        """The key that was found first for a field."""
        sources = [each.source for each in self._found if each.field == name]
        return next((key for key in self.keys if key.source in sources), None)

    def _other_tokens(self, counts: Sequence[LoggedKey]) -> None:
        """Of two counts whose names speak of tokens, the one is the other part."""
        named = [key for key in counts if "tok" in key.name]
        found = {each.source: each.field for each in self._found}
        if len(named) != 2:
            return
        for one, other in (named, named[::-1]):
            told = found.get(one.source)
            if other.source in found or told not in ("input_tokens", "output_tokens"):
                continue
            rest = "input_tokens" if told == "output_tokens" else "output_tokens"
            self._add(rest, other, f"a count of tokens beside {one.source}")

    def _sums(self, counts: Sequence[LoggedKey]) -> bool:
        """Find two counts that always add up to a third."""
        numbers = {key.source: key.numbers() for key in counts}
        for total in counts:
            for given in counts:
                for got in counts:
                    if given.source >= got.source or total in (given, got):
                        continue
                    parts = [numbers[key.source] for key in (given, got, total)]
                    if not _add_up(*parts):
                        continue
                    first, second = self._in_order(given, got)
                    why = f"{given.source} and {got.source} add up to {total.source}"
                    is_sure = any("tok" in key.name for key in (given, got, total))
                    self._add("input_tokens", first, why, is_sure=is_sure)
                    self._add("output_tokens", second, why, is_sure=is_sure)
                    self._add("total_tokens", total, why, is_sure=is_sure)
                    return True
        return False

    def _in_order(self, one: LoggedKey, other: LoggedKey) -> tuple[LoggedKey, LoggedKey]:
        """Tell the tokens of the prompt from those of the answer: by name, else by the texts."""
        if HINTS["output_tokens"].search(one.name) or HINTS["input_tokens"].search(other.name):
            return other, one
        if HINTS["input_tokens"].search(one.name) or HINTS["output_tokens"].search(other.name):
            return one, other
        answer = self._first_key("outputs")
        if answer is not None and _unevenness(one, answer) < _unevenness(other, answer):
            return other, one
        return one, other

    def _durations(self) -> None:
        for key in self._free():
            numbers = key.numbers()
            if not numbers or any(number < 0 for number in numbers.values()):
                continue
            unit = _unit(numbers, self.length_ms)
            if unit is not None and _is_measured(key):
                self._add(unit, key, "as long as the runs were open")
                return
        named = [
            key
            for key in self._free()
            if _is_measured(key) and key.numbers() and HINTS["duration"].search(key.name)
        ]
        if named:  # the longest holds the others
            key = max(named, key=lambda each: (median(each.numbers().values()), each.source))
            self._add(_unit_by_name(key.name), key, "its name is that of a duration")

    def _costs(self) -> None:
        for key in self._free():
            numbers = key.numbers().values()
            if HINTS["cost_usd"].search(key.name) and numbers and min(numbers) >= 0:
                self._add("cost_usd", key, "its name is that of a cost")
                return

    # ---------------------------------------------------------------------- ids and verdicts

    def _ids(self) -> None:
        session = session_among(self._free(), self.trees)
        if session is not None:
            self._add("session", session, "ids that come again in several trees")
        user = user_among(self._free(), self.trees)
        if user is not None:
            self._add("user", user, "people")

    def _feedback(self) -> None:
        for key in self._free():
            numbers = list(key.numbers().values())
            texts = key.texts()
            is_hinted = HINTS["score"].search(key.name) is not None
            is_range = len(numbers) == len(key.values) and all(0 <= each <= 5 for each in numbers)
            is_varied = len(set(numbers)) > 1 or len(numbers) < LEAST_PAIRS
            is_part = is_range and is_varied and any(each != int(each) for each in numbers)
            is_part = is_part and self._is_of_calls(key)
            if CURRENCY.search(key.name):
                continue  # a cost in another currency than cost_usd
            if key.source.startswith("metric:") and (is_part or (is_hinted and is_range)):
                self._add("feedback", key, f"numbers from {min(numbers):g} to {max(numbers):g}")
            elif texts and all(_is_verdict(text, is_hinted=is_hinted) for text in texts):
                self._add("feedback", key, "words for yes and no", is_verdict=True)

    def _is_of_calls(self, key: LoggedKey) -> bool:
        """Whether most runs with a key are those with what was asked or answered, if any is."""
        sources = {each.source for each in self._found if each.field in OF_CALLS}
        calls: set[str] = set()
        for other in self.keys:
            if other.source in sources:
                calls |= other.values.keys()
        return not calls or len(calls & key.values.keys()) >= MOST_RUNS * len(key.values)


# --------------------------------------------------------------------------- small readings


def _most_telling(texts: Sequence[TextRole], most: int) -> list[TextRole]:
    """The best texts, up to ``most`` of the same runs; those of other runs don't compete."""
    kept: list[TextRole] = []
    for each in texts:
        runs = each.key.values.keys()
        rivals = sum(not runs.isdisjoint(other.key.values) for other in kept)
        if rivals < most:
            kept.append(each)
    return kept


def _names_exception(text: str) -> bool:
    """Whether a text begins with the name of an exception, as Python prints it."""
    return EXCEPTION.match(text.strip()) is not None


def _is_error_of_a_run(key: LoggedKey) -> bool:
    """Whether a key has the exception of a run that failed, of which there may be only one."""
    texts = key.texts()
    return key.failed > 0 and bool(texts) and all(_names_exception(text) for text in texts)


def _is_measured(key: LoggedKey) -> bool:
    """Whether a key holds measured numbers: a metric, or a value inside a file."""
    return key.source.startswith("metric:") or "#" in key.source


def _is_count(key: LoggedKey) -> bool:
    numbers = key.numbers()
    if len(numbers) < len(key.values) or max(numbers.values(), default=0) < 2:
        return False
    return all(number >= 0 and number == int(number) for number in numbers.values())


def _add_up(
    given: Mapping[str, float], got: Mapping[str, float], total: Mapping[str, float]
) -> bool:
    """Whether two counts add up to a third in nearly all runs that have all three."""
    common = [run_id for run_id in total if run_id in given and run_id in got]
    if len(common) < min(LEAST_PAIRS, len(total)) or len(common) < MOST_RUNS * len(total):
        return False
    is_sum = [
        given[run_id] and got[run_id] and given[run_id] + got[run_id] == total[run_id]
        for run_id in common
    ]
    return sum(map(bool, is_sum)) >= MOST_RUNS * len(common)


def _counts_tokens(count: LoggedKey, text: LoggedKey) -> bool:
    """Whether a number is as large as the tokens of a text, and grows with it."""
    numbers = count.numbers()
    pairs = [
        (len(value), numbers[run_id])
        for run_id, value in text.values.items()
        if isinstance(value, str) and numbers.get(run_id)
    ]
    are_varied = all(len(set(side)) >= LEAST_PAIRS for side in zip(*pairs, strict=True))
    if len(pairs) < LEAST_PAIRS or not are_varied:
        return False  # a number that is always the same counts something else
    low, high = CHARS_OF_TOKEN
    fit = sum(low <= chars / number <= high for chars, number in pairs)
    return fit >= MOST_RUNS * len(pairs)


def _unevenness(count: LoggedKey, text: LoggedKey) -> float:
    """How far a number is from growing with the length of a text: 0 if all ratios are the same."""
    numbers = count.numbers()
    ratios = [
        numbers[run_id] / len(value)
        for run_id, value in text.values.items()
        if isinstance(value, str) and value and numbers.get(run_id)
    ]
    if len(ratios) < LEAST_PAIRS:
        return math.inf
    return stdev(ratios) / mean(ratios)


def _unit(numbers: Mapping[str, float], length_ms: Mapping[str, float]) -> str | None:
    """The field of the unit in which numbers are as large as the runs are long."""
    if len(set(numbers.values())) == 1:
        return None  # a constant is no measurement, even where it fits
    for name, unit_ms in UNITS:
        pairs = [
            (number * unit_ms, length_ms[run_id])
            for run_id, number in numbers.items()
            if length_ms.get(run_id, 0) >= 20
        ]
        fit = sum(abs(number - length) <= 0.25 * length for number, length in pairs)
        if len(pairs) >= LEAST_PAIRS and fit >= MOST_RUNS * len(pairs):
            return name
    return None


def _unit_by_name(name: str) -> str:
    parts = set(name.split("_"))
    if parts & {"ms", "millis", "milliseconds"}:
        return "duration_ms"
    if parts & {"s", "sec", "secs", "seconds"}:
        return "duration_s"
    return "duration_unknown"


def _is_verdict(text: str, *, is_hinted: bool) -> bool:
    """Whether a text says yes or no. Without a name that says so, true and false are a setting."""
    is_setting = plain_words(text) in SWITCHES and not is_hinted
    return as_number(text) is None and verdict(text) is not None and not is_setting


def _example(value: Json) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    text = " ".join(str(value).split())
    return text if len(text) <= EXAMPLE_CHARS else f"{text[:EXAMPLE_CHARS]}…"


# --------------------------------------------------------------------------- recognition

TELLING = ("inputs", "outputs", "calls", "input_tokens", "output_tokens", "total_tokens", "session")
"""The fields whose sources tell a tree of LLM work; a model's name stands on training, too."""
BESIDE_A_MODEL = ("status", "duration_ms", "duration_s", "duration_min", "duration_unknown")
MOST_CONDITIONS = 3


def _recognition(
    found: Sequence[Suggestion],
    keys: Mapping[str, LoggedKey],
    tree_of: Mapping[str, str],
    llm_trees: AbstractSet[str],
) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """Groups of sources, on the root and on a run below it, that the trees have.

    Texts that ask, chats and tokens tell a tree of LLM work. What ETL jobs have as well, such as
    texts that only tell and sums, does so beside a model; ids and models only in ``llm_trees``.
    What was asked in one of ``llm_trees`` was asked in all trees that have the key.
    """
    models = [each for each in found if each.field == "model"]
    with_model = {tree_of[run_id] for each in models for run_id in keys[each.source].values}
    telling = sorted(
        (each for each in found if each.field in TELLING),
        key=lambda each: TELLING.index(each.field),
    )
    beside = [each for each in found if each.field in BESIDE_A_MODEL]
    conditional = [*telling, *models] if telling else [*models, *beside]
    root: list[tuple[str, ...]] = []
    below: list[tuple[str, ...]] = []
    covered: set[str] = set()
    for each in telling or models:
        key = keys[each.source]
        trees = {tree_of[run_id] for run_id in key.values}
        is_backed = each.is_sure or _is_backed(each.field, trees, llm_trees, with_model)
        if trees <= covered or not is_backed:
            continue
        covered |= trees
        is_on_root = len(key.roots) >= MOST_RUNS * len(trees)
        runs = key.roots if is_on_root else set(key.values) - key.roots
        conditions = [
            other.source
            for other in conditional
            if runs and runs <= keys[other.source].values.keys()
        ]
        wanted = tuple(_without_insides([each.source, *conditions])[:MOST_CONDITIONS])
        (root if is_on_root else below).append(wanted)
    return tuple(root), tuple(below)


def _is_backed(
    name: str, trees: AbstractSet[str], llm_trees: AbstractSet[str], with_model: AbstractSet[str]
) -> bool:
    """Whether other evidence in the trees that have a source of a field speaks of an LLM."""
    least = MOST_RUNS * len(trees)
    if len(trees & llm_trees) >= least:
        return True
    if name == "inputs" and not trees.isdisjoint(llm_trees):
        return True  # short ones as well, such as "reverse abc"
    return name not in ("model", "session") and len(trees & with_model) >= least


def _without_insides(sources: Iterable[str]) -> list[str]:
    """Sources once each; of a value inside a file only the file, which is enough."""
    return list(dict.fromkeys(source.partition("#")[0] for source in sources))


# --------------------------------------------------------------------------------- TOML


def proposed_toml(name: str, proposal: Proposal, experiment: str) -> str:
    """Write a proposal as a profile that explains itself."""
    lines = [
        f"# Proposed from {counted(proposal.runs, 'run')} in {counted(proposal.trees, 'tree')} of "
        f"experiment {_quoted(experiment)}.",
        "# Read it, correct it, and check it again. Each line says how many runs it is from.",
        f"name = {_quoted(name)}",
        f"description = {_quoted(f'Learnt from the runs of {experiment}.')}",
        'extends = "generic"',
        "",
    ]
    for key, groups in (
        ("root_has", proposal.recognise),
        ("child_has", proposal.recognise_below),
    ):
        for group in groups:
            lines += ["[[recognise]]", f"{key} = [{', '.join(map(_quoted, group))}]", ""]
    lines.append("[fields]")
    fields = sorted({each.field for each in proposal.suggestions} - {"feedback"}, key=natural)
    for name_of_field in fields:
        for each in proposal.of(name_of_field):
            lines.append(_comment(each))
        sources = ", ".join(_quoted(each.source) for each in proposal.of(name_of_field))
        lines.append(f"{name_of_field} = [{sources}]")
    for each in proposal.of("feedback"):
        lines += ["", _comment(each), "[[assessments]]", f"from = [{_quoted(each.source)}]"]
        lines += ['value = "yes-no"'] if each.is_verdict else []
    return "\n".join(lines) + "\n"


def _comment(each: Suggestion) -> str:
    why = f"{counted(each.runs, 'run')}; {each.why}"
    return f"# {each.source}: {why}. Example: {_quoted(each.example)}"


def _quoted(text: str) -> str:
    """A text as a TOML string on one line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
