"""Python values in DynamoDB's JSON.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Context, Decimal, Inexact, Overflow, Rounded, Underflow
from typing import Any, Final

__all__ = ["serialize"]

#: DynamoDB's numbers have 38 digits. A number that would be rounded is an error.
_NUMBERS: Final = Context(
    Emin=-128, Emax=126, prec=38, traps=[Overflow, Inexact, Rounded, Underflow]
)


def serialize(value: Any) -> dict[str, Any]:
    """Returns a value as DynamoDB's JSON has it, as boto3's TypeSerializer does.

    Raises TypeError for a type that DynamoDB does not have, also for float: use Decimal. Raises
    decimal.DecimalException for a number that DynamoDB would round.
    """
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if _is_number(value):
        return {"N": _number(value)}
    if (content := _bytes_of(value)) is not None:
        return {"B": content}
    if isinstance(value, Mapping):
        return {"M": {name: serialize(entry) for name, entry in value.items()}}
    if isinstance(value, AbstractSet):
        return _set(value)
    if isinstance(value, (list, tuple)):
        return {"L": [serialize(entry) for entry in value]}
    raise TypeError(f"{type(value).__name__} is not a type of DynamoDB: {_advice(value)}")


def _set(values: AbstractSet[Any]) -> dict[str, Any]:
    members: Iterable[Any] = list(values)
    if values and all(_is_number(member) for member in members):
        return {"NS": [_number(member) for member in members]}
    if values and all(isinstance(member, str) for member in members):
        return {"SS": list(members)}
    contents = [_bytes_of(member) for member in members]
    if values and None not in contents:
        return {"BS": contents}
    raise TypeError(
        "a set for DynamoDB holds numbers, texts or bytes, of one kind, and at least one"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def _number(value: int | Decimal) -> str:
    number = str(_NUMBERS.create_decimal(value))
    if number in ("Infinity", "-Infinity", "NaN"):
        raise TypeError(f"{number} is not a number of DynamoDB")
    return number


def _bytes_of(value: Any) -> Any:
    """Returns the content of bytes, of a bytearray, or of boto3's Binary; None for other values."""
    if isinstance(value, (bytes, bytearray)):
        return value
    content = getattr(value, "value", None)
    return content if isinstance(content, (bytes, bytearray)) else None


def _advice(value: Any) -> str:
    return "use Decimal" if isinstance(value, float) else "convert it"
