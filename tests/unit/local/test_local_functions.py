"""The names of functions: what clients may call them, and what the emulator finds by them."""

import pytest

from mayfly_local.emulator.functions import Functions
from mayfly_local.iam.function_names import FunctionName

ARN = "arn:aws:lambda:us-east-1:000000000000:function:shop-work"


@pytest.fixture
def functions() -> Functions:
    found = Functions()
    found.set({"Work": {"name": "shop-work", "qualifiers": ["live", "1"]}})
    return found


@pytest.mark.parametrize(
    "reference",
    [
        "Work", "shop-work", "shop-work:live", "shop-work:1", "shop-work:$LATEST", ARN,
        f"{ARN}:live", "000000000000:function:shop-work", "function:shop-work:1",
    ],
)  # fmt: skip
def test_function_is_found_by_each_of_its_names(functions: Functions, reference: str) -> None:
    assert functions.find(reference) == "Work"


@pytest.mark.parametrize(
    "reference",
    [
        "", "other", "shop-work:dead", "shop-work:2", "shop work", f"{ARN}:live:x",
        ARN.replace("000000000000", "123456789012"), ARN.replace("us-east-1", "eu-west-1"),
    ],
)  # fmt: skip
def test_other_names_find_nothing(functions: Functions, reference: str) -> None:
    assert functions.find(reference) is None


def test_qualifier_of_the_request_counts(functions: Functions) -> None:
    assert functions.find("shop-work", "live") == "Work"
    assert functions.find("shop-work", "dead") is None


def test_name_is_kept_while_the_functions_are_not_known() -> None:
    assert Functions().find(f"{ARN}:live") == "shop-work"
    assert Functions().find("not a name") is None


def test_arn_has_the_qualifier() -> None:
    name = FunctionName.parse("shop-work:live")
    assert name is not None
    assert name.arn == f"{ARN}:live"
