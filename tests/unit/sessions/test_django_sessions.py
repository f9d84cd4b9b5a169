"""The engine for Django, with real Django: its contract of sessions, and what Mayfly adds."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.backends.base import UpdateError
from django.core.management import call_command
from django.test import AsyncClient, override_settings
from django.utils import timezone
from mayfly import sessions
from mayfly.core.errors import InvalidRequest
from mayfly.sessions.web.django import SessionStore

from tests.support.django_site import COOKIE, MIDDLEWARE, Browser
from tests.support.faults import Faults
from tests.support.sessions import UNSTORABLE, Sessions

TWO_WEEKS = 14 * 24 * 3600
DAYS_400 = 400 * 24 * 3600


@pytest.fixture(autouse=True)
def store(dynamodb: Any) -> Iterator[Sessions]:
    store = Sessions(dynamodb)
    with override_settings(MAYFLY_SESSION_STORE=lambda: store, MAYFLY_SESSION_TENANT="acme"):
        yield store


def items(dynamodb: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dynamodb.scan(TableName="SessionsTable")["Items"]
    return found


def by_subject(store: Sessions, subject: str) -> list[dict[str, Any]]:
    page = sessions.list_by_subject(store, tenant="acme", subject=subject)
    return [session.data for session in page.sessions]


# ---------------------------------------------------------------- requests and calls


def test_view_without_session_costs_no_call_and_sets_no_cookie(faults: Faults) -> None:
    browser = Browser()
    browser.get("/hit")
    faults.requests.clear()
    browser.get("/plain")
    assert faults.requests == []
    assert (browser.cookie, "Vary" in browser.last.headers) == (None, False)


def test_visitor_stores_nothing_until_the_session_is_modified(faults: Faults) -> None:
    browser = Browser()
    assert browser.get("/look") == "{}"
    assert (faults.requests, browser.cookie) == ([], None)


def test_reading_view_makes_one_call(faults: Faults) -> None:
    browser = Browser()
    browser.get("/hit")
    faults.requests.clear()
    assert browser.get("/look") == '{"hits": 1}'
    assert (faults.requests, browser.cookie) == (["GetItem"], None)
    assert browser.last.headers["Vary"] == "Cookie"


def test_session_is_kept_between_requests_under_one_cookie() -> None:
    browser = Browser()
    browser.get("/hit")
    token = browser.token
    assert [browser.get("/hit") for _ in range(2)] == ["2", "3"]
    assert browser.token == token
    assert Browser().get("/hit") == "1"


def test_key_of_the_session_is_a_token_that_the_verbs_take(store: Sessions) -> None:
    browser = Browser()
    browser.get("/hit")
    assert sessions.read(store, str(browser.token), tenant="acme").data == {"hits": 1}


@pytest.mark.parametrize("key", ["mfs_a" + "0" * 32 + "_" + "A" * 43, "someunknownkey", "1"])
def test_unknown_cookie_is_never_adopted_and_costs_no_item(dynamodb: Any, key: str) -> None:
    browser = Browser()
    browser.client.cookies[COOKIE] = key
    assert browser.get("/look") == "{}"
    assert items(dynamodb) == []
    browser.client.cookies[COOKIE] = key
    assert browser.get("/hit") == "1"
    assert browser.token not in (None, key)


def test_nested_changes_are_written_if_the_view_sets_modified() -> None:
    browser = Browser()
    assert [browser.get("/append") for _ in range(2)] == ['{"list": [1]}', '{"list": [1, 1]}']


def test_flashes_are_shown_once() -> None:
    browser = Browser()
    browser.get("/flash/one")
    browser.get("/flash/two")
    assert browser.get("/flashed") == "['one', 'two']"
    assert browser.get("/flashed") == "[]"


# ---------------------------------------------------------------- login and logout


def test_login_issues_a_new_token_and_revokes_the_old_one() -> None:
    browser = Browser()
    browser.get("/hit")
    thief = browser.window()
    before = browser.token
    browser.post("/login/7")
    assert browser.token not in (None, before)
    assert '"hits": 1' in browser.get("/look")
    assert thief.get("/look") == "{}"


def test_first_visit_can_log_in() -> None:
    browser = Browser()
    browser.post("/login/7")
    assert '"_auth_user_id": "7"' in browser.get("/look")


def test_login_as_another_user_starts_an_empty_session(dynamodb: Any) -> None:
    browser = Browser()
    browser.get("/hit")
    browser.post("/login/7")
    before = browser.window()
    browser.post("/login/8")
    assert "hits" not in browser.get("/look")
    assert before.get("/look") == "{}"
    assert len(items(dynamodb)) == 1


def test_session_of_a_subject_can_be_listed_and_ended(store: Sessions) -> None:
    browser, other = Browser(), Browser()
    browser.get("/hit")
    browser.post("/login/7?subject=ada")
    other.post("/login/7?subject=ada")
    assert [data["_auth_user_id"] for data in by_subject(store, "ada")] == ["7", "7"]
    assert '"hits": 1' in browser.get("/look")
    sessions.end_all(store, tenant="acme", subject="ada")
    assert (browser.get("/look"), other.get("/look")) == ("{}", "{}")


def test_subject_that_cannot_be_listed_is_refused() -> None:
    browser = Browser()
    browser.post("/login/7?subject=ada lovelace")
    assert (browser.last.status_code, browser.cookie) == (400, None)
    assert "subject" in browser.last.content.decode()


def test_logout_ends_the_session_in_the_store_and_deletes_the_cookie(dynamodb: Any) -> None:
    browser = Browser()
    browser.post("/login/7")
    before = browser.window()
    browser.post("/logout")
    assert items(dynamodb) == []
    assert "Max-Age=0" in str(browser.cookie)
    assert before.get("/look") == "{}"


def test_logout_with_a_farewell_message_is_a_logout() -> None:
    browser = Browser()
    browser.post("/login/7")
    before = browser.window()
    browser.post("/logout?farewell")
    assert browser.token != before.token
    assert browser.get("/flashed") == "['bye']"
    assert before.get("/look") == "{}"


def test_clear_removes_all_data_and_keeps_the_session(faults: Faults) -> None:
    browser = Browser()
    browser.get("/hit")
    token = browser.token
    browser.get("/use", use=lambda session: session.clear())
    assert (browser.get("/look"), browser.token) == ("{}", token)


# ---------------------------------------------------------------- races


def test_overlapping_requests_lose_no_change_of_each_other() -> None:
    browser = Browser()
    browser.get("/hit")
    other = browser.window()
    browser.get("/slow", meanwhile=lambda: other.get("/hit"))
    assert browser.get("/look") == '{"hits": 2, "slow": 1}'


def test_slow_request_does_not_restore_a_session_that_ended_meanwhile(dynamodb: Any) -> None:
    browser = Browser()
    browser.get("/hit")
    other = browser.window()
    browser.get("/slow", meanwhile=lambda: other.post("/logout"))
    assert (browser.last.status_code, browser.cookie) == (400, None)
    assert items(dynamodb) == []


def test_slow_request_does_not_write_to_a_session_that_was_rotated_meanwhile() -> None:
    browser = Browser()
    browser.get("/hit")
    other = browser.window()
    browser.get("/slow", meanwhile=lambda: other.post("/login/7"))
    assert (browser.last.status_code, browser.cookie) == (400, None)
    assert "slow" not in other.get("/look")


def test_slow_login_does_not_restore_a_session_that_ended_meanwhile(dynamodb: Any) -> None:
    browser = Browser()
    browser.get("/hit")
    other = browser.window()
    browser.get("/slow?rotate", meanwhile=lambda: other.post("/logout"))
    assert (browser.last.status_code, browser.cookie) == (400, None)
    assert items(dynamodb) == []


def test_page_that_overlaps_a_login_does_not_delete_its_cookie(store: Sessions) -> None:
    """Its answer may reach the browser after the answer with the new token."""
    browser = Browser()
    browser.get("/hit")
    beside = browser.window()
    browser.post("/login/7")
    assert beside.get("/look") == "{}"
    assert beside.cookie is None
    store.time.advance(60)
    beside.get("/look")
    assert "Max-Age=0" in str(beside.cookie)


def test_change_that_overlaps_a_login_is_refused() -> None:
    browser = Browser()
    browser.get("/hit")
    beside = browser.window()
    browser.post("/login/7")
    beside.get("/hit")
    assert (beside.last.status_code, beside.cookie) == (400, None)


def test_second_click_on_login_is_a_login(dynamodb: Any) -> None:
    browser = Browser()
    browser.get("/hit")
    beside = browser.window()
    browser.post("/login/7")
    beside.post("/login/7")
    assert beside.last.status_code == 200
    assert '"_auth_user_id": "7"' in beside.get("/look")
    assert '"_auth_user_id": "7"' in browser.get("/look")


def test_logout_that_overlaps_a_rotation_ends_the_session_under_its_new_token() -> None:
    browser = Browser()
    browser.get("/hit")
    other = browser.window()

    def rotate() -> None:
        other.get("/use", use=lambda session: session.cycle_key())

    browser.get("/slow?logout", meanwhile=rotate)
    assert other.get("/look") == "{}"


# ---------------------------------------------------------------- expiry


def test_session_ends_two_weeks_after_its_last_change(store: Sessions) -> None:
    """As with Django's own engines, a request that only reads does not move the end."""
    browser = Browser()
    browser.get("/hit")
    assert f"Max-Age={TWO_WEEKS}" in str(browser.cookie)
    store.time.advance(TWO_WEEKS - 1)
    assert browser.get("/look") == '{"hits": 1}'
    store.time.advance(1)
    assert browser.get("/look") == "{}"


