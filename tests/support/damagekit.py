"""Ways in which file stores are broken in practice, each a small function that breaks one.

Every damage happens in a *spot*: an experiment of its own that holds one of everything (a nested
workflow, a training run with a dataset, a logged model, a native trace, a registered model). So
one conversion can try all of them, and what each costs is seen by comparing its spot with one
that nothing has happened to.

A damage says what it broke (its name), which issue codes name it, how many entities of which kind
it may cost (``rejected``), and what may differ in the database (``differs``: patterns over the
keys of ``snapshot`` in ``tests/damage/test_damage.py``). Everything else has to be there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from migrator.issues import Code, Kind
from tests.support.storekit import (
    START_MS,
    write_dataset,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
)

LOSS = [(START_MS + n, 1 / (n + 1), n) for n in range(5)]
NOTE = "two lines\nof text, with an ümlaut"


@dataclass(frozen=True)
class Spot:
    """One experiment with one of everything, and the ids of what is in it."""

    root: Path  # of the store
    number: int

    @property
    def exp(self) -> str:
        return str(1000 + self.number)

    @property
    def name(self) -> str:
        return f"spot-{self.number:03d}"

    def id(self, role: str) -> str:
        """Return the 32 hex digits of an entity's id."""
        return hashlib.sha256(f"{self.number}/{role}".encode()).hexdigest()[:32]

    @property
    def folder(self) -> Path:
        return self.root / self.exp

    def run(self, role: str) -> Path:
        return self.folder / self.id(role)

    @property
    def train(self) -> Path:
        """A training run: params, metrics, tags, a dataset."""
        return self.run("train")

    @property
    def flow(self) -> Path:
        """The root of a workflow; ``write`` is its child, an LLM call."""
        return self.run("flow")

    @property
    def write(self) -> Path:
        return self.run("write")

    @property
    def trace_id(self) -> str:
        return f"tr-{self.id('trace')}"

    @property
    def trace(self) -> Path:
        return self.folder / "traces" / self.trace_id

    @property
    def model_id(self) -> str:
        return f"m-{self.id('model')}"

    @property
    def model(self) -> Path:
        return self.folder / "models" / self.model_id

    @property
    def registered_name(self) -> str:
        return f"registered-{self.number:03d}"

    @property
    def registered(self) -> Path:
        return self.root / "models" / self.registered_name

    @property
    def names(self) -> dict[str, str]:
        """Return what differs between two spots, with a name for each that is the same in both."""
        roles = ("train", "flow", "write")
        return {
            **{self.id(role): role for role in roles},
            self.trace_id: "trace",
            self.model_id: "model",
            self.registered_name: "registered",
            self.exp: "exp",
            self.name: "spot",
        }


def build(spot: Spot) -> None:
    """Write a spot."""
    root, exp = spot.root, spot.exp
    write_experiment(root, exp, spot.name, tags={"team": "blue"})
    write_run(
        root,
        exp,
        spot.id("flow"),
        name="flow",
        end_ms=START_MS + 5000,
        artifacts={"inputs.json": '{"topic": "bees"}', "outputs.json": '{"text": "Bees."}'},
    )
    write_run(
        root,
        exp,
        spot.id("write"),
        name="write",
        parent=spot.id("flow"),
        start_ms=START_MS + 100,
        end_ms=START_MS + 4000,
        params={"model": "gpt-4o", "temperature": "0.2"},
        metrics={
            "input_tokens": [(START_MS + 4000, 12, 0)],
            "output_tokens": [(START_MS + 4000, 30, 0)],
        },
        artifacts={"prompt.txt": "Write about bees.", "response.txt": "Bees."},
    )
    write_run(
        root,
        exp,
        spot.id("train"),
        name="train",
        params={"lr": "0.1", "note": NOTE, "optimizer": "adam"},
        tags={"stage": "dev"},
        metrics={"loss": LOSS, "acc": [(START_MS + 9, 0.5, 0)]},
        artifacts={"model/weights.bin": b"\x00\x01"},
    )
    write_dataset(root, exp, "digits", "d1", runs=[spot.id("train")], tags={"use": "train"})
    write_logged_model(
        root,
        exp,
        spot.model_id,
        source_run_id=spot.id("train"),
        params={"depth": "3"},
        tags={"kind": "tree"},
        metrics={"f1": [(START_MS + 5, 0.7, 0, spot.id("train"))]},
        output_step=1,
    )
    span = {"start_time_unix_nano": START_MS * 10**6, "end_time_unix_nano": (START_MS + 9) * 10**6}
    status = {"code": "STATUS_CODE_OK", "message": ""}
    write_trace(
        root,
        exp,
        spot.trace_id,
        spans=[
            {
                **span,
                "span_id": "1" * 16,
                "name": "ask",
                "status": status,
                "attributes": {"mlflow.spanType": '"AGENT"', "mlflow.spanInputs": '{"q": "why"}'},
            },
            {
                **span,
                "span_id": "2" * 16,
                "parent_span_id": "1" * 16,
                "name": "think",
                "status": status,
                "attributes": {"mlflow.spanType": '"LLM"', "mlflow.spanOutputs": '"because"'},
            },
        ],
        tags={"topic": "life"},
        metadata={"mlflow.trace.session": "s-1"},
        assessments={
            "a-" + spot.id("assessment"): {
                "assessment_id": "a-" + spot.id("assessment"),
                "assessment_name": "good",
                "create_time": "2023-11-14T22:13:21Z",
                "last_update_time": "2023-11-14T22:13:21Z",
                "feedback": {"value": True},
                "source": {"source_id": "ana", "source_type": "HUMAN"},
                "valid": True,
            }
        },
    )
    write_registered_model(
        root,
        spot.registered_name,
        versions=[{"tags": {"size": "s"}}, {"run_id": spot.id("train")}],
        tags={"owner": "ana"},
        aliases={"best": 2},
    )


