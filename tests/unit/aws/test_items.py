"""Attributes of items, as either client returns them."""

import pytest
from mayfly.aws.items import binary


@pytest.mark.parametrize("value", ["AP8=", b"\x00\xff", bytearray(b"\x00\xff")])
def test_binary_attribute_is_bytes_on_either_client(value: object) -> None:
    assert binary({"a": {"B": value}}, "a") == b"\x00\xff"
