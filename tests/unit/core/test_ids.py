"""Table keys and derived ids."""

from hypothesis import given
from hypothesis import strategies as st
from mayfly.core.ids import derived_id, key, new_id, new_nonce

# Any text; and short texts of the separator and its encoding, so that similar texts meet.
parts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"])) | st.text("a/%2F", max_size=3),
    min_size=1,
    max_size=4,
)


@given(parts, parts)
def test_different_parts_never_share_a_key(one: list[str], other: list[str]) -> None:
    assert (key(*one) == key(*other)) == (one == other)


@given(st.text("a/%2F", max_size=8))
def test_two_ways_to_split_a_text_into_parts_never_share_a_key(text: str) -> None:
    cuts = [[text], *([text[:at], text[at + 1 :]] for at, each in enumerate(text) if each == "/")]
    assert len({key(*cut) for cut in cuts}) == len(cuts)


@given(parts, parts)
def test_different_parts_never_share_a_derived_id(one: list[str], other: list[str]) -> None:
    assert (derived_id(*one) == derived_id(*other)) == (one == other)


def test_ids_and_nonces_are_unique() -> None:
    assert len({new_id() for _ in range(1000)} | {new_nonce() for _ in range(1000)}) == 2000
