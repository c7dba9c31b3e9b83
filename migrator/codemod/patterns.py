"""The patterns of legacy tracking code, and their replacements.

The search works on the syntax tree and follows names through ``import ... as``. It offers an edit
only if the place itself leaves no doubt: an import, or a literal passed directly to MLflow. The
user has to decide, for example, whether a nested run was a step of an agent or a trial of a sweep.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from migrator.codemod.sources import Source

LEGACY = "configurable_agents.observability"
TRACKER = "MLFlowTracker"
NEW_IMPORT = "migrator.tracker"

IMPORT = "legacy-import"
URI = "file-store-uri"
PATH = "mlruns-path"
NESTED = "nested-run"
TOKENS = "token-metric"
TEXTS = "prompt-artifact"
USAGE = "usage-by-getattr"
READ = "run-reader"

MOST_SHOWN = 60  # characters of a line of code, in a reason

ADVICE = {
    IMPORT: "from migrator.tracker import MLFlowTracker; cost_summary() sums up tokens and cost",
    URI: "a database such as {new}, after `mlflow-migrate convert {old} --to {new}`",
    PATH: "new runs are not written there: read the database through MLflow's client",
    NESTED: "for a step of an agent: `with tracker.track_node(name, model):` or"
    " `tracker.span(name)`; a trial of a sweep may stay a run",
    TOKENS: "tracker.log_node_metrics(usage=response), or span.record_usage(response): summed up,"
    " priced, and in MLflow's token charts",
    TEXTS: "tracker.log_node_metrics(prompt=..., response=...), or span.set_inputs, set_outputs;"
    " track_workflow(inputs) and finalize_workflow(outputs) for the whole",
    USAGE: "tracker.log_node_metrics(usage=response): LangChain's usage is a dictionary, where"
    " getattr finds 0",
    READ: "the tracker's workflows are traces now, and no runs: tracker.cost_summary(), or"
    " mlflow.search_traces(); what was converted answers both",
}
NODES_RAISE = "an exception in a node's block is now raised (it was swallowed)"

PUT_TOGETHER = "a database: sqlite:///..., after `mlflow-migrate convert` has moved the store"

LOGGERS = frozenset({"log_metric", "log_metrics"})
WRITERS = frozenset({"log_text", "log_dict", "log_param", "set_tag"})
FILE_WRITERS = frozenset({"log_text", "log_dict"})
STARTERS = frozenset({"start_run", "create_run"})
READERS = frozenset(
    {"search_runs", "get_run", "get_parent_run", "get_metric_history", "last_active_run"}
)
# What the legacy tracker called the things that it wrote: who asks for them reads its runs.
ITS_KEYS = re.compile(
    r"\b(?:workflow_name|node_id|node_count|total_(?:in|out)put_tokens|total_cost_usd"
    r"|mlflow\.parentRunId)\b"
)
# The legacy calls that the new tracker has, with their parameters.
CALLS = {
    "track_workflow": ("inputs",),
    "finalize_workflow": ("final_state", "status"),
    "track_node": ("node_id", "model", "tools", "node_config"),
    "log_node_metrics": (
        "input_tokens", "output_tokens", "model", "retries", "prompt", "response"
    ),
    "get_trace_decorator": None,  # any attributes
    "track_provider_call": ("provider", "model", "response"),
    "get_workflow_cost_summary": ("trace_id",),
}  # fmt: skip
# Calls of MLflow that take a tracking URI as their first argument, or by these names.
TAKERS = frozenset({"set_tracking_uri", "set_registry_uri", "MlflowClient", "MLflowClient"})
URI_NAMES = frozenset({"tracking_uri", "registry_uri", "uri", "mlflow_tracking_uri"})
VARIABLES = frozenset({"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"})
A_COUNT = re.compile(
    r"(?:^|_)tokens?(?:_count)?(?:_total)?$|_usd$|(?:^|_)(?:total|llm|api|node)_cost$"
)
A_TEXT = re.compile(
    r"(?:^|/)(?:prompts?|responses?|inputs|outputs|error|completion|messages)(?:\.(?:txt|json|md))?$"
)
AN_ERROR = re.compile(r"(?:^|/)error$")  # a tag, not a file with a prompt
A_USAGE = re.compile(r"(?:input|output|prompt|completion|total)_tokens$")
SIMPLE_LITERAL = re.compile(r"[uU]?(?:'[^'\\\n]*'|\"[^\"\\\n]*\")$")
STORE_PATH = re.compile(r"(?:file:|(?!\w+://))(?:.*/)?mlruns/?$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One legacy pattern. Lines and columns count from 1, columns in characters."""

    path: str
    line: int
    column: int
    code: str
    found: str  # the line of the source
    replacement: str
    safe: bool = False  # --write rewrites it
    cell: int | None = None  # of a notebook
    edit: str | None = None  # the new literal or import; None if not safe

    def as_dict(self) -> dict[str, str | int | bool | None]:
        """Return plain values for JSON."""
        names = ("path", "cell", "line", "column", "code", "found", "replacement", "safe")
        return {name: getattr(self, name) for name in names}