def test_change_starts_the_time_of_a_session_again(store: Sessions) -> None:
    browser = Browser()
    browser.get("/hit")
    for hits in ("2", "3"):
        store.time.advance(TWO_WEEKS - 1)
        assert browser.get("/hit") == hits
    store.time.advance(TWO_WEEKS)
    assert browser.get("/hit") == "1"


def test_modified_flag_alone_starts_the_time_of_a_session_again(store: Sessions) -> None:
    def touch(session: SessionStore) -> None:
        session.modified = True

    browser = Browser()
    browser.get("/hit")
    store.time.advance(TWO_WEEKS - 1)
    browser.get("/use", use=touch)
    store.time.advance(TWO_WEEKS - 1)
    assert browser.get("/look") == '{"hits": 1}'


def test_each_request_is_a_use_if_django_saves_every_request(
    store: Sessions, faults: Faults
) -> None:
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        browser = Browser()
        browser.get("/hit")
        for _ in range(3):
            store.time.advance(TWO_WEEKS - 1)
            assert browser.get("/look") == '{"hits": 1}'
            assert f"Max-Age={TWO_WEEKS}" in str(browser.cookie)
        faults.requests.clear()
        browser.get("/look")
        assert faults.requests == ["GetItem", "GetItem"]  # a write only after a tenth of the time
        store.time.advance(TWO_WEEKS)
        assert browser.get("/look") == "{}"


