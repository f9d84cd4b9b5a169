"""Table keys and derived ids."""

from hypothesis import given
from hypothesis import strategies as st
from mayfly.ids import derived_id, key, new_id, new_nonce

parts = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4)


@given(parts, parts)
def test_different_parts_never_share_a_key(one: list[str], other: list[str]) -> None:
    assert (key(*one) == key(*other)) == (one == other)


@given(parts, parts)
def test_different_parts_never_share_a_derived_id(one: list[str], other: list[str]) -> None:
    assert (derived_id(*one) == derived_id(*other)) == (one == other)


def test_ids_and_nonces_do_not_repeat() -> None:
    assert len({new_id() for _ in range(1000)} | {new_nonce() for _ in range(1000)}) == 2000
