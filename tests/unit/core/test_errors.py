"""Codes and titles of errors, which follow from the names of their classes."""

import pytest
from mayfly.aws.dynamodb import AnswerLost, RequestRefused
from mayfly.core.errors import MayflyError, StoreUnavailable
from mayfly.sessions.errors import SessionNotFound
from mayfly.sessions.store import SessionRotated


class TeapotIsEmpty(MayflyError):
    """An error that names neither its code nor its title."""


class TeapotIsBroken(TeapotIsEmpty):
    """A kind of another error."""


class Other(MayflyError):
    code = "teapot"


def test_code_and_title_are_the_words_of_the_class() -> None:
    assert (TeapotIsEmpty.code, TeapotIsEmpty.title) == ("teapot-is-empty", "Teapot is empty")


def test_class_can_set_its_code() -> None:
    assert (Other.code, Other.title) == ("teapot", "Other")


def test_kind_of_another_error_keeps_its_code_and_title() -> None:
    assert (TeapotIsBroken.code, TeapotIsBroken.title) == ("teapot-is-empty", "Teapot is empty")


def test_rotated_token_is_not_told_from_an_unknown_one() -> None:
    assert (SessionRotated.code, SessionRotated.title, SessionRotated.status) == (
        SessionNotFound.code,
        SessionNotFound.title,
        SessionNotFound.status,
    )


@pytest.mark.parametrize("kind", [AnswerLost, RequestRefused])
def test_every_failure_of_the_store_has_one_code(kind: type[StoreUnavailable]) -> None:
    assert (kind.code, kind.status) == ("store-unavailable", 503)