def test_session_from_before_the_setting_gets_its_lifetime(store: Sessions) -> None:
    browser = Browser()
    browser.get("/hit")
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        for _ in range(3):
            store.time.advance(TWO_WEEKS - 1)
            assert browser.get("/look") == '{"hits": 1}'


def test_expiry_of_one_session_in_seconds(store: Sessions) -> None:
    browser = Browser()
    browser.post("/login/7?remember=60")
    assert "Max-Age=60" in str(browser.cookie)
    store.time.advance(59)
    assert '"_auth_user_id": "7"' in browser.get("/look")
    store.time.advance(1)
    assert browser.get("/look") == "{}"


def test_expiry_of_zero_lasts_until_the_browser_closes() -> None:
    browser = Browser()
    browser.post("/login/7?remember=0")
    assert "Max-Age" not in str(browser.cookie)
    assert '"_auth_user_id": "7"' in browser.get("/look")


@pytest.mark.parametrize("value", [timedelta(hours=1), "date"], ids=["timedelta", "datetime"])
def test_expiry_at_a_date_is_not_moved_by_uses(store: Sessions, value: Any) -> None:
    def expire(session: SessionStore) -> None:
        is_date = value == "date"
        session.set_expiry(timezone.now() + timedelta(hours=1) if is_date else value)

    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        browser = Browser()
        browser.get("/hit")
        browser.get("/use", use=expire)
        store.time.advance(3590)
        assert '"hits": 1' in browser.get("/look")
    # The browser's own clock has not moved, so the date is an hour away again: the deadline of the
    # store is that of the last save.
    store.time.advance(3601)
    assert browser.get("/look") == "{}"


