"""What a person sees: MLflow 3.9's own views of converted stores, in a headless Chromium.

A stage of its own (``pytest -m browser``): it needs Chromium and the extra ``browser``. The views
are reached by the links that ``convert`` prints, and by clicking on from there. All that is
expected was read off the fixtures' writers, or is compared with the database behind the view.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from tests.support import browserkit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

pytestmark = pytest.mark.browser

# Root runs of experiment configurable_agents in fixture 2.22.5-agents.
WRITTEN = "5d0b4dd5b23040f8999074395bc93322"
FAILED = "92b814b5c56c45439b421bcbfbf108b9"
RESEARCHED = "a7d1f50b26604ff380dd676af7479412"
NEVER_ENDED = "6d20e4b2523249afa170ae22e40b2761"
SESSION = "9f8e7d6c-5b4a-4321-8fed-cba987654321"  # of experiment interviews


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browserkit.Site]:
    with browserkit.site(tmp_path_factory.mktemp("site")) as served:
        yield served


@pytest.fixture(scope="module")
def context() -> Iterator[BrowserContext]:
    with browserkit.browser() as opened:
        yield opened


@pytest.fixture
def page(site: browserkit.Site, context: BrowserContext) -> Iterator[Page]:
    """A page that must neither complain in its console nor be refused anything."""
    log_before = site.log.stat().st_size
    watch = browserkit.Watch(site.url)
    page = context.new_page()
    watch.on(page)
    yield page
    page.close()
    assert watch.complaints == []
    logged = site.log.read_bytes()[log_before:].decode("utf-8", "replace")
    assert not re.findall(r'^.*(?:Traceback|HTTP/1\.1" 5\d\d).*$', logged, re.MULTILINE)


def rows(site: browserkit.Site, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{site.database}?mode=ro", uri=True)) as database:
        return database.execute(query, values).fetchall()


def trace_row(page: Page, run_id: str) -> Locator:
    """Return the row of a trace in a list of traces."""
    return page.get_by_role("row").filter(has_text=f"tr-{run_id}")


def cells(row: Locator) -> list[str]:
    row.wait_for()
    return [text.strip() for text in row.get_by_role("cell").all_inner_texts()]


def columns(page: Page) -> list[str]:
    return [text.strip() for text in page.get_by_role("columnheader").all_inner_texts()]


def listed(page: Page, run_id: str) -> dict[str, str]:
    """Return what the list says of a trace, by column."""
    row = cells(trace_row(page, run_id))
    return dict(zip(columns(page)[-len(row) :], row, strict=True))  # headers of groups stand first


def plain(text: str) -> str:
    return re.sub(r"\s+", "", text)


def open_tree(page: Page, site: browserkit.Site, run_id: str) -> Locator:
    """Open a trace from the list, at its tree of spans, and return its box."""
    page.goto(site.link("configurable_agents", "traces"))
    trace_row(page, run_id).get_by_role("cell").nth(2).locator("a").click()
    box = page.get_by_role("dialog")
    box.get_by_text(f"tr-{run_id}").wait_for()
    box.get_by_role("tab", name="Details & Timeline").click()
    nodes(box).first.wait_for()
    return box


def nodes(box: Locator) -> Locator:
    return box.locator('[data-testid^="timeline-tree-node-"]')


def drawn(box: Locator) -> list[tuple[int, str]]:
    """Return depth and name of the spans in a trace's tree, from top to bottom."""
    found = []
    for node in nodes(box).all():
        name = node.locator('span[class*="typography"]').first  # a badge may follow it
        place = name.bounding_box()
        assert place is not None
        found.append((place["x"], name.inner_text()))
    steps = sorted({x for x, _ in found})
    return [(steps.index(x), name) for x, name in found]


def test_the_default_search_answers_with_every_trace(site: browserkit.Site) -> None:
    client = MlflowClient(site.url)
    experiments = client.search_experiments(ViewType.ALL)
    expected = dict(
        rows(site, "SELECT experiment_id, count(*) FROM trace_info GROUP BY experiment_id")
    )
    assert len(expected) >= 6
    for experiment in experiments:
        found = client.search_traces(locations=[experiment.experiment_id], max_results=500)
        assert len(found) == expected.get(int(experiment.experiment_id), 0), experiment.name
        assert all(trace.data.spans for trace in found), experiment.name


# ------------------------------------------------------------------------------ the Traces tab


@pytest.mark.parametrize(
    "experiment",
    ["configurable_agents", "article_writer", "interviews", "langchain", "chat", "support bot"],
)
def test_the_printed_link_lists_all_traces_of_an_experiment(
    site: browserkit.Site, page: Page, experiment: str
) -> None:
    ((expected,),) = rows(
        site,
        "SELECT count(*) FROM trace_info JOIN experiments USING (experiment_id) WHERE name = ?",
        experiment,
    )
    assert expected > 0
    page.goto(site.link(experiment, "traces"))
    page.get_by_text(f"{expected} of {expected}", exact=True).wait_for()


