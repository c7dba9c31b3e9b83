"""The report as a page: its numbers, what it draws, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from migrator import pipeline
from migrator.cli import main
from migrator.issues import Code, Issue, Kind
from migrator.outcome.summary import (
    MOST_TREES,
    WEEK_MS,
    Decision,
    ExperimentSummary,
    Outcome,
    TreeSize,
    Week,
    monday,
)
from migrator.report.charts import LONG_GAP, MOST_BARS
from migrator.report.html import html_report
from tests.support import fixturekit
from tests.support.storekit import write_experiment, write_run

pytestmark = pytest.mark.xdist_group("unit_report_page")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--allow-file-access-from-files",
)  # fmt: skip
MONDAY_MS = 1_709_510_400_000  # 2024-03-04T00:00Z
DAY_MS = 86_400_000


def run(*args: object) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert "Traceback" not in result.output
    return result


class Page(HTMLParser):
    """What a page says: its totals, its named tables, its issues and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.totals: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.issues: dict[str, int] = {}
        self.links: list[str] = []
        self._total: str | None = None
        self._table: list[list[str]] | None = None
        self._skip = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "small":
            self._skip += 1
        if tag == "dd":
            self._total = found["data-total"]
            self.totals[self._total] = ""
        elif tag == "table":
            self._table = self.tables.setdefault(found.get("data-table", ""), [])
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table is not None:
            self._table[-1].append("")
        elif tag == "section":
            self.issues[found["id"]] = int(found["data-count"])
        elif tag == "a":
            self.links.append(found["href"])

    def handle_endtag(self, tag: str) -> None:
        if tag == "small":
            self._skip -= 1
        if tag == "dd":
            self._total = None
        elif tag == "table":
            self._table = None

    def handle_data(self, data: str) -> None:
        if self._skip:
            return
        if self._total is not None:
            self.totals[self._total] += data
        elif self._table and self._table[-1]:
            self._table[-1][-1] += data

    def numbers(self, table: str) -> list[list[Any]]:
        """Return a table's rows without its header; what looks like a number is one."""
        return [
            [int(c.replace(",", "")) if re.fullmatch(r"[\d,]+", c) else c or 0 for c in row]
            for row in self.tables.get(table, [])[1:]
        ]


def check_against_json(page: Page, told: dict[str, Any]) -> None:
    """Assert that every number on a page is the JSON report's."""
    found = {row["kind"]: row for row in told["ledger"]}
    experiments = told["experiments"]

    def total(*names: str) -> str:
        return f"{sum(e[name] for e in experiments for name in names):,}"

    assert page.totals == {
        "runs": f"{found['run']['found']:,}",
        "traces": total("traces", "native_traces"),
        "tokens": total("input_tokens", "output_tokens"),
        "experiments": f"{found['experiment']['found']:,}",
        "files": f"{told['files']['found']:,}",
        "rejected": f"{sum(i['count'] for i in told['issues'] if i['severity'] == 'rejected'):,}",
    }
    columns = ("week", "runs", "traces", "input_tokens", "output_tokens")
    assert page.numbers("weeks") == [[week[c] for c in columns] for week in told["weeks"]]
    assert [row[:5] for row in page.numbers("experiments")] == [
        [
            e["name"],
            e["runs"],
            e["traces"] + e["native_traces"],
            e["spans"] + e["native_spans"],
            e["input_tokens"] + e["output_tokens"],
        ]
        for e in experiments
        if e["runs"] or e["native_traces"]
    ]
    parts = ("runs", "depth", "role", "traces", "spans", "tokens")
    trees: list[list[Any]] = []
    alike: dict[str, int] = {}
    for tree in told["biggest_trees"]:  # at most three that differ in name and tokens only
        kind = json.dumps([tree["experiment_id"], *(tree[part] for part in parts[:5])])
        alike[kind] = alike.get(kind, 0) + 1
        if alike[kind] <= 3:
            trees.append([tree[part] for part in parts])
    assert [row[1:7] for row in page.numbers("trees")] == trees
    names = [name.replace(" ", "_") for name in page.tables["ledger"][0][1:]]
    names = ["converted" if name == "to_be_converted" else name for name in names]
    assert page.numbers("ledger") == [
        [row["kind"], *(row[name] for name in names)] for row in told["ledger"]
    ]
    issues: dict[str, int] = {}
    for issue in told["issues"]:
        issues[issue["code"]] = issues.get(issue["code"], 0) + issue["count"]
    assert page.issues == issues