def test_expiry_in_the_past_ends_the_session_at_once(dynamodb: Any) -> None:
    browser = Browser()
    browser.get("/hit")
    browser.get("/use", use=lambda session: session.set_expiry(timedelta(seconds=-10)))
    assert items(dynamodb) == []
    assert browser.get("/look") == "{}"


def test_expiry_beyond_400_days_is_an_error_of_the_application() -> None:
    session = SessionStore()
    session.set_expiry(DAYS_400 + 1)
    with pytest.raises(ValueError, match="400 days"):
        session.save()
    session.set_expiry(DAYS_400)
    session.save()
    assert session.exists(session.session_key)


def test_clearsessions_has_nothing_to_do(dynamodb: Any, faults: Faults) -> None:
    browser = Browser()
    browser.get("/hit")
    faults.requests.clear()
    SessionStore.clear_expired()
    asyncio.run(SessionStore.aclear_expired())
    with override_settings(INSTALLED_APPS=["django.contrib.sessions"]):
        call_command("clearsessions")
    assert faults.requests == []
    assert browser.get("/hit") == "2"


# ---------------------------------------------------------------- the engine's own methods


def test_save_without_create_raises_update_error_if_the_session_was_deleted() -> None:
    session = SessionStore()
    session.create()
    SessionStore(session.session_key).delete()
    session["x"] = 1
    with pytest.raises(UpdateError):
        session.save()


def test_session_that_is_saved_for_its_key_gets_a_cookie() -> None:
    browser = Browser()
    browser.get("/use", use=lambda session: session.save())
    assert browser.token is not None


def test_second_save_of_a_request_keeps_what_another_request_wrote() -> None:
    first = SessionStore()
    first["a"] = 1
    first.save()
    second = SessionStore(first.session_key)
    second["b"] = 2
    second.save()
    first["c"] = 3
    first.save()
    assert SessionStore(first.session_key).load() == {"a": 1, "b": 2, "c": 3}


def test_clear_without_a_read_removes_what_is_stored() -> None:
    first = SessionStore()
    first["a"] = 1
    first.save()
    second = SessionStore(first.session_key)
    second.clear()
    second.save()
    assert SessionStore(first.session_key).load() == {}


def test_session_of_another_tenant_is_unknown() -> None:
    session = SessionStore()
    session["a"] = 1
    session.save()
    with override_settings(MAYFLY_SESSION_TENANT="other"):
        assert SessionStore(session.session_key).load() == {}


def test_asynchronous_views_have_the_same_sessions(store: Sessions) -> None:
    """The client's requests are those of an asynchronous server."""

    async def visits() -> list[str]:
        browser = AsyncClient()
        paths = ["/ahit", "/ahit?rotate", "/ahit?subject=ada", "/ahit", "/ahit?logout", "/ahit"]
        return [(await browser.get(path)).content.decode() for path in paths]

    assert asyncio.run(visits()) == ["1", "2", "3", "4", "None", "1"]
    assert by_subject(store, "ada") == []


