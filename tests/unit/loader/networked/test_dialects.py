"""Rows and statements as PostgreSQL and MySQL take them."""

from __future__ import annotations

import math

import pytest
from sqlalchemy.engine import make_url

from migrator.loader.networked import dialects
from migrator.loader.networked.dialects import MySQL, PostgreSQL, dialect_of
from migrator.loader.rows import Value


def test_the_dialect_follows_the_address() -> None:
    assert isinstance(dialect_of(make_url("postgresql+psycopg2://db/mlflow")), PostgreSQL)
    assert isinstance(dialect_of(make_url("mysql+pymysql://db/mlflow")), MySQL)


def test_names_with_quotes_can_not_end_an_identifier() -> None:
    assert PostgreSQL().quoted('a"b') == '"a""b"'
    assert MySQL().quoted("a`b") == "`a``b`"
    assert 'DROP DATABASE "a""b";' in PostgreSQL().recreation('a"b')
    assert "COLLATE utf8mb4_bin" in MySQL().recreation("mlflow")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, r"\N"),
        ("a\tb\nc\rd\\e", r"a\tb\nc\rd\\e"),
        (r"\N", r"\\N"),  # a text, not NULL
        (True, "1"),
        (7, "7"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
    ],
)
def test_values_in_the_text_format_of_copy(value: Value, text: str) -> None:
    assert b"".join(dialects._copy_text([(value, "end")])) == f"{text}\tend\n".encode()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_float_that_no_column_holds_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match=str(value)):
        list(dialects._copy_text([(value,)]))


def test_rows_are_sent_in_pieces_of_about_a_mebibyte() -> None:
    rows = [("x" * 400_000,)] * 5
    assert [len(batch) for batch in dialects._batches(rows)] == [3, 2]
    assert [len(batch) for batch in dialects._batches([("x" * 3_000_000,)] * 2)] == [1, 1]
    assert list(dialects._batches([])) == []


def test_pieces_read_as_one_file() -> None:
    feed = dialects._Feed(iter([b"abc", b"defg"]))
    assert [feed.read(2) for _ in range(5)] == [b"ab", b"c", b"de", b"fg", b""]


@pytest.mark.parametrize(
    ("dialect", "code", "taken", "passing"),
    [
        (PostgreSQL(), "23505", True, False),
        (PostgreSQL(), "40P01", False, True),
        (PostgreSQL(), "22001", False, False),
    ],
)
def test_errors_of_postgresql(dialect: PostgreSQL, code: str, taken: bool, passing: bool) -> None:
    error = Exception("driver")
    error.pgcode = code  # type: ignore[attr-defined]  # as psycopg2
    assert dialect.is_duplicate_key(error) is taken
    assert dialect.is_transient(error) is passing


@pytest.mark.parametrize(
    ("code", "taken", "passing"),
    [(1062, True, False), (1213, False, True), (1205, False, True), (1406, False, False)],
)
def test_errors_of_mysql(code: int, taken: bool, passing: bool) -> None:
    error = Exception(code, "message")  # as PyMySQL
    assert MySQL().is_duplicate_key(error) is taken
    assert MySQL().is_transient(error) is passing