# ------------------------------------------------------------------------ what the page says


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The page of a scan of two fixtures, one of them damaged, and the scan's JSON."""
    folder = tmp_path_factory.mktemp("page")
    store = fixturekit.materialise("2.22.5-agents", folder)
    (metric,) = list(store.glob("*/*/metrics/input_tokens"))[:1]
    metric.write_text("no line\nnor this\n" + metric.read_text())
    (store / "left.tmp").write_text("x")
    page = folder / "scan.html"
    result = run("scan", store, fixturekit.store("3.5.1-genai"), "--html", page, "--json")
    assert result.exit_code == 3
    return page, json.loads(result.stdout)


def test_the_numbers_of_a_scans_page_are_those_of_its_json(
    scanned: tuple[Path, dict[str, Any]],
) -> None:
    path, told = scanned
    page = Page(path.read_text(encoding="utf-8"))
    assert page.totals["rejected"] == "2"
    check_against_json(page, told)


def test_every_issue_says_what_to_do(scanned: tuple[Path, dict[str, Any]]) -> None:
    path, told = scanned
    text = path.read_text(encoding="utf-8")
    assert {issue["code"] for issue in told["issues"]} >= {"metric-line-malformed", "file-ignored"}
    for issue in told["issues"]:
        assert issue["action"].split("'")[0] in text, issue["code"]


def test_the_page_of_a_conversion_has_its_numbers_and_links_that_show_history(
    tmp_path: Path,
) -> None:
    report = tmp_path / "r.html"
    target = f"sqlite:///{tmp_path}/m.db"
    result = run(
        "convert", fixturekit.store("3.5.1-genai"), "--to", target, "--schema", "3.9",
        "--report", report, "--json",
    )  # fmt: skip
    told = json.loads(result.stdout)
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    check_against_json(page, told)
    assert f"mlflow server --backend-store-uri {target}" in text
    traced = {e["target_id"] for e in told["experiments"] if e["traces"] + e["native_traces"]}
    links = [link for link in page.links if not link.startswith("#")]
    assert {int(link.split("/experiments/")[1].split("/")[0]) for link in links} == traced
    assert all("startTimeLabel=CUSTOM&startTime=20" in link for link in links)


def test_a_page_is_refused_before_any_work_where_it_can_not_be_written(tmp_path: Path) -> None:
    store = fixturekit.store("2.22.5-emptied")
    for name in ("page.json", "missing/page.html", "."):
        result = run("scan", store, "--html", tmp_path / name)
        assert result.exit_code == 2, name
        assert "report" in result.output
    assert list(tmp_path.iterdir()) == []


HOSTILE = "<script>alert('1')</script> & \"x\" {{ 7 * 7 }} \x1b[1m"
SHOWN = HOSTILE.replace("\x1b", "\\x1b")


