"""Reading of exceptions that code outside Mayfly has raised, whatever their classes do.

Its attributes may be properties that raise or exit, and the traceback module itself raises for some
exceptions, such as a SyntaxError whose line is bytes, as template engines make it.
"""

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

__all__ = ["attempt", "cause_of", "members_of", "shown", "traceback_text"]

T = TypeVar("T")

_NO_TEXT: Final = "<exception str() failed>"


def attempt(read: Callable[[], T], *, otherwise: T) -> T:
    """Returns what `read` reads of an exception, `otherwise` if that raises anything at all."""
    try:
        return read()
    except BaseException:  # noqa: BLE001  # code of the exception's class
        return otherwise


def shown(error: BaseException) -> tuple[str, str]:
    """Returns the name of an exception's type, and its message."""
    name = attempt(lambda: _plain(type(error).__name__), otherwise="an exception without a name")
    # The traceback module has a text for an exception whose own `__str__` raises, too.
    message = attempt(
        lambda: _plain(
            str(traceback.TracebackException(type(error), error, None, limit=0, compact=True))
        ),
        otherwise=None,
    )
    return name, attempt(
        lambda: _plain(str(error)), otherwise=_NO_TEXT
    ) if message is None else message


def members_of(error: BaseException) -> Sequence[BaseException]:
    """Returns the members of an exception group, in order; none of another exception."""
    if not isinstance(error, BaseExceptionGroup):
        return ()
    return attempt(lambda: tuple(error.exceptions), otherwise=())


def cause_of(error: BaseException) -> BaseException | None:
    """Returns the cause of an exception (`raise ... from`)."""
    return attempt(lambda: error.__cause__, otherwise=None)


def traceback_text(error: BaseException) -> str:
    """Returns the traceback of an exception; without causes and members if they cannot be shown."""
    for with_chain in (True, False):
        text = attempt(partial(_formatted, error, with_chain=with_chain), otherwise=None)
        if text is not None:
            return text
    none: list[str] = []
    lines = attempt(lambda: traceback.format_tb(error.__traceback__), otherwise=none)
    return "".join(["Traceback (most recent call last):\n", *lines, ": ".join(shown(error)), "\n"])


def _formatted(error: BaseException, *, with_chain: bool) -> str | None:
    return "".join(traceback.format_exception(error, chain=with_chain))


def _plain(text: str) -> str:
    """Returns a text that is not of a class of its own. Raises TypeError if it is not a text."""
    return "".join((text, ""))