def findings_in(source: Source) -> list[Finding]:
    """Return all legacy patterns in a source, in the order of their places.

    The tracker's import is only offered as an edit if the rest of the source goes on working.
    """
    finder = _Finder(source)
    found = {(each.line, each.column, each.code): each for each in finder.all()}
    findings = [found[place] for place in sorted(found)]
    reason = finder.why_not_new_tracker(findings)
    if reason is None:
        return findings
    return [
        replace(each, edit=None, safe=False, replacement=f"{each.replacement}; {reason}")
        if each.code == IMPORT and each.edit is not None
        else each
        for each in findings
    ]


class _Finder:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.lines = re.split(r"\r\n|\r|\n", source.text.removeprefix("\ufeff"))
        self.nodes = list(ast.walk(source.tree))
        self.names = dict(self._imported())
        self.uses_mlflow = any(name.split(".")[0] == "mlflow" for name in self.names.values())
        self.taken: set[int] = set()  # literals that a finding covers
        self.is_about_tracker = any(
            name.rpartition(".")[2] == TRACKER for name in self.names.values()
        ) or any(ITS_KEYS.search(_text(node)) for node in self.nodes)

    def all(self) -> Iterator[Finding]:
        """Yield the findings. Calls come before literals, whose meaning depends on their place."""
        for node in self.nodes:
            if isinstance(node, ast.ImportFrom | ast.Import):
                yield from self._import(node)
            elif isinstance(node, ast.Call):
                yield from self._call(node)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                yield from self._assigned(node)
        for node in self.nodes:
            if isinstance(node, ast.Dict):
                yield from self._entries(node)
        prose = self._prose()
        for node in self.nodes:
            is_covered = id(node) in self.taken or id(node) in prose
            if isinstance(node, ast.Constant) and not is_covered:
                yield from self._literal(node)

    def _entries(self, node: ast.Dict) -> Iterator[Finding]:
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and _text(key).lower() in URI_NAMES - {"uri"}:
                yield from self._uri(value, safe=False)

    def _literal(self, node: ast.Constant) -> Iterator[Finding]:
        text = _text(node)
        if text.startswith(f"{LEGACY}."):
            yield self._finding(node, IMPORT)
        elif text == "mlflow.parentRunId":
            yield self._finding(node, NESTED)
        elif text.startswith("file:") and STORE_PATH.match(text):
            yield from self._uri(node, safe=False)
        elif self.uses_mlflow and STORE_PATH.match(text):
            yield self._finding(node, PATH)

    # ---------------------------------------------------------------------------- imports
    def _imported(self) -> Iterator[tuple[str, str]]:
        """Yield imported names with their meaning: ``mf`` and ``mlflow``."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield (
                        (alias.asname, alias.name)
                        if alias.asname
                        else (alias.name.split(".")[0],) * 2
                    )
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    module = "." * node.level + (node.module or "")
                    yield alias.asname or alias.name, f"{module}.{alias.name}"

    def _import(self, node: ast.ImportFrom | ast.Import) -> Iterator[Finding]:
        if isinstance(node, ast.Import):
            if any(_is_legacy(alias.name) for alias in node.names):
                yield self._finding(node, IMPORT)
            return
        module = node.module or ""
        names = {alias.name for alias in node.names}
        if node.level == 0 and _is_legacy(module):
            if TRACKER not in names or not self._alone(node):
                yield self._finding(node, IMPORT)
                return
            clause = next(alias for alias in node.names if alias.name == TRACKER)
            new = f"from {NEW_IMPORT} import {TRACKER}"
            if clause.asname:
                new += f" as {clause.asname}"
            yield self._finding(node, IMPORT, replacement=f"{new}; {NODES_RAISE}", edit=new)
        elif TRACKER in names and module != NEW_IMPORT and not module.startswith("migrator"):
            yield self._finding(
                node, IMPORT, replacement=f"if it is the legacy tracker: {ADVICE[IMPORT]}"
            )

    def _alone(self, node: ast.stmt) -> bool:
        """Return True if nothing but a comment shares the lines of a statement."""
        before = self.lines[node.lineno - 1][: self._column(node) - 1]
        last = self.lines[(node.end_lineno or node.lineno) - 1]
        after = last.encode()[node.end_col_offset or 0 :].decode().strip()
        return not before.strip() and (not after or after.startswith("#"))

    # ------------------------------------------------------------------------------ calls
    def _call(self, node: ast.Call) -> Iterator[Finding]:
        yield from self._places_of(node)
        last = self._name_of(node.func).rpartition(".")[2]
        if last in STARTERS:
            yield from self._nested(node)
        elif (code := self._code_of(node)) is not None:
            yield self._finding(node, code)

    def _places_of(self, node: ast.Call) -> Iterator[Finding]:
        """Search the places to log to that are passed to a call."""
        name = self._name_of(node.func)
        is_tracker = self._is_tracker(name)
        is_mlflow = name.startswith("mlflow.")
        if name.rpartition(".")[2] in TAKERS and (is_mlflow or self.uses_mlflow):
            named = [keyword.value for keyword in node.keywords if keyword.arg in URI_NAMES]
            for value in (*node.args[:1], *named):
                yield from self._uri(value, safe=is_mlflow)
        elif is_tracker:
            for value in (*node.args, *(keyword.value for keyword in node.keywords)):
                yield from self._settings(value)
        for keyword in node.keywords:
            if keyword.arg in URI_NAMES - {"uri"}:
                yield from self._uri(keyword.value, safe=is_tracker)
        is_variable = len(node.args) == 2 and _text(node.args[0]) in VARIABLES
        if is_variable and name in ("os.environ.setdefault", "os.putenv"):
            yield from self._uri(node.args[1], safe=True)
        elif is_variable and name in ("os.environ.get", "os.getenv"):
            yield from self._uri(node.args[1], safe=False)  # it may not be for MLflow only

    def _code_of(self, node: ast.Call) -> str | None:
        """What a call does that has another form with the new tracker, by its code."""
        name = self._name_of(node.func)
        last = name.rpartition(".")[2]
        if name == "getattr":
            reads_usage = _any(A_USAGE, node) and "usage" in ast.unparse(node).lower()
            return USAGE if reads_usage else None
        if not self.uses_mlflow:
            return None
        if last in LOGGERS and _any(A_COUNT, node):
            return TOKENS
        if last in WRITERS and _any(A_TEXT, node):
            is_error_tag = last not in FILE_WRITERS and _any(AN_ERROR, node)
            return None if is_error_tag else TEXTS
        return READ if last in READERS and self.is_about_tracker else None

    def _nested(self, node: ast.Call) -> Iterator[Finding]:
        for keyword in node.keywords:
            off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
            if keyword.arg in ("nested", "parent_run_id") and not off:
                yield self._finding(node, NESTED)

    def _is_tracker(self, name: str) -> bool:
        return name.rpartition(".")[2] == TRACKER and (
            _is_legacy(name.rpartition(".")[0]) or name.startswith("migrator.tracker")
        )

    def _settings(self, value: ast.expr) -> Iterator[Finding]:
        """Search settings that are passed to the tracker as literals."""
        for node in ast.walk(value):
            if isinstance(node, ast.Dict):
                for key, item in zip(node.keys, node.values, strict=True):
                    if key is not None and _text(key) == "tracking_uri":
                        yield from self._uri(item, safe=True)

    def _assigned(self, node: ast.Assign | ast.AnnAssign) -> Iterator[Finding]:
        if node.value is None:
            return
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Subscript) and _text(target.slice) in VARIABLES:
                yield from self._uri(node.value, safe=self._name_of(target.value) == "os.environ")
            elif isinstance(target, ast.Name | ast.Attribute):
                name = target.id if isinstance(target, ast.Name) else target.attr
                if name.lower().endswith("tracking_uri"):
                    yield from self._uri(node.value, safe=False)

    # ------------------------------------------------------------------------ what is safe
    def why_not_new_tracker(self, findings: Sequence[Finding]) -> str | None:
        """Say why the source would break on the new tracker; None if it would not."""
        if not any(each.code == IMPORT and each.edit for each in findings):
            return None
        reads = [str(each.line) for each in findings if each.code == READ]
        if reads:
            return f"change the reads of its runs first (line {', '.join(reads)})"
        stores = [str(each.line) for each in findings if each.code == URI and each.edit is None]
        if stores:
            return f"replace the file store first (line {', '.join(stores)})"
        for node in self.nodes:
            if isinstance(node, ast.ClassDef) and any(map(self._is_tracker_class, node.bases)):
                return f"change class {node.name}, derived from it, first (line {node.lineno})"
        return self._unknown_use()

    def _unknown_use(self) -> str | None:
        """Find a use of a tracker that the new one doesn't have."""
        trackers = set(self._trackers())
        uses = [
            node
            for node in self.nodes
            if isinstance(node, ast.Attribute)
            and (node.attr in CALLS or ast.unparse(node.value) in trackers)
        ]
        calls = {id(node.func): node for node in self.nodes if isinstance(node, ast.Call)}
        for use in sorted(uses, key=lambda each: (each.lineno, each.col_offset)):
            call = calls.get(id(use))
            if use.attr not in CALLS or (call is not None and not _fits(call, CALLS[use.attr])):
                text = ast.unparse(call or use)
                shown = text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"
                return f"change {shown} first (line {use.lineno})"
        return None

    def _trackers(self) -> Iterator[str]:
        """Yield what trackers are called: ``tracker``, ``self.tracker``."""
        for node in self.nodes:
            if isinstance(node, ast.arg):
                if node.annotation is not None and self._is_tracker_class(node.annotation):
                    yield node.arg
                continue
            targets: list[ast.expr] = []
            if isinstance(node, ast.Assign):
                targets = node.targets
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
                targets = [node.target]
            value = getattr(node, "value", None)
            if targets and value is not None and self._makes_tracker(value):
                yield from map(ast.unparse, targets)

    def _makes_tracker(self, value: ast.expr) -> bool:
        """Return True if a tracker is made anywhere in an expression, as in ``given or new()``."""
        return any(
            isinstance(node, ast.Call) and self._is_tracker_class(node.func)
            for node in ast.walk(value)
        )

    def _is_tracker_class(self, node: ast.expr) -> bool:
        return self._is_tracker(self._name_of(node))

    def _name_of(self, node: ast.expr) -> str:
        """Return a call's dotted name with imports resolved: ``mlflow.start_run`` for ``mf...``."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ".".join(("?", *reversed(parts)))
        return ".".join((self.names.get(node.id, node.id), *reversed(parts)))

    # ------------------------------------------------------------------------------- URIs
    def _uri(self, node: ast.expr, safe: bool) -> Iterator[Finding]:
        if id(node) in self.taken:
            return
        text = _text(node)
        if not text and isinstance(node, ast.JoinedStr | ast.BinOp | ast.Call):
            # Put together: only seen, never rewritten.
            parts = [each for each in ast.walk(node) if isinstance(each, ast.Constant)]
            parts.sort(key=lambda each: (each.lineno, each.col_offset))
            begins = next((_text(each) for each in parts if _text(each)), "")
            if begins.startswith("file:"):
                self.taken.update(id(each) for each in ast.walk(node))
                yield self._finding(node, URI, replacement=PUT_TOGETHER)
            return
        old = store_path(text)
        if old is None:
            return
        self.taken.add(id(node))
        new = database_of(old)
        written = ast.get_source_segment(self.source.text, node) or ""
        quote = written[-1:]
        can = safe and new is not None and bool(SIMPLE_LITERAL.match(written))
        can = can and quote not in (new or quote)
        yield self._finding(
            node, URI, old, new, edit=f"{quote}{new}{quote}" if can and new is not None else None
        )

    # ---------------------------------------------------------------------------- reports
    def _prose(self) -> set[int]:
        """Return the texts that are docstrings, or stand alone."""
        return {id(node.value) for node in self.nodes if isinstance(node, ast.Expr)}

    def _column(self, node: ast.stmt | ast.expr) -> int:
        """Return a node's column in characters, from 1 (``ast`` counts bytes of UTF-8, from 0)."""
        line = self.lines[node.lineno - 1]
        return len(line.encode()[: node.col_offset].decode()) + 1

    def _finding(
        self,
        node: ast.stmt | ast.expr,
        code: str,
        old: str = "",
        new: str | None = None,
        *,
        replacement: str | None = None,
        edit: str | None = None,
    ) -> Finding:
        advice = replacement or ADVICE[code].format(
            old=old or "./mlruns", new=new or "sqlite:///mlflow.db"
        )
        return Finding(
            str(self.source.path), node.lineno, self._column(node), code,
            self.lines[node.lineno - 1].strip()[:160], advice, edit is not None,
            self.source.cell, edit if self.source.cell is None else None,
        )  # fmt: skip