def test_without_the_range_of_the_link_old_traces_are_hidden(
    site: browserkit.Site, page: Page
) -> None:
    page.goto(site.link("interviews", "traces").partition("?")[0])
    page.get_by_text("Last 7 days").first.wait_for()
    page.get_by_text("0 of 0").wait_for()


def test_the_list_tells_name_input_output_tokens_duration_and_state(
    site: browserkit.Site, page: Page
) -> None:
    page.goto(site.link("configurable_agents", "traces"))
    page.get_by_text("13 of 13").wait_for()
    browserkit.show_trace_names(page)

    failed = listed(page, FAILED)
    assert failed["Trace name"] == "workflow_article_writer"
    assert failed["Request"] == "fails"
    assert failed["Response"].startswith("RuntimeError: Node 'write': LLM call failed: 429")
    assert failed["Tokens"] == "599"  # 412 in, 187 out
    assert failed["Execution time"] == "3.915s"
    assert failed["Request time"] == "03/04/2024, 12:00:00"
    assert failed["State"] == "Error"
    assert listed(page, NEVER_ENDED)["State"] == ""  # nobody knows how it ended

    stored = rows(
        site,
        "SELECT i.request_id, i.request_preview, i.response_preview, i.status, t.value, m.value,"
        " i.execution_time_ms FROM trace_info i JOIN experiments e USING (experiment_id)"
        " JOIN trace_tags t ON t.request_id = i.request_id AND t.key = 'mlflow.traceName'"
        " LEFT JOIN trace_request_metadata m"
        " ON m.request_id = i.request_id AND m.key = 'mlflow.trace.tokenUsage'"
        " WHERE e.name = 'configurable_agents'",
    )
    assert len(stored) == 13
    states = {"OK": "OK", "ERROR": "Error", "STATE_UNSPECIFIED": ""}
    for trace_id, asked, answered, status, name, usage, length_ms in stored:
        shown = listed(page, trace_id.removeprefix("tr-"))
        assert plain(shown["Request"]) == plain(asked or "")
        assert plain(shown["Response"]) == plain(answered or "")
        assert shown["Trace name"] == name
        assert shown["State"] == states[status]
        assert shown["Tokens"] == (str(json.loads(usage)["total_tokens"]) if usage else "")
        assert float(shown["Execution time"].removesuffix("s")) * 1000 == pytest.approx(
            length_ms, abs=0.5
        )


# --------------------------------------------------------------------------------- one trace


def test_a_trace_opens_with_its_tree_of_spans(site: browserkit.Site, page: Page) -> None:
    box = open_tree(page, site, RESEARCHED)
    assert drawn(box) == [
        (0, "workflow_deep_research"),
        (1, "plan"),
        (2, "serper_search"),
        (2, "retry_1"),
        (2, "retry_2"),
    ]
    header = box.inner_text()
    for shown in ("OK", "910", "3.13s", "migrator."):
        assert shown in header
    assert "Rayleigh scattering" in header  # the root's outputs

    nodes(box).filter(has_text="plan").locator('[data-testid^="toggle-span"]').click()
    nodes(box).nth(2).wait_for(state="detached")
    assert drawn(box) == [(0, "workflow_deep_research"), (1, "plan")]


def test_a_span_shows_its_texts_and_its_attributes(site: browserkit.Site, page: Page) -> None:
    box = open_tree(page, site, WRITTEN)
    assert [name for _, name in drawn(box)] == [
        "workflow_article_writer", "research", "write", "edit",
    ]  # fmt: skip
    nodes(box).filter(has_text="research").click()
    box.get_by_text("Research this topic:").first.wait_for()
    box.get_by_role("tab", name="Attributes").click()
    for key in ("model", "provider", "legacy.param.node_id", "legacy.metric.node_duration_ms"):
        box.get_by_text(key, exact=True).first.wait_for()


def test_an_error_stands_on_the_span_where_it_happened(site: browserkit.Site, page: Page) -> None:
    box = open_tree(page, site, FAILED)
    assert drawn(box) == [(0, "workflow_article_writer"), (1, "research"), (1, "write")]
    nodes(box).filter(has_text="write").last.click()
    box.get_by_role("tab", name="Events").click()
    box.get_by_text("exception.message").wait_for()
    box.get_by_text("LLM call failed: 429 Resource has been exhausted").first.wait_for()
    nodes(box).filter(has_text="research").click()
    box.get_by_text("exception.message").wait_for(state="detached")


# --------------------------------------------------------------------------------- Overview