def test_text_of_a_source_is_shown_and_neither_run_nor_lost() -> None:
    outcome = outcome_of({MONDAY_MS // WEEK_MS: Week(runs=1)})
    outcome.sources = (HOSTILE,)
    (experiment,) = outcome.experiments
    experiment.name = experiment.target_name = HOSTILE
    experiment.decisions[(HOSTILE,)] = Decision(HOSTILE, None, None, (), trees=1)
    experiment.biggest.append(TreeSize("1" * 32, HOSTILE, 2, 2, HOSTILE, 1, 1, 1, MONDAY_MS))
    outcome.ledger.issues.append(
        Issue(Code.FILE_IGNORED, HOSTILE, HOSTILE, HOSTILE, sample=HOSTILE)
    )
    text = html_report(outcome, values=True)
    assert "<script" not in text and "\x1b" not in text
    tables = Page(text).tables
    assert tables["experiments"][1][0] == SHOWN and f"1 {SHOWN}" in tables["experiments"][1]
    assert tables["trees"][1][0] == tables["trees"][1][3] == tables["trees"][1][8] == SHOWN
    assert tables[""][1] == [SHOWN, "", SHOWN, SHOWN, SHOWN]


@pytest.mark.parametrize(
    ("rejected", "target", "dry_run", "sentence"),
    [
        (0, None, False, "Everything can be converted."),
        (1, None, False, "1 item can't be converted and is listed below; everything else can be "),
        (2, "t", True, "2 items can't be converted and are listed below; everything else can be "),
        (0, "t", True, "Everything can be converted. Nothing was written (dry run)."),
        (0, "t", False, "Everything was converted. The database is t."),
        (1, "t", False, "1 item was not converted and is listed below; everything else was "),
        (1200, "t", False, "1,200 items were not converted and are listed below; everything "),
    ],
)
def test_the_first_sentence_says_how_it_went(
    rejected: int, target: str | None, dry_run: bool, sentence: str
) -> None:
    outcome = Outcome("0", ("s",), target, dry_run)
    if rejected:
        issue = Issue(Code.ENTITY_CLASHES, "p", "m", kind=Kind.RUN, count=rejected)
        outcome.ledger.issues.append(issue)
    text = html_report(outcome)
    verdict = re.findall(r'<p class="verdict[^>]*>(.*?)</p>', text, re.DOTALL)[0]
    words = " ".join(re.sub(r"<[^>]*>", "", verdict).split())
    assert unescape(words).startswith(sentence)


# -------------------------------------------------------------------------- weeks and trees


def outcome_of(weeks: dict[int, Week]) -> Outcome:
    summary = ExperimentSummary("s", "1", "one", 1, "one", "active", weeks=weeks)
    summary.runs = sum(week.runs for week in weeks.values())
    return Outcome("0", ("s",), None, experiments=[summary])


def drawn(text: str) -> list[str]:
    """Return the tooltips of the first chart's bars, in order."""
    chart = text.split("<figure>")[1]
    return re.findall(r'<i[^>]* title="([^"]*)"', chart)


def test_weeks_begin_on_monday_at_midnight_utc(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    for number, start in enumerate((MONDAY_MS - 1, MONDAY_MS, MONDAY_MS + 7 * DAY_MS - 1), 1):
        write_run(root, "1", f"{number:032x}", start_ms=start, end_ms=start + 5)
    told = json.loads(run("scan", root, "--json").stdout)
    assert [(week["week"], week["runs"]) for week in told["weeks"]] == [
        ("2024-02-26", 1),
        ("2024-03-04", 2),
    ]


def test_each_week_is_a_bar_and_a_long_time_without_runs_is_one_gap() -> None:
    first = MONDAY_MS // WEEK_MS
    weeks = {first + n: Week(runs=1) for n in [*range(20), 24, 24 + LONG_GAP + 1]}
    bars = drawn(html_report(outcome_of(weeks)))
    assert len(bars) == 20 + 4 + 1 + 1 + 1
    assert bars[-2] == "a long gap without runs"
    assert bars[0].startswith(f"week from {monday(first)}: 1 run, 0 traces")
    assert sum(": 1 run," in bar for bar in bars) == len(weeks)


def test_many_years_are_drawn_several_weeks_a_bar_and_lose_nothing() -> None:
    weeks = {n: Week(runs=2) for n in range(2000, 2000 + 3 * MOST_BARS)}
    bars = drawn(html_report(outcome_of(weeks)))
    assert len(bars) == MOST_BARS
    assert all(bar.startswith("3 weeks from ") for bar in bars)
    assert sum(int(re.findall(r": ([\d,]+) runs", bar)[0]) for bar in bars) == 6 * MOST_BARS


def test_times_that_are_no_dates_are_not_drawn(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    write_run(root, "1", "1" * 32, start_ms=10**17, end_ms=10**17)
    for week in range(3):
        start = MONDAY_MS + week * WEEK_MS
        write_run(root, "1", f"{week + 2}" * 32, start_ms=start, end_ms=start)
    page = tmp_path / "p.html"
    told = json.loads(run("scan", root, "--json", "--html", page).stdout)
    assert sum(week["runs"] for week in told["weeks"]) <= 4
    assert drawn(page.read_text(encoding="utf-8"))


def test_few_weeks_are_a_table_and_no_week_without_runs_is_drawn_at_the_ends() -> None:
    first = MONDAY_MS // WEEK_MS
    two = html_report(outcome_of({first: Week(runs=1), first + 1: Week(runs=2)}))
    assert '<div class="bars">' not in two
    assert Page(two).numbers("weeks") == [["2024-03-04", 1, 0, 0, 0], ["2024-03-11", 2, 0, 0, 0]]
    three = html_report(outcome_of({first + n: Week(runs=1) for n in (0, 1, 4)}))
    assert [bar.split(":")[0] for bar in drawn(three)] == [
        f"week from {monday(first + n)}" for n in range(5)
    ]


def test_damage_comes_before_the_numbers_and_notes_after_them() -> None:
    def order(code: Code) -> list[str]:
        outcome = outcome_of({MONDAY_MS // WEEK_MS: Week(runs=1)})
        outcome.ledger.issues.append(Issue(code, "p", "m"))
        return re.findall(r'<h2 id="([^"]*)"', html_report(outcome))

    assert order(Code.ENTITY_CLASHES)[0] == "issues"
    assert order(Code.FILE_IGNORED).index("issues") > order(Code.FILE_IGNORED).index("time")


def test_trees_that_differ_in_name_only_are_not_listed_ten_times() -> None:
    outcome = outcome_of({MONDAY_MS // WEEK_MS: Week(runs=1)})
    (experiment,) = outcome.experiments
    experiment.biggest = [
        TreeSize(f"{n:032x}", f"flow {n}", 5, 2, "workflow", 1, 5, n, MONDAY_MS) for n in range(9)
    ]
    experiment.biggest.append(TreeSize("f" * 32, "other", 4, 2, "workflow", 1, 4, 1, MONDAY_MS))
    names = [row[0] for row in Page(html_report(outcome)).tables["trees"][1:]]
    assert names == ["flow 8", "flow 7", "flow 6", "other"]  # of one size, more tokens first


def test_a_renamed_experiment_is_named_once() -> None:
    outcome = outcome_of({MONDAY_MS // WEEK_MS: Week(runs=1)})
    (experiment,) = outcome.experiments
    experiment.target_name, experiment.target_id = "one (77)", 77
    text = html_report(outcome)
    assert "id 1; in the target named one (77), id 77" in text and "(77) (77)" not in text


def test_the_biggest_the_slowest_and_a_failed_trace_are_drawn(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")

    def workflow(number: int, steps: int, length_ms: int, status: int = 3) -> None:
        root_id = f"{number:032x}"
        write_run(root, "1", root_id, name=f"flow_{number}", start_ms=MONDAY_MS,
                  end_ms=MONDAY_MS + length_ms, status=status)  # fmt: skip
        for step in range(steps):
            start = MONDAY_MS + step * length_ms // steps
            write_run(root, "1", f"{number * 100 + step:032x}", name=f"step_{step}",
                      parent=root_id, start_ms=start, end_ms=start + length_ms // steps,
                      status=status)  # fmt: skip

    workflow(1, steps=60, length_ms=60_000)
    workflow(2, steps=2, length_ms=120_000)
    workflow(3, steps=3, length_ms=3_000, status=4)
    page = tmp_path / "p.html"
    texts = []
    for workers in ("1", "2"):
        assert run("scan", root, "--html", page, "--workers", workers).exit_code == 0
        texts.append(page.read_text(encoding="utf-8").split('<figure class="trace">')[1:])
    assert [t[:99] for t in texts[0]] == [t[:99] for t in texts[1]]
    biggest, slowest, failed = texts[0]
    assert "The biggest" in biggest and "61 spans" in biggest and "… and 21 spans more." in biggest
    assert biggest.count("<li>") == 40
    assert "The slowest" in slowest and "margin-left:50.00%;width:50.00%" in slowest
    assert "2.0 min" in slowest and "60.00 s" in slowest
    assert "A failed one" in failed and failed.count('<li class="error">') == 4


def test_the_biggest_trees_are_the_same_in_whatever_order_and_parts_they_come() -> None:
    def tree(number: int) -> TreeSize:
        return TreeSize(f"{number:02}", "t", number % 7, 2, "workflow", 1, 1, number % 3, None)

    def summary(numbers: range) -> ExperimentSummary:
        trees = sorted((tree(n) for n in numbers), key=lambda each: each.rank)[:MOST_TREES]
        return ExperimentSummary("s", "1", "one", 1, "one", "active", biggest=trees)

    whole = summary(range(40))
    for cut in (1, 13, 39):
        parts = [summary(range(cut, 40)), summary(range(cut))]
        parts[0].add(parts[1])
        assert parts[0].biggest == whole.biggest
    assert [t.runs for t in whole.biggest] == [6, 6, 6, 6, 6, 5, 5, 5, 5, 5]


def test_workers_count_the_same_weeks_and_trees(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    for number in range(150):
        start = MONDAY_MS + number * DAY_MS
        write_run(root, "1", f"{number:032x}", name="root", start_ms=start, end_ms=start + 9)
        for child in range(2 + number % 3):
            write_run(
                root, "1", f"{number * 10 + child + 10_000:032x}", parent=f"{number:032x}",
                name="node", start_ms=start, end_ms=start + 5,
            )  # fmt: skip
    alone, shared = (
        pipeline.scan([str(root)], pipeline.Options(workers=workers)).as_dict()
        for workers in (1, 2)
    )
    assert len(alone["weeks"]) == 22
    assert len(alone["biggest_trees"]) == MOST_TREES
    assert {tree["runs"] for tree in alone["biggest_trees"]} == {5}
    for key in ("weeks", "biggest_trees", "experiments"):
        assert alone[key] == shared[key]


def test_options_stay_whole_and_columns_without_a_number_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "7", "<b>ads</b>")
    for letter in "ab":
        write_run(root, "7", letter * 32)
    text = html_report(pipeline.scan([str(root)]))
    assert '; <span class="word">--include</span> flat makes traces of them too.' in text
    (header,) = re.findall(r'data-table="experiments"><thead><tr>(.*?)</tr>', text)
    assert re.findall(r">([^<]+)</th>", header) == [
        "experiment",
        "runs",
        "roles of its trees",
        "dates",
    ]
    assert "&lt;b&gt;ads&lt;/b&gt;" in text


# ----------------------------------------------------------------------------- in a browser


def browse(page: Path, *options: str) -> tuple[str, str]:
    """Open a page in a browser without a window; return its DOM and what the browser logged."""
    assert CHROMIUM is not None
    profile = page.parent / "profile"
    done = subprocess.run(
        [
            CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--enable-logging=stderr",
            "--virtual-time-budget=5000", *options, "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


MEASURE = """<!doctype html><html><body style="margin:0">
<iframe id="page" style="width:{width}px;height:2000px;border:0" src="{page}"></iframe>
<pre id="told"></pre><script>
document.getElementById("page").onload = function () {{
  const page = this.contentDocument, root = page.documentElement;
  const bars = [...page.querySelectorAll(".bars b")].map(b => b.getBoundingClientRect());
  const style = this.contentWindow.getComputedStyle(page.body);
  document.getElementById("told").textContent = JSON.stringify({{
    over: root.scrollWidth - root.clientWidth, bars: bars.length,
    flat: bars.filter(b => b.height < 1).length,
    thin: bars.filter(b => b.width < .5).length,
    ink: style.color, back: style.backgroundColor,
  }});
}};
</script></body></html>"""


@pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is on the PATH")
def test_a_browser_shows_the_page_without_an_error_at_any_width_light_and_dark(
    scanned: tuple[Path, dict[str, Any]],
) -> None:
    path, told = scanned
    dom, log = browse(path)
    assert "CONSOLE" not in log
    check_against_json(Page(dom), told)  # what a browser has, not only what we wrote
    seen = {}
    for width, dark in ((390, False), (1200, True)):
        harness = path.with_name(f"measure-{width}.html")
        harness.write_text(MEASURE.format(width=width, page=path.name), encoding="utf-8")
        options = ("--blink-settings=preferredColorScheme=0",) if dark else ()
        dom, log = browse(harness, *options)
        assert "CONSOLE" not in log
        measured = json.loads(re.findall(r'<pre id="told">(.*?)</pre>', dom)[0])
        assert measured["over"] == 0, "it has to be scrolled sideways"
        assert measured["bars"] > 3
        assert (measured["flat"], measured["thin"]) == (0, 0)
        seen[dark] = measured
    assert seen[True]["ink"] != seen[False]["ink"]
    assert seen[True]["back"] != seen[False]["back"]
