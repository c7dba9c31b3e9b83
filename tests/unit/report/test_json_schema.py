"""What the commands print with --json is what the schema in the package says, every key of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from migrator.cli import main
from migrator.report.json_schema import JSON_VERSION, schema
from tests.support import fixturekit
from tests.unit.report.test_text import damaged_store

SCHEMA = schema()


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixturekit.materialise("2.9.2-agents", tmp_path_factory.mktemp("agents"))


def printed(*args: object) -> dict[str, Any]:
    """The JSON object that a command prints."""
    value: dict[str, Any] = json.loads(CliRunner().invoke(main, [str(arg) for arg in args]).stdout)
    return value


def closed(part: Any) -> Any:
    """The schema without room for keys that it does not name."""
    if isinstance(part, list):
        return [closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    inside = {key: closed(value) for key, value in part.items()}
    return {"additionalProperties": False, **inside} if "properties" in part else inside


def check(value: dict[str, Any], name: str) -> None:
    """Compare a value with the schema of a command; a key that is not in it is an error too."""
    assert value["json_version"] == JSON_VERSION
    strict = closed(SCHEMA) | {"$ref": f"#/$defs/{name}"}
    del strict["anyOf"]
    jsonschema.validate(value, strict)


def test_the_schema_is_valid_and_has_the_version_of_the_program() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    commands = [each["$ref"].rpartition("/")[2] for each in SCHEMA["anyOf"]]
    for name in commands:
        assert SCHEMA["$defs"][name]["properties"]["json_version"]["const"] == JSON_VERSION


def test_scan_convert_verify_and_the_report(agents: Path, tmp_path: Path) -> None:
    damaged = damaged_store(tmp_path / "mlruns")
    target = f"sqlite:///{tmp_path}/m.db"
    check(printed("scan", agents, damaged, "--json", "--values"), "outcome")
    check(printed("convert", agents, "--to", target, "--json", "--dry-run"), "outcome")
    check(printed("convert", agents, damaged, "--to", target, "--json"), "outcome")
    report = json.loads((tmp_path / "m.db.report.json").read_text(encoding="utf-8"))
    check(report, "outcome")
    write_again = printed("verify", agents, "--against", target, "--json")
    check(write_again, "verify")


def test_export_code_and_profiles(agents: Path, tmp_path: Path) -> None:
    check(printed("export", agents, "--otlp", tmp_path / "t.jsonl", "--json"), "export")
    legacy = tmp_path / "legacy.py"
    legacy.write_text("import mlflow\nmlflow.set_tracking_uri('file:./mlruns')\n", "utf-8")
    check(printed("code", legacy, "--json"), "code")
    check(printed("profiles", "list", "--json"), "profiles_list")
    profile = tmp_path / "own.toml"
    CliRunner().invoke(main, ["profiles", "new", "own", "--to", str(profile)])
    check(printed("profiles", "check", profile, "--json"), "profiles_check")
    check(printed("profiles", "check", profile, agents, "--json"), "profiles_check")