def panel(page: Page, title: str, holds: str) -> str:
    """Return what a card of the Overview says, once it says ``holds``; on one line."""
    heading = page.locator("main, body").last.get_by_text(title, exact=True).last
    card = heading.locator(f"xpath=ancestor::div[contains(., '{holds}')][1]")
    card.wait_for()
    return re.sub(r"\s+", " ", card.inner_text())


def test_the_overview_counts_traces_errors_latency_and_tokens(
    site: browserkit.Site, page: Page
) -> None:
    page.goto(site.link("configurable_agents", "overview/usage"))
    # Nine of thirteen traces have tokens: 4,775, 910, three times 599, 129, twice 25, and 21.
    assert panel(page, "Token Usage", "input,").startswith(
        "Token Usage 7.68K (5.12K input, 2.56K output)"
    )
    assert panel(page, "Tokens per Trace", "avg").startswith("Tokens per Trace 854 avg per trace")
    assert panel(page, "Errors", "rate").startswith("Errors 2 (Overall error rate: 15.4%)")
    assert panel(page, "Latency", "AVG").startswith("Latency 2.78s ")
    assert panel(page, "Traces", "AVG").startswith("Traces 13 ")


def go_to(page: Page, view: str) -> None:
    page.get_by_role("link", name=view, exact=True).click()


def test_the_overview_s_quality_panel_shows_the_assessments(
    site: browserkit.Site, page: Page
) -> None:
    page.goto(site.link("chat", "traces"))
    page.get_by_text("4 of 4").wait_for()
    go_to(page, "Overview")
    page.get_by_role("tab", name="Quality").click()
    # Scorer, count, average: "no" and "yes" are 0 and 1; what is no number has no average.
    assert panel(page, "Quality Summary", "relevance") == (
        "Quality Summary Scorer Total Count Average Value"
        " grade 2 0.50 relevance 2 0.80 checks 1 - safe 1 1.00 tokens 1 17.00"
    )
    # Drawn by the times of the assessments themselves: they must be as old as the traces.
    assert "AVG (0.50) grade" in panel(page, "grade", "Moving average")

    page.goto(site.link("configurable_agents", "overview/usage"))
    page.get_by_role("tab", name="Quality").click()
    # The totals of nine traces: 7,682 tokens and 0.009015 USD in all. Two decimals show no cost
    # in USD, so that there is one in millionths.
    shown = panel(page, "Quality Summary", "total_tokens")
    assert "total_tokens 9 853.56" in shown
    assert "cost_usd 9 0.00" in shown
    assert "cost_usd_micro 9 1001.67" in shown


def test_the_overview_s_tool_panel_shows_the_calls(site: browserkit.Site, page: Page) -> None:
    page.goto(site.link("langchain", "overview/usage"))
    page.get_by_role("tab", name="Tool calls").click()
    assert panel(page, "Tool Performance Summary", "weather") == (
        "Tool Performance Summary Tool Calls Success Latency (AVG) weather 2 100.00% 500.50ms"
    )
    assert panel(page, "Total Tool Calls", "Failed Calls") == (
        "2 Total Tool Calls 500.50ms Avg Latency 100.00% Success Rate 0 Failed Calls"
    )


# --------------------------------------------------------------------------------- Sessions


def test_the_sessions_tab_shows_the_turns_of_a_session(site: browserkit.Site, page: Page) -> None:
    page.goto(site.link("interviews", "traces"))
    page.get_by_text("3 of 3").wait_for()
    go_to(page, "Sessions")
    row = page.get_by_role("row").filter(has_text=SESSION)
    assert cells(row) == ["", SESSION, "Question 1?", "2024-03-08 09:00:00", "6.0s"]
    page.get_by_text(SESSION).click()
    page.get_by_text("Turn 3").first.wait_for()
    said = page.inner_text("body")
    told = [
        said.index(text) for text in ("Question 1?", "Answer 1.", "Question 2?", "Question 10?")
    ]
    assert told == sorted(told)  # turns 1, 2 and 10, in this order


# ------------------------------------------------------------------------------ the run page


def test_the_runs_page_lists_the_trace_of_a_workflow_and_of_its_steps(
    site: browserkit.Site, page: Page
) -> None:
    runs = rows(
        site,
        "SELECT run_uuid FROM runs LEFT JOIN tags USING (run_uuid)"
        " WHERE run_uuid = ? OR (key = 'mlflow.parentRunId' AND value = ?) GROUP BY run_uuid",
        FAILED,
        FAILED,
    )
    assert len(runs) == 3  # the workflow, research, write
    base = site.link("configurable_agents", "traces").partition("/traces?")[0]
    for (run_id,) in runs:
        page.goto(f"{base}/runs/{run_id}/traces")
        page.get_by_text("1 of 1").wait_for()
        shown = listed(page, FAILED)
        assert (shown["Request"], shown["Tokens"], shown["State"]) == ("fails", "599", "Error")