@dataclass(frozen=True)
class Damage:
    """One way to break a spot; see the module."""

    name: str
    apply: Callable[[Spot], None]
    codes: frozenset[Code]
    rejected: Mapping[Kind, int] = field(default_factory=dict)
    differs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # where issues may lie outside the spot's folders (names)


DAMAGES: dict[str, Damage] = {}


def damage(
    *codes: Code,
    rejected: Mapping[Kind, int] | None = None,
    differs: Iterable[str] = (),
) -> Callable[[Callable[[Spot], None]], Callable[[Spot], None]]:
    """Register a function as a damage; its name, spaced, is the damage's."""

    def register(apply: Callable[[Spot], None]) -> Callable[[Spot], None]:
        name = apply.__name__.replace("_", " ")
        assert name not in DAMAGES, name
        DAMAGES[name] = Damage(name, apply, frozenset(codes), rejected or {}, tuple(differs))
        return apply

    return register


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that must be in a file."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def drop(path: Path, *keys: str) -> None:
    """Remove the lines of these keys from a YAML file."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.split(":")[0] not in keys]
    assert len(kept) == len(lines) - len(keys)
    path.write_text("".join(kept), encoding="utf-8")


# What a run whose meta.yaml tells nothing may lack: what stood only there.
LOST_META = ("run/train/meta/*",)
REBUILT = {Code.RUN_REBUILT}


# ------------------------------------------------------------------- a run's meta.yaml


@damage(Code.META_EMPTY, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_empty(spot: Spot) -> None:
    (spot.train / "meta.yaml").write_bytes(b"")


@damage(Code.META_EMPTY, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_nul_bytes(spot: Spot) -> None:
    (spot.train / "meta.yaml").write_bytes(b"\x00" * 512)


@damage(Code.META_TRUNCATED, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_cut_in_the_middle(spot: Spot) -> None:
    meta = spot.train / "meta.yaml"
    data = meta.read_bytes()
    meta.write_bytes(data[: data.index(b"run_id") + 12])


@damage(Code.META_DAMAGED, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_binary(spot: Spot) -> None:
    (spot.train / "meta.yaml").write_bytes(bytes(range(256)) * 4)


@damage(Code.META_DAMAGED, differs=("run/train/meta/user_id",))
def the_meta_of_a_run_is_latin_1(spot: Spot) -> None:
    meta = spot.train / "meta.yaml"
    meta.write_bytes(meta.read_bytes().replace(b"user_id: ana", "user_id: jörg".encode("latin-1")))


@damage(Code.META_DUPLICATE_KEY, differs=("run/train/meta/user_id",))
def the_meta_of_a_run_has_a_key_twice(spot: Spot) -> None:
    with (spot.train / "meta.yaml").open("a") as file:
        file.write("user_id: bob\n")


@damage(Code.META_DUPLICATE_KEY)
def the_meta_of_a_run_is_written_twice(spot: Spot) -> None:
    meta = spot.train / "meta.yaml"
    meta.write_bytes(meta.read_bytes() * 2)


@damage(Code.META_DAMAGED)
def the_meta_of_a_run_has_merge_conflict_markers(spot: Spot) -> None:
    edit(
        spot.train / "meta.yaml",
        f"end_time: {START_MS + 1000}\n",
        f"<<<<<<< HEAD\nend_time: {START_MS + 1000}\n=======\n"
        f"end_time: {START_MS + 2000}\n>>>>>>> theirs\n",
    )


@damage(Code.META_NOT_A_MAPPING, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_a_list(spot: Spot) -> None:
    (spot.train / "meta.yaml").write_text("- status\n- 3\n")


@damage(Code.META_NOT_A_MAPPING, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_one_word(spot: Spot) -> None:
    (spot.train / "meta.yaml").write_text("deleted\n")


@damage(Code.META_DAMAGED)
def the_meta_of_a_run_is_indented_with_tabs(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", "tags: []\n", "tags:\n\t- a\n")


@damage(Code.META_UNSAFE, differs=("run/train/meta/*",))
def the_meta_of_a_run_has_anchors(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", "user_id: ana\n", "user_id: &u ana\nsource_version: *u\n")


@damage(Code.META_UNSAFE, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_has_a_billion_aliases(spot: Spot) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (spot.train / "meta.yaml").write_text("\n".join(lines) + "\n")


@damage(Code.META_UNREADABLE, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_has_a_million_aliases(spot: Spot) -> None:
    (spot.train / "meta.yaml").write_text("a: &a x\nb: [" + "*a, " * 1_000_000 + "*a]\n")


@damage(Code.META_UNSAFE, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_nested_ten_thousand_deep(spot: Spot) -> None:
    (spot.train / "meta.yaml").write_text("tags: " + "[" * 10_000 + "]" * 10_000 + "\n")


@damage(Code.META_DAMAGED)
def the_meta_of_a_run_asks_to_run_a_command(spot: Spot) -> None:
    proof = spot.root.parent / "executed"
    edit(
        spot.train / "meta.yaml",
        "source_name: ''\n",
        f"source_name: !!python/object/apply:os.system ['touch {proof}']\n",
    )


@damage(Code.META_MISSING, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_missing(spot: Spot) -> None:
    (spot.train / "meta.yaml").unlink()


@damage(Code.META_MISSING, Code.RUN_REBUILT, Code.RUNS_IGNORED, differs=LOST_META)
def the_meta_of_a_run_is_a_directory(spot: Spot) -> None:
    meta = spot.train / "meta.yaml"
    data = meta.read_bytes()
    meta.unlink()
    meta.mkdir()
    (meta / "meta.yaml").write_bytes(data)


@damage(Code.LINK_NOT_FOLLOWED, Code.META_MISSING, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_a_link_out_of_the_store(spot: Spot) -> None:
    outside = spot.root.parent / "outside.yaml"
    (spot.train / "meta.yaml").rename(outside)
    (spot.train / "meta.yaml").symlink_to(outside)


@damage(Code.LINK_NOT_FOLLOWED, Code.META_MISSING, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_a_link_to_nowhere(spot: Spot) -> None:
    (spot.train / "meta.yaml").unlink()
    (spot.train / "meta.yaml").symlink_to("nowhere.yaml")


@damage()
def the_meta_of_a_run_was_saved_as_utf_16(spot: Spot) -> None:
    meta = spot.train / "meta.yaml"
    meta.write_bytes(meta.read_text(encoding="utf-8").encode("utf-16"))


@damage()
def the_meta_of_a_run_has_windows_line_ends(spot: Spot) -> None:
    meta = spot.train / "meta.yaml"
    meta.write_bytes(meta.read_bytes().replace(b"\n", b"\r\n"))


@damage()
def the_meta_of_a_run_begins_with_a_byte_order_mark(spot: Spot) -> None:
    meta = spot.train / "meta.yaml"
    meta.write_bytes(b"\xef\xbb\xbf" + meta.read_bytes())


@damage(Code.ID_MISMATCH)
def the_meta_of_a_run_has_another_id_than_its_directory(spot: Spot) -> None:
    meta = spot.train / "meta.yaml"
    edit(meta, spot.id("train"), "f" * 32)


@damage(Code.ID_MISMATCH)
def the_meta_of_a_run_names_another_experiment(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", f"experiment_id: '{spot.exp}'", "experiment_id: '77'")


@damage(Code.STATUS_UNKNOWN)
def the_status_of_a_run_is_a_number_that_mlflow_does_not_know(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", "status: 3", "status: 99")


@damage()
def the_status_of_a_run_is_a_word(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", "status: 3", "status: FINISHED")


@damage(Code.META_VALUE_UNUSABLE, Code.STATUS_UNKNOWN)
def the_status_of_a_run_is_a_list(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", "status: 3", "status: [3]")


@damage(Code.RUN_START_UNKNOWN)
def the_start_of_a_run_is_missing(spot: Spot) -> None:
    drop(spot.train / "meta.yaml", "start_time")


@damage(Code.TIME_NOT_MS, differs=("run/train/meta/start_time",))
def the_start_of_a_run_is_zero(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", f"start_time: {START_MS}", "start_time: 0")


@damage(Code.TIME_NOT_MS, differs=("run/train/meta/start_time",))
def the_start_of_a_run_is_negative(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", f"start_time: {START_MS}", "start_time: -5")


@damage(Code.TIME_NOT_MS, differs=("run/train/meta/*_time",))
def the_times_of_a_run_are_in_seconds(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", f"start_time: {START_MS}", f"start_time: {START_MS // 1000}")
    edit(spot.train / "meta.yaml", f"end_time: {START_MS + 1000}", f"end_time: {START_MS // 1000}")


@damage(Code.TIME_NOT_MS, differs=("run/train/meta/*_time",))
def the_times_of_a_run_are_in_microseconds(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", f"start_time: {START_MS}", f"start_time: {START_MS}000")
    edit(spot.train / "meta.yaml", f"end_time: {START_MS + 1000}", f"end_time: {START_MS}999")


@damage(Code.META_VALUE_UNUSABLE, differs=("run/train/meta/end_time",))
def the_end_of_a_run_is_beyond_64_bits(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", f"end_time: {START_MS + 1000}", f"end_time: {10**30}")


@damage(Code.RUN_ENDS_BEFORE_START, differs=("run/train/meta/end_time",))
def a_run_ends_before_it_starts(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", f"end_time: {START_MS + 1000}", f"end_time: {START_MS - 1000}")


@damage(Code.META_VALUE_CONVERTED)
def the_start_of_a_run_is_a_date(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", f"start_time: {START_MS}", "start_time: 2023-11-14T22:13:20Z")


@damage(Code.META_UNREADABLE, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_enormous(spot: Spot) -> None:
    with (spot.train / "meta.yaml").open("r+b") as file:
        file.truncate(1 << 30)


# ----------------------------------------------------------------------- metric files


@damage(Code.METRIC_POINT_REPEATED)
def a_metric_has_lines_twice(spot: Spot) -> None:
    loss = spot.train / "metrics" / "loss"
    loss.write_bytes(loss.read_bytes() * 2)


@damage(
    Code.METRIC_LINE_TRUNCATED,
    rejected={Kind.METRIC_POINT: 1},
    differs=("run/train/metric/loss",),
)
def a_metric_ends_in_the_middle_of_a_line(spot: Spot) -> None:
    loss = spot.train / "metrics" / "loss"
    data = loss.read_bytes()
    loss.write_bytes(data[: data.rstrip(b"\n").rindex(b"\n") + 7])


@damage(Code.METRIC_LINE_MALFORMED, rejected={Kind.METRIC_POINT: 1})
def a_metric_has_a_line_of_words(spot: Spot) -> None:
    loss = spot.train / "metrics" / "loss"
    loss.write_bytes(b"what is this\n" + loss.read_bytes())


@damage(Code.METRIC_LINE_MALFORMED, rejected={Kind.METRIC_POINT: 3})
def a_metric_has_merge_conflict_markers(spot: Spot) -> None:
    loss = spot.train / "metrics" / "loss"
    lines = loss.read_bytes().splitlines(keepends=True)
    marks = [b"<<<<<<< HEAD\n", b"=======\n", b">>>>>>> theirs\n"]
    loss.write_bytes(b"".join([marks[0], *lines[:2], marks[1], *lines[2:], marks[2]]))


@damage()
def a_metric_has_its_lines_in_another_order(spot: Spot) -> None:
    loss = spot.train / "metrics" / "loss"
    loss.write_bytes(b"".join(reversed(loss.read_bytes().splitlines(keepends=True))))


@damage()
def a_metric_has_windows_line_ends(spot: Spot) -> None:
    loss = spot.train / "metrics" / "loss"
    loss.write_bytes(loss.read_bytes().replace(b"\n", b"\r\n"))


@damage()
def a_metric_has_empty_lines(spot: Spot) -> None:
    loss = spot.train / "metrics" / "loss"
    loss.write_bytes(loss.read_bytes().replace(b"\n", b"\n\n"))


@damage(Code.METRIC_LINE_MALFORMED, rejected={Kind.METRIC_POINT: 1})
def a_metric_has_nul_bytes_after_a_crash(spot: Spot) -> None:
    with (spot.train / "metrics" / "loss").open("ab") as file:
        file.write(b"\x00" * 100 + b"\n")


@damage(Code.METRIC_FILE_EMPTY, differs=("run/train/metric/loss",))
def a_metric_is_empty(spot: Spot) -> None:
    (spot.train / "metrics" / "loss").write_bytes(b"")


@damage(differs=("run/train/metric/old",))
def a_metric_has_no_steps(spot: Spot) -> None:
    (spot.train / "metrics" / "old").write_text(f"{START_MS} 0.5\n{START_MS + 1} 0.4\n")


@damage(Code.METRIC_VALUE_BOOLEAN, differs=("run/train/metric/ok",))
def a_metric_is_true(spot: Spot) -> None:
    (spot.train / "metrics" / "ok").write_text(f"{START_MS} True 0\n")


@damage(differs=("run/train/metric/odd",))
def a_metric_is_not_a_number_or_infinite(spot: Spot) -> None:
    (spot.train / "metrics" / "odd").write_text(
        f"{START_MS} nan 0\n{START_MS} inf 1\n{START_MS} -inf 2\n"
    )


@damage(differs=("run/train/metric/huge",))
def a_metric_is_greater_than_a_float(spot: Spot) -> None:
    (spot.train / "metrics" / "huge").write_text(f"{START_MS} 1e999 0\n")


@damage(Code.METRIC_OUT_OF_RANGE, differs=("run/train/metric/far",))
def a_metric_has_a_step_beyond_64_bits(spot: Spot) -> None:
    (spot.train / "metrics" / "far").write_text(f"{START_MS} 1.0 {10**25}\n")


@damage(Code.METRIC_NUMBER_REPAIRED, differs=("run/train/metric/half",))
def a_metric_has_a_step_with_a_fraction(spot: Spot) -> None:
    (spot.train / "metrics" / "half").write_text(f"{START_MS} 1.0 1.5\n")


@damage(Code.TIME_NOT_MS, differs=("run/train/metric/then",))
def a_metric_has_times_of_zero_seconds_and_before_1970(spot: Spot) -> None:
    (spot.train / "metrics" / "then").write_text(f"0 1 0\n{START_MS // 1000} 2 1\n-1 3 2\n")


@damage(Code.METRIC_LINE_MALFORMED, rejected={Kind.METRIC_POINT: 2})  # a CR ends a line
def a_metric_is_binary(spot: Spot) -> None:
    (spot.train / "metrics" / "picture").write_bytes(b"\x89PNG\r\x1a\xff\xfe" + b"\xf0\x9f" * 50)


@damage(differs=("run/train/metric/deep/er",))
def a_metric_lies_in_a_directory(spot: Spot) -> None:
    (spot.train / "metrics" / "deep").mkdir()
    (spot.train / "metrics" / "deep" / "er").write_text(f"{START_MS} 1 0\n")


# ------------------------------------------------------------------- params and tags


@damage(Code.TEXT_UNDECODABLE, differs=("run/train/param/lr",))
def a_param_is_not_utf_8(spot: Spot) -> None:
    (spot.train / "params" / "lr").write_bytes(b"caf\xe9")


@damage(differs=("run/train/param/lr",))
def a_param_is_empty(spot: Spot) -> None:
    (spot.train / "params" / "lr").write_bytes(b"")


@damage(differs=("run/train/param/lr",))
def a_param_ends_with_a_windows_line_end(spot: Spot) -> None:
    (spot.train / "params" / "lr").write_bytes(b"0.1\r\n")


@damage(differs=("run/train/param/lr",))
def a_param_holds_nul_bytes(spot: Spot) -> None:
    (spot.train / "params" / "lr").write_bytes(b"0.1\x00\x00")


@damage(differs=("run/train/param/long",))
def a_param_is_longer_than_mlflow_allows(spot: Spot) -> None:
    (spot.train / "params" / "long").write_text("x" * 100_000)


@damage(Code.FILE_TOO_LARGE, rejected={Kind.PARAM: 1}, differs=("run/train/param/lr",))
def a_param_is_an_enormous_file(spot: Spot) -> None:
    with (spot.train / "params" / "lr").open("r+b") as file:
        file.truncate(1 << 30)


@damage(differs=("run/train/param/xxx*",))
def a_param_has_a_name_of_250_characters(spot: Spot) -> None:
    (spot.train / "params" / ("x" * 250)).write_text("1")


@damage(differs=("run/train/param/LR", "run/train/tag/Stage"))
def names_differ_in_case_only(spot: Spot) -> None:
    (spot.train / "params" / "LR").write_text("0.3")
    (spot.train / "tags" / "Stage").write_text("prod")


@damage(differs=("run/train/param/a*",))
def names_hold_what_other_systems_forbid(spot: Spot) -> None:
    for name in ("a:b", 'a"b', "a'b; DROP TABLE runs; --", "a\\b", "a\nb", "a%s", "a😀"):
        (spot.train / "params" / name).write_text("1")


@damage(Code.NAME_UNDECODABLE, differs=("run/train/param/*xff*",))
def the_name_of_a_param_is_not_utf_8(spot: Spot) -> None:
    Path(os.fsdecode(os.fsencode(spot.train / "params") + b"/\xffkey")).write_text("1")


@damage(differs=("run/train/param/lr", "run/train/param/lr/value"))
def a_param_is_a_directory(spot: Spot) -> None:
    (spot.train / "params" / "lr").unlink()
    (spot.train / "params" / "lr").mkdir()
    (spot.train / "params" / "lr" / "value").write_text("0.1")


@damage(Code.FOLDER_IS_A_FILE, Code.FILE_IGNORED, differs=("run/train/param/*",))
def the_params_are_a_file(spot: Spot) -> None:
    shutil.rmtree(spot.train / "params")
    (spot.train / "params").write_text("lr=0.1")


@damage(Code.SPECIAL_FILE, rejected={Kind.PARAM: 1})
def a_pipe_lies_among_the_params(spot: Spot) -> None:
    os.mkfifo(spot.train / "params" / "pipe")


@damage(Code.SPECIAL_FILE, rejected={Kind.TAG: 1})
def a_socket_lies_among_the_tags(spot: Spot) -> None:
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as sock:
        os.chdir(spot.train / "tags")  # a socket's path has at most 108 bytes
        try:
            sock.bind("socket")
        finally:
            os.chdir(here)


@damage(Code.LINK_NOT_FOLLOWED, rejected={Kind.PARAM: 1})
def a_param_is_a_link_to_a_secret(spot: Spot) -> None:
    secret = spot.root.parent / "secret"
    secret.write_text("SECRET-OUTSIDE")
    (spot.train / "params" / "stolen").symlink_to(secret)


@damage(Code.LINK_INSIDE_STORE)
def a_link_makes_a_loop(spot: Spot) -> None:
    (spot.train / "loop").symlink_to(spot.train)


@damage(differs=("run/train/param/linked",))
def a_param_is_a_link_to_another(spot: Spot) -> None:
    (spot.train / "params" / "linked").symlink_to("lr")


@damage(Code.CONFLICT_COPY)
def sync_tools_left_conflict_copies(spot: Spot) -> None:
    for folder, name in (("params", "lr"), ("metrics", "loss"), ("tags", "stage")):
        original = spot.train / folder / name
        for copy in (f"{name} (1)", f"{name} (conflicted copy 2024-01-01)"):
            (spot.train / folder / copy).write_bytes(original.read_bytes())
        (spot.train / folder / f"{name}.sync-conflict-20240101-120000-ABCDEF").write_text("x")


@damage(Code.FILE_IGNORED)
def editors_and_desktops_left_their_files(spot: Spot) -> None:
    for folder in ("params", "metrics", "tags", "."):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "lr~", ".lr.swp", "#lr#"):
            (spot.train / folder / name).write_bytes(b"\x00\x01\xff")


@damage(Code.DIRECTORY_IGNORED, Code.FILE_IGNORED)
def version_control_left_its_directories(spot: Spot) -> None:
    (spot.folder / ".git").mkdir()
    (spot.folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (spot.folder / ".ipynb_checkpoints").mkdir()
    (spot.folder / "README.md").write_text("# runs\n")


@damage(differs=("run/train/tag/*",))
def the_tags_of_a_run_are_missing(spot: Spot) -> None:
    shutil.rmtree(spot.train / "tags")


@damage(differs=("run/train/param/*",))
def git_dropped_the_empty_folders_of_a_run(spot: Spot) -> None:
    for folder in ("params", "artifacts"):
        shutil.rmtree(spot.train / folder)


# ----------------------------------------------------------------------------- parents

# A child that has no parent any more is a call of its own, and the parent has one span less.
APART = ("rebuilt/*", "run/write/tag/mlflow.parentRunId", "experiment/tag/mlflow.experimentKind")


@damage(Code.RUN_PARENT_MISSING, differs=APART)
def the_parent_of_a_run_is_missing(spot: Spot) -> None:
    (spot.write / "tags" / "mlflow.parentRunId").write_text("9" * 32)


@damage(Code.RUN_PARENT_SELF, differs=APART)
def a_run_is_its_own_parent(spot: Spot) -> None:
    (spot.write / "tags" / "mlflow.parentRunId").write_text(spot.id("write"))


@damage(Code.RUN_PARENT_CYCLE, differs=("run/flow/tag/mlflow.parentRunId",))
def two_runs_are_each_others_parents(spot: Spot) -> None:
    (spot.flow / "tags" / "mlflow.parentRunId").write_text(spot.id("write"))


@damage(Code.RUN_PARENT_MISSING, Code.TEXT_UNDECODABLE, differs=APART)
def the_tag_with_the_parent_is_binary(spot: Spot) -> None:
    (spot.write / "tags" / "mlflow.parentRunId").write_bytes(bytes(range(1, 256)))


@damage(differs=("run/flow/meta/lifecycle_stage", "rebuilt/*"))
def the_parent_of_a_run_is_deleted(spot: Spot) -> None:
    edit(spot.flow / "meta.yaml", "lifecycle_stage: active", "lifecycle_stage: deleted")


@damage(Code.RUN_PARENT_MISSING, differs=("run/flow/*", "rebuilt/*"))
def the_directory_of_the_parent_is_gone(spot: Spot) -> None:
    shutil.rmtree(spot.flow)


# --------------------------------------------------------------------- runs as a whole


@damage(Code.META_MISSING, Code.RUN_EMPTY, rejected={Kind.RUN: 1})
def the_directory_of_a_run_is_empty(spot: Spot) -> None:
    (spot.folder / spot.id("nothing")).mkdir()


@damage(Code.META_MISSING, Code.RUN_EMPTY, rejected={Kind.RUN: 1})
def a_run_is_nothing_but_empty_folders(spot: Spot) -> None:
    for folder in ("params", "metrics", "tags", "artifacts"):
        (spot.folder / spot.id("nothing") / folder).mkdir(parents=True)


@damage(Code.META_EMPTY, Code.RUN_EMPTY, rejected={Kind.RUN: 1})
def a_run_is_nothing_but_an_empty_meta(spot: Spot) -> None:
    (spot.folder / spot.id("nothing")).mkdir()
    (spot.folder / spot.id("nothing") / "meta.yaml").write_bytes(b"")


@damage(Code.FILE_IGNORED)
def a_file_lies_where_a_run_should_be(spot: Spot) -> None:
    (spot.folder / spot.id("nothing")).write_text("a run?")


@damage(Code.ID_MISMATCH, differs=("run/copy/*",))
def a_run_was_copied_under_another_id(spot: Spot) -> None:
    shutil.copytree(spot.train, spot.run("copy"))


@damage(Code.ID_MISMATCH, Code.RUN_ID_CHANGED, differs=("run/derived/*",))
def a_file_manager_copied_a_run(spot: Spot) -> None:
    shutil.copytree(spot.train, spot.folder / f"{spot.id('train')} - Copy")


@damage(Code.RUN_OUTSIDE_EXPERIMENT, Code.ID_MISMATCH, differs=("run/outside/*",))
def a_run_lies_beside_the_experiments(spot: Spot) -> None:
    shutil.copytree(spot.train, spot.root / spot.id("outside"))


@damage(Code.RUN_WITHOUT_EXPERIMENT, Code.RUNS_IGNORED, rejected={Kind.RUN: 1})
def a_run_lies_beside_the_experiments_and_its_own_is_gone(spot: Spot) -> None:
    shutil.copytree(spot.train, spot.root / spot.id("outside"))
    edit(spot.root / spot.id("outside") / "meta.yaml", f"'{spot.exp}'", "'77'")


@damage(Code.LINK_INSIDE_STORE)
def a_run_is_a_link_to_another(spot: Spot) -> None:
    (spot.folder / spot.id("linked")).symlink_to(spot.train)


@damage(Code.LINK_NOT_FOLLOWED)
def a_run_is_a_link_out_of_the_store(spot: Spot) -> None:
    outside = spot.root.parent / "elsewhere"
    shutil.copytree(spot.train, outside / spot.id("outside"))
    (spot.folder / spot.id("outside")).symlink_to(outside / spot.id("outside"))


# --------------------------------------------------------------------------- artifacts


@damage(Code.ARTIFACT_NOT_JSON, differs=("rebuilt/flow/span/flow/*", "rebuilt/flow/info/*"))
def an_artifact_is_broken_json(spot: Spot) -> None:
    (spot.flow / "artifacts" / "inputs.json").write_text('{"topic": "be')


@damage(Code.TEXT_UNDECODABLE, differs=("rebuilt/flow/span/write/*",))
def an_artifact_is_not_utf_8(spot: Spot) -> None:
    (spot.write / "artifacts" / "prompt.txt").write_bytes(b"Write about caf\xe9s.")


@damage(Code.ARTIFACT_NOT_TEXT, differs=("rebuilt/flow/span/write/*",))
def an_artifact_is_binary(spot: Spot) -> None:
    (spot.write / "artifacts" / "prompt.txt").write_bytes(b"\x00\x01\x02")


@damage(Code.ARTIFACT_LINK)
def an_artifact_is_a_link_out_of_the_store(spot: Spot) -> None:
    (spot.train / "artifacts" / "passwords").symlink_to("/etc/passwd")


@damage(Code.ARTIFACT_LINK)
def the_artifacts_hold_a_loop(spot: Spot) -> None:
    (spot.train / "artifacts" / "loop").symlink_to(spot.train / "artifacts")


@damage(Code.FOLDER_IS_A_FILE, Code.FILE_IGNORED)
def the_artifacts_are_a_file(spot: Spot) -> None:
    shutil.rmtree(spot.train / "artifacts")
    (spot.train / "artifacts").write_text("not a directory")


# ------------------------------------------------------------------------- experiments


@damage(Code.META_MISSING, Code.EXPERIMENT_REBUILT, differs=("experiment/*",))
def the_meta_of_an_experiment_is_missing(spot: Spot) -> None:
    (spot.folder / "meta.yaml").unlink()


@damage(Code.META_EMPTY, Code.EXPERIMENT_REBUILT, differs=("experiment/*",))
def the_meta_of_an_experiment_is_empty(spot: Spot) -> None:
    (spot.folder / "meta.yaml").write_bytes(b"")


@damage(Code.EXPERIMENT_REBUILT, differs=("experiment/name", "experiment/tag/migrator.*"))
def an_experiment_has_no_name(spot: Spot) -> None:
    drop(spot.folder / "meta.yaml", "name")


@damage(Code.EXPERIMENT_RENAMED, differs=("experiment/name", "experiment/tag/migrator.*"))
def an_experiment_has_a_name_of_300_characters(spot: Spot) -> None:
    edit(spot.folder / "meta.yaml", f"name: {spot.name}", "name: " + "n" * 300)


@damage(Code.ID_MISMATCH)
def the_meta_of_an_experiment_has_another_id(spot: Spot) -> None:
    edit(spot.folder / "meta.yaml", f"experiment_id: '{spot.exp}'", "experiment_id: '77'")


@damage(
    Code.EXPERIMENT_ID_CHANGED,
    Code.ID_MISMATCH,
    differs=("experiment/tag/migrator.*", "trace/tag/mlflow.artifactLocation"),
)
def the_id_of_an_experiment_is_no_number(spot: Spot) -> None:
    spot.folder.rename(spot.root / f"{spot.exp}_production")


@damage(
    Code.EXPERIMENT_ID_CHANGED,
    Code.ID_MISMATCH,
    differs=("experiment/tag/migrator.*", "trace/tag/mlflow.artifactLocation"),
)
def the_id_of_an_experiment_is_beyond_64_bits(spot: Spot) -> None:
    spot.folder.rename(spot.root / f"{spot.exp}{'0' * 30}")


@damage(Code.EXPERIMENT_RENAMED)
def two_experiments_have_one_name(spot: Spot) -> None:
    write_experiment(spot.root, f"{spot.exp}1", spot.name, creation_ms=START_MS + 1)


@damage(Code.EXPERIMENT_RENAMED, Code.EXPERIMENT_ID_CHANGED, Code.ID_MISMATCH)
def a_file_manager_copied_an_experiment(spot: Spot) -> None:
    copy = spot.root / f"{spot.exp} - Copy"
    write_experiment(spot.root, spot.exp, spot.name, tags={"team": "blue"})
    copy.mkdir()
    shutil.copy(spot.folder / "meta.yaml", copy / "meta.yaml")


@damage(Code.ENTITY_CLASHES, Code.ID_MISMATCH, rejected={Kind.RUN: 1, Kind.PARAM: 3, Kind.TAG: 3,
        Kind.METRIC_POINT: 6, Kind.INPUT: 1, Kind.OUTPUT: 1})  # fmt: skip
def a_run_lies_in_two_experiments(spot: Spot) -> None:
    write_experiment(spot.root, f"{spot.exp}1", f"{spot.name} again")
    shutil.copytree(spot.train, spot.root / f"{spot.exp}1" / spot.id("train"))


@damage(Code.FOLDER_IS_A_FILE, Code.FILE_IGNORED, differs=("experiment/tag/team",))
def the_tags_of_an_experiment_are_a_file(spot: Spot) -> None:
    shutil.rmtree(spot.folder / "tags")
    (spot.folder / "tags").write_text("team=blue")


# ------------------------------------------------------------------------ native traces


@damage(Code.SPANS_DAMAGED, Code.SPAN_DAMAGED, rejected={Kind.SPAN: 1}, differs=("trace/*",))
def the_spans_of_a_trace_are_half_written(spot: Spot) -> None:
    file = spot.trace / "artifacts" / "traces.json"
    data = file.read_bytes()
    file.write_bytes(data[: data.index(b"think") + 3])


@damage(Code.SPANS_DAMAGED, differs=("trace/*",))
def the_spans_of_a_trace_are_empty(spot: Spot) -> None:
    (spot.trace / "artifacts" / "traces.json").write_bytes(b"")


@damage(Code.SPANS_DAMAGED, differs=("trace/*",))
def the_spans_of_a_trace_are_binary(spot: Spot) -> None:
    (spot.trace / "artifacts" / "traces.json").write_bytes(b"\x80\x04\x95" + os.urandom(0) * 9)


@damage(Code.SPANS_MISSING, differs=("trace/*",))
def the_spans_of_a_trace_are_missing(spot: Spot) -> None:
    shutil.rmtree(spot.trace / "artifacts")


@damage(Code.META_EMPTY, Code.TRACE_REBUILT, Code.TRACE_TIME_MISSING, differs=("trace/info/*",))
def the_info_of_a_trace_is_empty(spot: Spot) -> None:
    (spot.trace / "trace_info.yaml").write_bytes(b"")


@damage(Code.SPAN_REPAIRED, Code.TRACE_SPAN_CLOSED, differs=("trace/span/*",))
def a_span_has_no_id_and_no_times(spot: Spot) -> None:
    edit_spans(spot, lambda spans: [spans[0], {"name": "think", "parent_span_id": "1" * 16}])


@damage(Code.SPAN_TWICE, differs=("trace/*",))
def two_spans_have_one_id(spot: Spot) -> None:
    edit_spans(spot, lambda spans: [*spans, {**spans[1], "name": "think again"}])


@damage(Code.TRACE_ROOT_ADDED)
def spans_are_each_others_parents(spot: Spot) -> None:
    edit_spans(spot, lambda spans: [{**spans[0], "parent_span_id": "2" * 16}, spans[1]])


@damage(Code.TRACE_ROOT_ADDED, differs=("trace/*",))
def the_root_of_a_trace_is_missing(spot: Spot) -> None:
    edit_spans(spot, lambda spans: [spans[1], {**spans[1], "span_id": "3" * 16, "name": "act"}])


@damage(Code.TRACE_SPAN_CLOSED, differs=("trace/*",))
def a_span_was_never_closed(spot: Spot) -> None:
    edit_spans(spot, lambda spans: [spans[0], {**spans[1], "end_time_unix_nano": None}])


@damage(Code.ASSESSMENT_DAMAGED, rejected={Kind.ASSESSMENT: 1}, differs=("trace/assessment/good",))
def an_assessment_has_no_value(spot: Spot) -> None:
    file = next((spot.trace / "assessments").iterdir())
    edit(file, "feedback:\n  value: true\n", "")


@damage(Code.META_VALUE_UNUSABLE, Code.STATUS_UNKNOWN, differs=("trace/info/state",))
def the_state_of_a_trace_is_nonsense(spot: Spot) -> None:
    edit(spot.trace / "trace_info.yaml", "state: OK", "state: [OK]")


@damage(Code.META_MISSING, Code.SPANS_MISSING, Code.TRACE_EMPTY, rejected={Kind.TRACE: 1})
def a_trace_is_an_empty_directory(spot: Spot) -> None:
    (spot.folder / "traces" / ("tr-" + "e" * 28 + f"{spot.number:04d}")).mkdir()


# --------------------------------------------------------------- datasets, models, registry


@damage(
    Code.META_EMPTY,
    Code.DATASET_DAMAGED,
    Code.LOAD_WITHOUT_PARENT,
    rejected={Kind.DATASET: 1, Kind.INPUT: 1},
    differs=("run/train/input/*",),
)
def the_meta_of_a_dataset_is_empty(spot: Spot) -> None:
    next((spot.folder / "datasets").glob("*/meta.yaml")).write_bytes(b"")


@damage(
    Code.META_MISSING,
    Code.FILE_IGNORED,
    Code.INPUT_DAMAGED,
    rejected={Kind.INPUT: 1},
    differs=("run/train/input/*",),
)
def the_meta_of_an_input_is_a_stray(spot: Spot) -> None:
    file = next((spot.train / "inputs").glob("*/meta.yaml"))
    file.rename(file.with_name("meta.yaml.orig"))


@damage(Code.META_EMPTY, Code.MODEL_REBUILT, differs=("model/meta/*",))
def the_meta_of_a_logged_model_is_empty(spot: Spot) -> None:
    (spot.model / "meta.yaml").write_bytes(b"")


@damage(Code.METRIC_LINE_MALFORMED, rejected={Kind.LOGGED_MODEL_METRIC: 1})
def a_metric_of_a_logged_model_has_a_line_of_words(spot: Spot) -> None:
    with (spot.model / "metrics" / "f1").open("a") as file:
        file.write("what is this\n")


@damage(Code.METRIC_POINT_REPEATED)
def a_metric_of_a_logged_model_has_lines_twice(spot: Spot) -> None:
    file = spot.model / "metrics" / "f1"
    file.write_bytes(file.read_bytes() * 2)


@damage(
    Code.LOAD_WITHOUT_PARENT,
    rejected={Kind.LOGGED_MODEL_METRIC: 1},
)
def a_metric_of_a_logged_model_names_a_run_that_is_gone(spot: Spot) -> None:
    (spot.model / "metrics" / "recall").write_text(f"{START_MS} 0.5 0 {'8' * 32}\n")


@damage(Code.META_MISSING, Code.MODEL_REBUILT, differs=("registered/meta/*",))
def the_meta_of_a_registered_model_is_missing(spot: Spot) -> None:
    (spot.registered / "meta.yaml").unlink()


@damage(
    Code.META_MISSING,
    Code.MODEL_VERSION_REBUILT,
    Code.MODEL_VERSION_TIME_MISSING,
    differs=("registered/version/1/*",),
)
def the_meta_of_a_model_version_is_missing(spot: Spot) -> None:
    (spot.registered / "version-1" / "meta.yaml").unlink()


@damage(Code.ALIAS_DAMAGED, rejected={Kind.ALIAS: 1}, differs=("registered/alias/best",))
def an_alias_is_a_word(spot: Spot) -> None:
    (spot.registered / "aliases" / "best").write_text("the second")


@damage(Code.ALIAS_DANGLING, differs=("registered/alias/best",))
def an_alias_names_a_version_that_is_gone(spot: Spot) -> None:
    (spot.registered / "aliases" / "best").write_text("17")


@damage(
    Code.MODEL_VERSION_DAMAGED,
    Code.LOST_WITH_OWNER,
    rejected={Kind.MODEL_VERSION: 1, Kind.MODEL_VERSION_TAG: 1},
)
def the_number_of_a_model_version_is_a_word(spot: Spot) -> None:
    shutil.copytree(spot.registered / "version-1", spot.registered / "version-two")


# --------------------------------------------------------- names that are not quite right


@damage(Code.STAND_IN_READ)
def the_meta_of_a_run_is_spelled_in_capitals(spot: Spot) -> None:
    (spot.train / "meta.yaml").rename(spot.train / "META.YAML")


@damage(Code.STAND_IN_READ)
def of_the_meta_of_a_run_only_a_backup_is_there(spot: Spot) -> None:
    (spot.train / "meta.yaml").rename(spot.train / "meta.yaml.bak")


@damage(Code.STAND_IN_READ)
def of_the_meta_of_a_run_only_a_conflict_copy_is_there(spot: Spot) -> None:
    (spot.train / "meta.yaml").rename(spot.train / "meta (1).yaml")


@damage(Code.META_DAMAGED, Code.RUN_REBUILT, differs=LOST_META)
def the_meta_of_a_run_is_utf_16_without_a_mark(spot: Spot) -> None:
    meta = spot.train / "meta.yaml"
    meta.write_bytes(meta.read_text(encoding="utf-8").encode("utf-16-le"))


@damage(Code.META_VALUE_UNUSABLE)
def the_stage_of_a_run_is_nonsense(spot: Spot) -> None:
    edit(spot.train / "meta.yaml", "lifecycle_stage: active", "lifecycle_stage: zombie")


@damage(Code.STAND_IN_READ)
def the_params_and_tags_of_a_run_are_spelled_in_capitals(spot: Spot) -> None:
    for name in ("params", "tags"):
        (spot.write / name).rename(spot.write / name.upper())


@damage(Code.STAND_IN_READ, Code.DIRECTORY_IGNORED)
def the_params_of_a_run_are_there_twice_in_other_letters(spot: Spot) -> None:
    (spot.train / "params").rename(spot.train / "PARAMS")
    (spot.train / "Params").mkdir()
    (spot.train / "Params" / "other").write_text("1")


@damage(Code.RUNS_IGNORED)
def runs_lie_in_a_trash_within_an_experiment(spot: Spot) -> None:
    shutil.copytree(spot.train, spot.folder / ".trash" / spot.id("copy"))


@damage(Code.STAND_IN_READ)
def the_meta_of_an_experiment_has_another_ending(spot: Spot) -> None:
    (spot.folder / "meta.yaml").rename(spot.folder / "meta.yml")


@damage(Code.TIME_NOT_MS, differs=("run/flow/meta/*_time", "rebuilt/flow/*"))
def the_times_of_a_workflow_are_in_microseconds(spot: Spot) -> None:
    for name, time_ms in (("start_time", START_MS), ("end_time", START_MS + 5000)):
        edit(spot.flow / "meta.yaml", f"{name}: {time_ms}", f"{name}: {time_ms * 1000}")


@damage(
    Code.TIME_NOT_MS,
    differs=("run/write/meta/*_time", "rebuilt/flow/span/write/times", "rebuilt/flow/tag/*infer*"),
)
def the_start_of_a_step_is_before_all_times(spot: Spot) -> None:
    edit(spot.write / "meta.yaml", f"start_time: {START_MS + 100}", f"start_time: {-9 * 10**18}")


def edit_spans(spot: Spot, change: Callable[[list[dict[str, object]]], object]) -> None:
    """Change the list of spans of a spot's trace."""
    file = spot.trace / "artifacts" / "traces.json"
    spans = json.loads(file.read_text(encoding="utf-8"))["spans"]
    file.write_text(json.dumps({"spans": change(spans)}), encoding="utf-8")
