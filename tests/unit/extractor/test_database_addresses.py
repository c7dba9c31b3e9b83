"""Whether two texts mean the same database, however they are spelled."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from migrator.extractor import is_same_database

KNOWN = {"db": "10.0.0.7", "db.example.com": "10.0.0.7", "other": "10.0.0.8", "here": "127.0.1.1"}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name service that knows a few hosts."""

    def look_up(host: str, port: Any) -> list[Any]:
        address = KNOWN.get(host.lower(), host)
        try:
            socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        except OSError:
            raise socket.gaierror(f"{host} is not known") from None
        return [(socket.AF_INET, 1, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("postgresql://ana@db/mlflow", "postgresql+psycopg2://bob:x@db:5432/mlflow", True),
        ("postgresql://ana@db/mlflow", "postgresql://ana@db.example.com/mlflow", True),
        ("postgresql://ana@localhost/mlflow", "postgresql://ana@127.0.0.1/mlflow", True),
        ("postgresql://ana@/mlflow", "postgresql://ana@here/mlflow", True),
        ("mysql://ana@localhost/mlflow", "mysql+pymysql://ana@127.0.0.1:3306/mlflow", True),
        ("postgresql://ana@nowhere/mlflow", "postgresql://ana@NOWHERE/mlflow", True),
        ("postgresql://ana@db/mlflow", "postgresql://ana@other/mlflow", False),
        ("postgresql://ana@db/mlflow", "postgresql://ana@db/mlflow2", False),
        ("postgresql://ana@db/mlflow", "postgresql://ana@db:5433/mlflow", False),
        ("postgresql://ana@nowhere/mlflow", "postgresql://ana@elsewhere/mlflow", False),
    ],
)
def test_databases_on_servers(first: str, second: str, is_same: bool) -> None:
    assert is_same_database(first, second) is is_same


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"SQLite format 3\x00" + bytes(100))
    (tmp_path / "link.db").symlink_to(path)
    (tmp_path / "folder").mkdir()
    for other in ("mlflow.db", "./mlflow.db", "folder/../mlflow.db", "link.db"):
        assert is_same_database(str(path), other)
        assert is_same_database(f"sqlite:///{path}", f"sqlite:///{other}")
    path.with_name("copy.db").write_bytes(path.read_bytes())
    assert not is_same_database(str(path), "copy.db")