# ---------------------------------------------------------------- other sites


def test_request_from_another_site_cannot_use_the_session() -> None:
    """Django's CsrfViewMiddleware refuses it before the view."""
    browser = Browser(checks_csrf=True)
    browser.get("/hit")
    answer = browser.post("/hit", headers={"Origin": "https://evil.example"})
    assert (browser.last.status_code, "CSRF" in answer) == (403, True)
    assert browser.get("/look") == '{"hits": 1}'


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("path", ["/look", "/ahit"])
def test_store_that_does_not_answer_a_read_is_503_and_not_a_logout(
    faults: Faults, path: str
) -> None:
    browser = Browser()
    browser.get("/hit")
    faults.refuse("GetItem", "ProvisionedThroughputExceededException")
    browser.get(path)
    assert (browser.last.status_code, browser.last.headers["Retry-After"], browser.cookie) == (
        503,
        "1",
        None,
    )
    faults.plan = lambda operation, number: None
    assert browser.get("/hit") == "2"


def test_no_change_is_acknowledged_before_it_is_written(faults: Faults) -> None:
    browser = Browser()
    faults.refuse("TransactWriteItems", "ProvisionedThroughputExceededException")
    browser.get("/hit")
    assert (browser.last.status_code, browser.last.headers["Retry-After"], browser.cookie) == (
        503,
        "1",
        None,
    )


def test_djangos_own_middleware_answers_500_if_the_store_does_not_answer(faults: Faults) -> None:
    own = ["django.contrib.sessions.middleware.SessionMiddleware", *MIDDLEWARE[1:]]
    with override_settings(MIDDLEWARE=own):
        browser = Browser()
        assert [browser.get("/hit") for _ in range(2)] == ["1", "2"]
        faults.refuse("GetItem", "ProvisionedThroughputExceededException")
        browser.get("/look")
        assert (browser.last.status_code, browser.cookie) == (500, None)


def test_error_of_another_store_in_a_view_is_not_answered_by_the_middleware() -> None:
    def fail(_: SessionStore) -> None:
        raise InvalidRequest("task", "must be a name")

    browser = Browser()
    browser.get("/use", use=fail)
    assert browser.last.status_code == 500


def test_data_above_the_limit_is_named_in_the_error() -> None:
    browser = Browser()
    browser.get("/hit")
    browser.post("/keep", "x" * 256 * 1024)
    assert (browser.last.status_code, browser.cookie) == (413, None)
    assert "data" in browser.last.content.decode()
    assert browser.get("/hit") == "2"


@pytest.mark.parametrize("is_new", [True, False], ids=["new session", "session there"])
@pytest.mark.parametrize(
    ("value", "error"),
    [UNSTORABLE[name] for name in UNSTORABLE if name != "mixed keys"],
    ids=[name for name in UNSTORABLE if name != "mixed keys"],
)
def test_value_that_json_cannot_hold_is_an_error_of_the_application(
    value: Any, error: type[Exception], is_new: bool
) -> None:
    session = SessionStore()
    if not is_new:
        session.save()
    session["x"] = value
    with pytest.raises(error, match=r"session\['x'\]"):
        session.save()
    assert session.session_key is None or SessionStore(session.session_key).load() == {}


@pytest.mark.parametrize(
    ("key", "value", "back"),
    [
        (1, 1, {"1": 1}),
        ("x", (1, 2), {"x": [1, 2]}),
        ("x", {1: 1, "a": 1}, {"x": {"1": 1, "a": 1}}),
    ],
    ids=["number as key", "tuple", "mixed keys"],
)
def test_value_is_read_back_as_from_djangos_own_serializer(key: Any, value: Any, back: Any) -> None:
    session = SessionStore()
    session[key] = value
    session.save()
    assert SessionStore(session.session_key).load() == back
