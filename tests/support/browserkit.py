"""A converted database behind a real MLflow server, and a headless Chromium that looks at it.

``python -m tests.support.browserkit docs/images`` takes the pictures that the documentation shows.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from click.testing import CliRunner

from migrator.cli import main
from tests.support import fixturekit
from tests.support.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Response

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
START_S = 180  # MLflow's server takes 6 s on an idle machine
WAIT_MS = 90_000  # a page takes 2 s; a busy machine takes its time
FIXTURES = ("2.22.5-agents", "2.22.5-langchain", "3.5.1-genai")
# Chromium says this of a page that resizes itself while it draws; it is about no data.
HARMLESS = "ResizeObserver loop"


def chromium() -> str | None:
    """Return the path of an installed Chromium, None when there is none."""
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


@dataclass(frozen=True, slots=True)
class Site:
    """A served database, and the links that the conversion printed, by experiment name."""

    url: str
    database: Path
    log: Path
    links: dict[str, list[str]]

    def link(self, experiment: str, view: str) -> str:
        """Return a printed link (``traces``, ``overview/usage``), on this server's port."""
        (found,) = [link for link in self.links[experiment] if f"/{view}?" in link]
        return found.replace("http://127.0.0.1:5000", self.url)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Convert the fixtures into one database, one after the other, and serve it."""
    database = folder / "mlflow.db"
    links: dict[str, list[str]] = {}
    for name in FIXTURES:
        args = ["convert", str(fixturekit.store(name)), "--to", f"sqlite:///{database}"]
        result = CliRunner().invoke(main, [*args, "--schema", "3.9", "--workers", "1"])
        assert result.exit_code == 0, result.output
        links.update(printed_links(result.output))
    with server(database, folder) as (url, log):
        yield Site(url, database, log, links)


def printed_links(output: str) -> dict[str, list[str]]:
    """Return the links below an experiment's name in what ``convert`` prints."""
    links: dict[str, list[str]] = {}
    name = ""
    for line in output.splitlines():
        if heading := re.match(r"    (\S.*) \([\d,]+ traces?\):$", line):
            name = heading[1]
        elif link := re.match(r"        (http://\S+)$", line):
            links.setdefault(name, []).append(link[1])
    return links


@contextmanager
def server(database: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Run ``mlflow server`` on a free port of this machine; stop it and all it started."""
    port = free_port()
    log = folder / "server.log"
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # judges that nobody asked for
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", str(folder / "served")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,  # a process group of its own, to be stopped as one
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(url, process, log)
        yield url, log
    finally:
        _stop(process)


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with suppress(OSError), opener.open(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.3)
    raise AssertionError(f"mlflow server did not start:\n{log.read_text('utf-8', 'replace')}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
    process.wait()


@dataclass  # without slots: the driver puts an attribute of its own on it
class Watch:
    """What went wrong in a page: console errors, exceptions, answers of 500 and above."""

    url: str
    complaints: list[str] = field(default_factory=list)

    def on(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        place = message.location.get("url", "")
        if message.type == "error" and place.startswith(self.url) and HARMLESS not in message.text:
            self.complaints.append(f"console: {message.text} ({place})")

    def _response(self, response: Response) -> None:
        if response.url.startswith(self.url) and response.status >= 400:
            self.complaints.append(f"{response.status}: {response.url}")


@contextmanager
def browser(width: int = 1440, height: int = 900) -> Iterator[BrowserContext]:
    """Run a headless Chromium that reaches this machine only, in UTC and English."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    assert path is not None, f"none of {', '.join(CHROMIUM)} is installed"
    with sync_playwright() as driver:
        window = driver.chromium.launch(
            executable_path=path,
            timeout=WAIT_MS,
            args=[
                "--no-sandbox",  # needs user namespaces, which containers seldom have
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        context = window.new_context(
            viewport={"width": width, "height": height}, timezone_id="UTC", locale="en-US"
        )
        context.set_default_timeout(WAIT_MS)
        # MLflow 3.9 opens its assistant beside every view until it was closed once.
        context.add_init_script(
            "try { localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false') } catch (e) {}"
        )
        try:
            yield context
        finally:
            window.close()


def show_trace_names(page: Page) -> None:
    """Add the column with the traces' names, which MLflow doesn't show at first."""
    page.get_by_role("button", name="Columns").click()
    option = page.get_by_role("option", name="Trace name", exact=True)
    option.click()
    page.keyboard.press("Escape")
    page.get_by_role("columnheader", name="Trace name").wait_for()


def take_pictures(target: Path) -> None:
    """Write ``traces.png``, ``trace.png``, ``overview.png`` and ``sessions.png``."""
    with (
        tempfile.TemporaryDirectory() as folder,
        site(Path(folder)) as shown,
        browser(1760, 900) as context,
    ):
        page = context.new_page()
        page.goto(shown.link("configurable_agents", "traces"))
        page.get_by_text("13 of 13").wait_for()
        show_trace_names(page)
        page.mouse.move(0, 0)
        page.screenshot(path=target / "traces.png")

        page.set_viewport_size({"width": 1280, "height": 640})
        page.get_by_text("Why is the sky blue?").click()
        page.get_by_role("tab", name="Details & Timeline").click()
        page.get_by_text("serper_search").first.wait_for()
        page.mouse.move(0, 0)
        page.screenshot(path=target / "trace.png")

        page.set_viewport_size({"width": 1280, "height": 1340})
        page.goto(shown.link("configurable_agents", "overview/usage"))
        page.get_by_text("Overall error rate").wait_for()
        page.get_by_text("avg per trace").wait_for()
        page.wait_for_timeout(3000)  # the bars grow for a while
        page.screenshot(path=target / "overview.png")

        page.set_viewport_size({"width": 1280, "height": 760})
        page.goto(shown.link("interviews", "traces").replace("/traces?", "/chat-sessions?"))
        page.get_by_text("9f8e7d6c").first.click()
        page.get_by_text("Question 10?").wait_for()
        page.screenshot(path=target / "sessions.png")


if __name__ == "__main__":
    take_pictures(Path(sys.argv[1]))