def store_path(text: str) -> str | None:
    """Return the directory of a file store's tracking URI; None for any other URI."""
    if text.startswith("file:"):
        path = unquote(text.removeprefix("file:"))
        if path.startswith("//"):  # file:///abs, file://localhost/abs, and file://./relative
            host, slash, rest = path[2:].partition("/")
            path = f"./{rest}" if host == "." else f"{slash}{rest}"
            if host not in ("", ".", "localhost"):
                return text
        return re.sub(r"^/(?=[A-Za-z]:)", "", path) or "./mlruns"  # file:///C:/x
    if "://" in text or ":" in text or not text:
        return None
    return text if "/" in text or STORE_PATH.match(text) else None


def database_of(path: str) -> str | None:
    """Return the URI of the database beside a file store; None if the path is not plain."""
    if any(sign in path for sign in "?#%~\\'\"") or path.startswith("file:"):
        return None
    folder, slash, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        return None
    folder = (folder + slash).removeprefix("./")
    return f"sqlite:///{folder}{'mlflow' if name == 'mlruns' else name}.db"


def _fits(call: ast.Call, parameters: tuple[str, ...] | None) -> bool:
    """Return True if a call passes only these parameters; None stands for any."""
    if parameters is None:
        return True
    names = {keyword.arg for keyword in call.keywords}
    return len(call.args) <= len(parameters) and names <= set(parameters)


def _is_legacy(module: str) -> bool:
    return module == LEGACY or module.startswith(f"{LEGACY}.")


def _text(node: ast.AST | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _any(pattern: re.Pattern[str], call: ast.Call) -> bool:
    return any(pattern.search(key.lower()) for key in _keys(call))


def _keys(call: ast.Call) -> Iterator[str]:
    """Yield the texts in a call's arguments, and the keys of dictionaries there."""
    for value in (*call.args, *(keyword.value for keyword in call.keywords)):
        for each in value.keys if isinstance(value, ast.Dict) else [value]:
            if isinstance(each, ast.JoinedStr):  # f"{node}_tokens"
                yield "".join(_text(part) for part in each.values)
            else:
                yield _text(each)
