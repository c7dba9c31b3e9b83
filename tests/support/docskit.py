"""Reads the pages of the documentation, and types what they show in a directory of its own.

A page is one session. Comments that a reader doesn't see say what a block needs:

- ``<!-- sandbox: 2.22.5-agents -->``: the fixture that lies at ``./mlruns`` when the session
  begins (``old/mlruns=2.9.2-moved`` puts it elsewhere, ``s3://lab/old/mlruns=2.9.2-moved`` into a
  bucket that is there for the page; several are parted by spaces), or
  ``mlflow.db=empty``, an empty database, which takes MLflow long to make;
  ``mlflow.db=2.9.2-database``, a database that is a fixture, with its artifacts in ``mlruns``;
  ``db.example.com=postgresql``: an empty database ``mlflow`` of ``ana:secret`` on a real server,
  without which the page is skipped).
- ``<!-- file: my-tool.toml -->`` before a block: its text is that file.
- ``<!-- first: ... -->`` before a Python block: what it needs around it.

``console`` blocks hold commands after ``$`` and what they print, with ``…`` for any text. A line
``$ echo $?`` after a command says its exit code; all others have to end well. The session's
directory is shown as ``/home/ana``, and has ``docs/examples`` in it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from click.testing import CliRunner

from migrator import credentials
from migrator.cli import main
from tests.support import fixturekit, objectkit, trackerkit
from tests.support import sql_servers as serverkit
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
HOME = "/home/ana"
_COG = re.compile(r"<!-- \[\[\[cog.*?\[\[\[end\]\]\] -->", re.DOTALL)
_BLOCK = re.compile(
    r"(?:<!-- (?P<how>file|first):(?P<what>.*?)-->\n+)?"
    r"^```(?P<language>\S*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_SECONDS = re.compile(r"\b\d+(\.\d+)? s\b")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page that is not generated."""

    language: str
    text: str
    line: int
    file: str | None = None
    first: str = ""


def pages() -> list[Path]:
    """Return all pages, sorted."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """Return a page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page that no program writes."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n")

    text = _COG.sub(blank, page.read_text(encoding="utf-8"))
    return [
        Block(
            match["language"],
            match["text"],
            text.count("\n", 0, match.start("language")) + 1,
            match["what"].strip() if match["how"] == "file" else None,
            match["what"] if match["how"] == "first" else "",
        )
        for match in _BLOCK.finditer(text)
    ]


def commands(block: Block) -> list[tuple[str, str]]:
    """Return each command of a console block with what the page says that it prints."""
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            assert found, f"line {block.line}: the block begins with output"
            command, printed = found[-1]
            if command.endswith("\\"):
                found[-1] = (f"{command[:-1]}{line.strip()}", printed)
            else:
                found[-1] = (command, f"{printed}{line}\n")
    return found


def matches(shown: str, printed: str) -> bool:
    """Tell whether ``printed`` is what a page shows, where ``…`` stands for any text."""
    shown, printed = (_SECONDS.sub("1 s", text.strip()) for text in (shown, printed))
    lines = [re.escape(line.rstrip()) for line in shown.splitlines()]
    pattern = "\n".join(lines).replace("…\n", "…").replace("\n…", "…").replace("…", "(?s:.*)")
    return (
        re.fullmatch(pattern, "\n".join(line.rstrip() for line in printed.splitlines())) is not None
    )


