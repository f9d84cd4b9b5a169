"""Strict reading of JSON from outside."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mayfly.core.errors import InvalidRequest, PayloadTooLarge
from mayfly.core.json_input import (
    NAME,
    Fields,
    canonical_json,
    check_json,
    parse_json,
    read_idempotency_header,
    read_idempotency_key,
    with_whole_numbers,
)


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ('{"a": 1, "a": 2}', "a: appears twice"),
        ('{"deep": {"b": 1, "b": 1}}', "b: appears twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ("{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        ('{"a": 1}'.encode("utf-16"), "not valid JSON"),
        ('{"a": 1}'.encode("utf-16-le"), "not valid JSON"),
        ('{"a": 1}'.encode("utf-32"), "not valid JSON"),
        ('{"a": 1}'.encode("utf-8-sig"), "not valid JSON"),
        ('"\\ud800"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested deeper than 100 levels"),
        ("1" * 5000, "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_text_that_is_not_strict_json_is_rejected_with_its_reason(
    raw: str | bytes, names: str
) -> None:
    with pytest.raises(InvalidRequest, match=names):
        parse_json(raw, limit=1_000_000)


def test_json_of_a_hundred_levels_is_read() -> None:
    assert parse_json("[" * 100 + "]" * 100, limit=1000)


def test_text_over_the_limit_is_rejected_before_it_is_parsed() -> None:
    with pytest.raises(PayloadTooLarge, match="11 bytes, the limit is 10"):
        parse_json("x" * 11, limit=10)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "body: must be a JSON object, not an array"),
        (None, "body: must be a JSON object, not null"),
        ({}, "name: is missing"),
        ({"name": 1, "count": 1}, "name: must be a text, not a number"),
        ({"name": "a b", "count": 1}, "name: must match"),
        ({"name": "a\n", "count": 1}, "name: must match"),
        ({"name": "a", "count": True}, "count: must be a whole number, not a boolean"),
        ({"name": "a", "count": 1.5}, "count: must be a whole number, not one with a fraction"),
        ({"name": "a", "count": 11}, "count: must be from 1 to 10"),
        ({"name": "a", "count": 1, "extra": 0}, "extra: unknown field"),
    ],
)
def test_wrong_field_is_named(body: object, problem: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fields = Fields(body)
        fields.text("name", pattern=NAME)
        fields.integer("count", 1, 10)
        fields.finish()
    assert str(caught.value).startswith(problem)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_is_read_back_as_the_same_value(value: object) -> None:
    assert parse_json(canonical_json(value), limit=10**6) == value


@pytest.mark.parametrize(("sent", "read"), [(2, 2), (2.0, 2), (-3.0, -3), (1e3, 1000)])
def test_whole_number_may_be_written_in_every_notation(sent: float, read: int) -> None:
    number = Fields({"n": sent}).integer("n", -10, 1000)
    assert (number, type(number)) == (read, int)


@pytest.mark.parametrize("sent", [2.5, 1e300, 2.0**60, True, "2"])
def test_value_that_is_not_a_whole_number_is_read_as_none(sent: object) -> None:
    with pytest.raises(InvalidRequest, match="whole number"):
        Fields({"n": sent}).integer("n", -(10**400), 10**400)


@pytest.mark.parametrize("name", [".", ".."])
def test_name_that_clients_remove_from_paths_is_refused(name: str) -> None:
    """WHATWG URL, curl and RFC 3986, 5.2.4: `DELETE /schedules/..` is sent as `DELETE /`."""
    with pytest.raises(InvalidRequest, match=r"cannot be \. or \.\., which HTTP clients remove"):
        Fields({"name": name}).text("name", pattern=NAME)
    assert not NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["...", ".a", "a.", "..a", "a..", ". .", "-", "a" * 128])
def test_name_with_dots_beside_other_characters_is_a_name(name: str) -> None:
    assert bool(NAME.fullmatch(name)) == (" " not in name)


def _nested(levels: int) -> Any:
    value: Any = "x"
    for number in range(levels):
        value = [value] if number % 2 else {"a": (value,)} if number % 3 else {"a": value}
    return value


def _circular() -> Any:
    value: list[Any] = []
    value += [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({1: "a", "b": 2}, r"the keys of objects must be texts, not int \(1\)"),
        ({1: "a"}, r"the keys of objects must be texts, not int \(1\)"),
        ({(1, 2): "a"}, r"the keys of objects must be texts, not tuple \(\(1, 2\)\)"),
        ({None: "a"}, r"the keys of objects must be texts, not NoneType \(None\)"),
        ([{"a": ({True: 1},)}], r"the keys of objects must be texts, not bool \(True\)"),
        ({"x" * 9: {b"k" * 90: 1}}, r"the keys of objects must be texts, not bytes \(b'k{38}\)"),
        ([[[]]] * 3 + [_nested(120)], "nested deeper than 100 levels"),
        (_circular(), ".* or circular"),
        (float("nan"), "nan is not JSON"),
        ({"a": [1.5, (float("-inf"),)]}, "-inf is not JSON"),
    ],
    ids=["mixed", "int", "tuple", "none", "inner", "bytes", "deep", "circular", "nan", "infinite"],
)
def test_value_that_json_would_change_is_refused(value: Any, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=f"result: {problem}"):
        check_json("result", value)


@pytest.mark.parametrize(
    "value",
    [None, 1, "x", [], {}, {"a": [1, (2, {"b": None})]}, [[1] * 3] * 3, {"": 0}, {1}],
    ids=repr,
)
def test_other_values_are_left_to_the_encoder(value: Any) -> None:
    check_json("result", value)


def test_hundred_levels_are_the_most() -> None:
    value: Any = "x"
    for _ in range(100):
        value = [value]
    check_json("result", value)
    assert parse_json(canonical_json(value), limit=1000) == value
    with pytest.raises(InvalidRequest, match="100 levels"):
        check_json("result", [value])
    with pytest.raises(InvalidRequest, match="100 levels"):
        parse_json(canonical_json([value]), limit=1000)


# ---------------------------------------------------------------- idempotency keys


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (None, None),
        ("order-1", "order-1"),
        ('"order-1"', "order-1"),
        (' "order-1" ', "order-1"),
        ("a;b=c", "a;b=c"),
        ("a\\b", "a\\b"),
        ('"a,b"', "a,b"),
        # As releases 0.1.0 and 0.2.0 have stored it.
        ('"a\\"b"', 'a\\"b'),
        ('"a\\\\b"', "a\\\\b"),
        ("x" * 255, "x" * 255),
        (f'"{"x" * 255}"', "x" * 255),
    ],
)
def test_idempotency_header_is_one_item(header: str | None, key: str | None) -> None:
    assert read_idempotency_header(header) == key


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("a,b", "one header field"),  # also what a gateway makes of two fields
        ("a, b", "one header field"),
        ('"a", "b"', "one header field"),
        ('"a","b"', "one header field"),
        ('"a"b"', "one header field"),
        ('a"b', "one header field"),
        ('"a', "one header field"),
        ('"a";p=1', "one header field"),
        ('"a\\b"', "one header field"),  # only a quote and a backslash are escaped
        ('"', "one header field"),
        ("", "1 to 255"),
        ('""', "1 to 255"),
        ("a b", "1 to 255"),
        ('"a b"', "1 to 255"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "1 to 255"),
        ("a\tb", "1 to 255"),
        ("x" * 256, "1 to 255"),
    ],
)
def test_idempotency_header_of_another_form_is_rejected(header: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=f"Idempotency-Key: .*{reason}"):
        read_idempotency_header(header)


@pytest.mark.parametrize(
    ("text", "key"), [(None, None), ("a,b", "a,b"), ('a"b', 'a"b'), ('"a"', "a"), ('"', '"')]
)
def test_idempotency_key_of_a_message_is_a_text(text: str | None, key: str | None) -> None:
    assert read_idempotency_key(text) == key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("1", "1e0"),
        ("1", "1E+0"),
        ("1", "10e-1"),
        ("100", "1e2"),
        ("100", "1E+2"),
        ("0", "-0"),
        ("0", "-0.0"),
        ("100000000000000000000", "1e20"),
        ('{"a": [1, {"b": 2}]}', '{"a": [1.0, {"b": 2.0}]}'),
        ('{"a": 1, "b": 2}', '{"b": 2.0, "a": 1}'),
        ("1.5", "15e-1"),
        ("1.5", "1.50"),
    ],
)
def test_spellings_of_a_number_are_one_text(one: str, other: str) -> None:
    texts = {
        canonical_json(with_whole_numbers(parse_json(raw, limit=1000))) for raw in (one, other)
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "true"), ("0", "false"), ("1", '"1"'), ("1", "1.5"), ("1", "[1]"), ("0", "null"),
     ("9007199254740993", "9007199254740992")],
)  # fmt: skip
def test_other_values_are_other_texts(one: str, other: str) -> None:
    texts = {
        canonical_json(with_whole_numbers(parse_json(raw, limit=1000))) for raw in (one, other)
    }
    assert len(texts) == 2
