"""A Django application whose sessions are on Mayfly. Importing this module sets Django up.

A view calls `request.META["meanwhile"]`, which a test passes as an argument of its browser: what
happens between the view's read of the session and the write after it.
"""

import json
from typing import Any

import django
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login as log_in
from django.contrib.auth import logout as log_out
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path

__all__ = ["COOKIE", "MIDDLEWARE", "Browser"]

MIDDLEWARE = [
    "mayfly.sessions.web.django.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

if not settings.configured:
    settings.configure(
        SECRET_KEY="s",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=MIDDLEWARE,
        MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
        SESSION_ENGINE="mayfly.sessions.web.django",
        SESSION_COOKIE_SECURE=True,
        USE_TZ=True,
        LOGGING_CONFIG=None,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
        ],
    )
    django.setup()
    # Users of these tests are in no table.
    user_logged_in.disconnect(dispatch_uid="update_last_login")

from django.contrib.auth.models import User  # noqa: E402  # after the setup

COOKIE = "sessionid"


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no session here")


def hit(request: HttpRequest) -> HttpResponse:
    request.session["hits"] = request.session.get("hits", 0) + 1
    return HttpResponse(str(request.session["hits"]))


async def ahit(request: HttpRequest) -> HttpResponse:
    await request.session.aset("hits", await request.session.aget("hits", 0) + 1)
    if "rotate" in request.GET:
        await request.session.acycle_key()
    if "subject" in request.GET:
        await request.session.arotate(request.GET["subject"])
    if "logout" in request.GET:
        await request.session.aflush()
    return HttpResponse(str(await request.session.aget("hits")))


def look(request: HttpRequest) -> HttpResponse:
    return JsonResponse(dict(request.session.items()))


def append(request: HttpRequest) -> HttpResponse:
    request.session.setdefault("list", []).append(1)
    request.session.modified = True
    return JsonResponse({"list": request.session["list"]})


def login(request: HttpRequest, number: int) -> HttpResponse:
    log_in(request, User(pk=number), "django.contrib.auth.backends.ModelBackend")
    if "subject" in request.GET:
        request.session.rotate(request.GET["subject"])
    if "remember" in request.GET:
        request.session.set_expiry(int(request.GET["remember"]))
    return HttpResponse()


def logout(request: HttpRequest) -> HttpResponse:
    list(request.session.keys())  # as an application does that looks at its user
    log_out(request)
    if "farewell" in request.GET:
        messages.info(request, "bye")
    return HttpResponse()


def flash(request: HttpRequest, word: str) -> HttpResponse:
    messages.info(request, word)
    return HttpResponse()


def flashed(request: HttpRequest) -> HttpResponse:
    return HttpResponse(repr([str(message) for message in messages.get_messages(request)]))


def slow(request: HttpRequest) -> HttpResponse:
    """Reads the session, waits for what happens meanwhile, and does what the query says."""
    request.session.get("hits")
    request.META["meanwhile"]()
    if "read" not in request.GET:
        request.session["slow"] = 1
    if "rotate" in request.GET:
        request.session.cycle_key()
    if "logout" in request.GET:
        log_out(request)
    return HttpResponse("slow")


def keep(request: HttpRequest) -> HttpResponse:
    request.session["x"] = json.loads(request.body)
    return HttpResponse()


def use(request: HttpRequest) -> HttpResponse:
    """Calls the function that a test has passed."""
    return HttpResponse(str(request.META["use"](request.session)))


urlpatterns = [
    path("plain", plain),
    path("hit", hit),
    path("ahit", ahit),
    path("look", look),
    path("append", append),
    path("login/<int:number>", login),
    path("logout", logout),
    path("flash/<word>", flash),
    path("flashed", flashed),
    path("slow", slow),
    path("keep", keep),
    path("use", use),
]


class Browser:
    """A browser of the site. `last` is its last answer."""

    def __init__(self, *, checks_csrf: bool = False) -> None:
        self.client = Client(enforce_csrf_checks=checks_csrf, raise_request_exception=False)
        self.last: Any = None

    def get(self, path: str, **more: Any) -> str:
        self.last = self.client.get(path, secure=True, **more)
        return str(self.last.content.decode())

    def post(self, path: str, body: Any = None, **more: Any) -> str:
        self.last = self.client.post(
            path, json.dumps(body), content_type="application/json", secure=True, **more
        )
        return str(self.last.content.decode())

    @property
    def token(self) -> str | None:
        cookie = self.client.cookies.get(COOKIE)
        return None if cookie is None or not cookie.value else str(cookie.value)

    @property
    def cookie(self) -> str | None:
        """The Set-Cookie header of the last answer, without its name."""
        cookie = self.last.cookies.get(COOKIE)
        return None if cookie is None else str(cookie.OutputString())

    def window(self) -> "Browser":
        """Returns another window of the same browser."""
        other = Browser()
        other.client.cookies[COOKIE] = self.token or ""
        return other