class Session:
    """A directory with stores in it, in which the commands of a page are typed."""

    def __init__(self, folder: Path, page: Path) -> None:
        self.folder = folder
        self.code = 0
        self._ports: dict[str, str] = {}  # those that a page names, and those that were free
        self._servers: list[subprocess.Popen[bytes]] = []
        tools = folder.parent / "tools"
        tools.mkdir()
        tool = tools / "mlflow-migrate"
        tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m migrator.cli "$@"\n')
        tool.chmod(0o755)
        self._environment = {
            **os.environ,
            "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
        }
        self._closing = ExitStack()
        shutil.copytree(DOCS / "examples", folder / "docs" / "examples")
        asked = re.search(r"<!-- sandbox:(.*?)-->", page.read_text(encoding="utf-8"))
        for wish in asked[1].split() if asked else ():
            place, _, fixture = wish.rpartition("=")
            if fixture == "postgresql":
                self._database(place)
                continue
            if fixture == "empty":
                trackerkit.database(folder, place)
                continue
            if fixture in fixturekit.databases():
                copy = fixturekit.database(fixture, folder.parent / "fixtures")
                (copy.parent / "mlruns").rename(folder / "mlruns")
                copy.rename(folder / place)
                continue
            copy = fixturekit.materialise(fixture, folder.parent / "fixtures")
            if place.startswith(f"s3://{objectkit.BUCKET}/"):
                bucket = self._closing.enter_context(objectkit.running())
                self._environment.update(bucket.env())
                self._closing.enter_context(patch.dict(os.environ, bucket.env()))
                bucket.upload(copy, place.removeprefix(f"s3://{objectkit.BUCKET}/"))
                continue
            target = folder / (place or "mlruns")
            target.parent.mkdir(parents=True, exist_ok=True)
            copy.rename(target)
            if (copy.parent / "mlartifacts").exists():
                (copy.parent / "mlartifacts").rename(target.parent / "mlartifacts")

    def _database(self, host: str) -> None:
        """Make a database on a real server, and let the page's name for it mean that."""
        server = self._closing.enter_context(serverkit.postgresql())
        name = server.empty()
        for driver in ("", "+psycopg2"):
            shown, real = f"postgresql{driver}://ana:secret@{host}/mlflow", server.uri(name, driver)
            self._ports[shown] = real
            self._ports[shown.replace("secret", "***")] = credentials.masked(real)
        self._ports["mlflow-migrate-mlflow"] = f"mlflow-migrate-{name}"

    def do(self, block: Block) -> None:
        """Do what a block says, and compare what is printed with what the page shows."""
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._type(
                f"python - <<'END OF PAGE'\n{block.first.strip()}\n{block.text}\nEND OF PAGE"
            )
            assert self.code == 0
        else:
            assert block.language == "console", block.language
            self._console(block)

    def _console(self, block: Block) -> None:
        lines = commands(block)
        for at, (command, shown) in enumerate(lines):
            printed = self._type(command)
            told = [after for after, _ in lines[at + 1 : at + 2]] == ["echo $?"]
            assert self.code == 0 or told, f"{command}: exit code {self.code}\n{printed}"
            if shown:
                assert matches(shown, printed), f"$ {command}\n{printed}"

    def _type(self, command: str) -> str:
        if command == "echo $?":
            code, self.code = self.code, 0
            return str(code)
        words = shlex.split(command, comments=True) if "\n" not in command else []
        if words[:2] == ["mlflow", "server"]:
            return self._serve(words)
        if words[:1] == ["mlflow-migrate"] and not {"|", "&&", ">", ";"} & set(words):
            arguments = [self._real(word) for word in words[1:]]
            result = CliRunner().invoke(main, arguments, prog_name="mlflow-migrate")
            self.code = result.exit_code
            return self._shown(result.stdout or result.output)  # MLflow logs to the other
        done = subprocess.run(
            ["bash", "-uc", self._real(command)],
            cwd=self.folder, env=self._environment, text=True, timeout=300, check=False,
            capture_output=True,
        )  # fmt: skip
        self.code = done.returncode
        assert "\n" not in command or done.returncode == 0, done.stdout + done.stderr
        return self._shown(done.stdout)

    def _real(self, text: str) -> str:
        for shown, real in {HOME: str(self.folder), **self._ports}.items():
            text = text.replace(shown, real)
        return text

    def _shown(self, text: str) -> str:
        for shown, real in {HOME: str(self.folder), **self._ports}.items():
            text = text.replace(real, shown)
        return text

    def _serve(self, words: list[str]) -> str:
        """Start a server on a free port, and come back when it answers; it stops with us."""
        port = str(free_port())
        at = words.index("--port") + 1
        self._ports[f":{words[at]}"] = f":{port}"
        words = [*words[:at], port, *words[at + 1 :], "--workers", "1"]
        # Without the slow processes that run jobs in the background: no page needs them.
        environment = {**self._environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=self.folder, env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._servers.append(server)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            assert server.poll() is None, "the server ended"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    self.code = 0
                    return ""
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the server does not answer")

    def close(self) -> None:
        """Stop what is still running."""
        self._closing.close()
        for server in self._servers:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


@contextmanager
def session(page: Path, folder: Path) -> Iterator[Session]:
    """Yield a session for a page in ``folder/home``, which becomes the working directory."""
    home = folder / "home"
    home.mkdir()
    before = Path.cwd()
    typed = Session(home, page)
    os.chdir(home)
    try:
        yield typed
    finally:
        os.chdir(before)
        typed.close()
