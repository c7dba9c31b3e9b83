"""A digest follows a record's content, and nothing else."""

from __future__ import annotations

import dataclasses

from migrator.loader.rest.digests import digest_of
from tests.support.loaderkit import run

NOTHING: frozenset[str] = frozenset()


def test_the_order_of_keys_and_the_kind_of_sequence_do_not_matter() -> None:
    one = run(params={"a": "1", "b": "2"}, artifacts=())
    other = dataclasses.replace(one, params={"b": "2", "a": "1"})
    assert digest_of(one, NOTHING) == digest_of(other, NOTHING)
    assert len(digest_of(one, NOTHING)) == 32


def test_a_change_of_any_field_changes_it_unless_the_field_is_left_out() -> None:
    one, other = run(path="/a"), run(path="/b")
    assert digest_of(one, NOTHING) != digest_of(other, NOTHING)
    assert digest_of(one, frozenset({"path"})) == digest_of(other, frozenset({"path"}))


def test_half_characters_have_a_digest() -> None:
    assert digest_of(run(user_id="\ud800"), NOTHING) != digest_of(run(user_id="?"), NOTHING)
