"""The commands of this project: ``nox -l`` lists them, ``nox -s tests`` runs one.

All but ``newest`` and ``schemas`` use the environment that nox is installed in
(``pip install -e '.[dev]'``).
Arguments after ``--`` are passed on: ``nox -s tests -- tests/convert/test_cli.py -x``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests"]

HERE = Path(__file__).parent
GENERATED = [
    "README.md",
    "docs/explanation/architecture.md",
    *sorted(str(path) for path in Path("docs/reference").glob("*.md")),
]
IMPORTABLE = {"PYTHONPATH": str(HERE)}  # for the code in generated pages


def run(session: nox.Session, module: str, *args: str, **settings: dict[str, str]) -> None:
    """Run a module of this environment, whether it is activated or not."""
    session.run(sys.executable, "-m", module, *args, **settings)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests beside the MLflow that is installed, without the long ones."""
    run(session, "pytest", "-n", "2", "-q", *session.posargs)


@nox.session
def long(session: nox.Session) -> None:
    """Run the tests that take long: servers, kills, random stores, pages, the official command."""
    run(session, "pytest", "-n", "2", "-q", "-m", "long", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")


@nox.session
def fix(session: nox.Session) -> None:
    """Format the code, and fix what ruff can fix."""
    run(session, "ruff", "check", "--fix", ".")
    run(session, "ruff", "format", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    run(session, "mypy")


@nox.session
def pages(session: nox.Session) -> None:
    """Write the generated parts of the documentation."""
    run(session, "cogapp", "-r", *GENERATED, env=IMPORTABLE)


@nox.session
def docs(session: nox.Session) -> None:
    """Check the generated parts, and build the site; a warning is an error."""
    run(session, "cogapp", "--check", *GENERATED, env=IMPORTABLE)
    run(session, "mkdocs", "build", "--strict", "--quiet", "-f", ".ci/mkdocs.yml")


@nox.session
def browser(session: nox.Session) -> None:
    """Look at converted stores and the report in Chromium (needs the extra "browser")."""
    run(session, "pytest", "-q", "-m", "browser", "tests/convert/test_browser.py")
    run(session, "pytest", "-q", "-k", "browser", "tests/unit/report/test_page.py")


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel into dist/, check their metadata."""
    run(session, "build", "--outdir", "dist")
    run(session, "twine", "check", "--strict", *sorted(map(str, Path("dist").iterdir())))


@nox.session
def workflows(session: nox.Session) -> None:
    """Check the files of .github/ against their public schemas."""
    files = sorted(str(path) for path in Path(".github/workflows").glob("*.yml"))
    run(session, "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    run(session, "check_jsonschema", "--builtin-schema", "vendor.dependabot",
        ".github/dependabot.yml")  # fmt: skip


@nox.session(venv_backend="venv", reuse_venv=True)
def newest(session: nox.Session) -> None:
    """Run all tests beside the newest MLflow, long ones too, in an environment of their own."""
    session.install("--quiet", "--upgrade", "mlflow", "-e", ".[test]")
    session.run("python", "-c", "import mlflow; print('mlflow', mlflow.__version__)")
    session.run("python", "-m", "pytest", "-n", "2", "-q", "-m", "not browser or long",
        *session.posargs)  # fmt: skip


@nox.session(venv_backend="venv", reuse_venv=True)
@nox.parametrize("release", ["3.10", "3.11", "3.12", "3.13", "3.14", "3.15", "3.16", "3.17"])
def schemas(session: nox.Session, release: str) -> None:
    """Compare the schemas that are kept, and rows in their shape, with a release's migrations."""
    session.install("--quiet", f"mlflow=={release}.*", "-e", ".[test]")
    session.run("python", "-m", "pytest", "-q", "tests/unit/loader/test_schema.py",
                "tests/unit/loader/test_newer_columns.py")  # fmt: skip


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory: ``nox -s bench -- workflows:1000``."""
    run(session, "bench.run", *session.posargs, env=IMPORTABLE)


@nox.session
def house(session: nox.Session) -> None:
    """Measure the code: lengths, complexity, density."""
    run(session, "bench.house", *session.posargs, env=IMPORTABLE)
