"""An ordinary Flask application that counts a visitor's hits in the session.

It does not depend on where the session is stored.
"""

import os

from flask import Flask, flash, get_flashed_messages, redirect, request, session
from flask.wrappers import Response
from mayfly import resources
from mayfly.sessions.web.flask import MayflySessionInterface, rotate
from werkzeug.wrappers import Response as BaseResponse

app = Flask(__name__)
MayflySessionInterface(resources.session_store(os.environ)).init_app(app)


@app.get("/")
def hit() -> dict[str, object]:
    """Counts a hit, and returns the process that counted it.

    The process changes from time to time, and the count continues.
    """
    session["hits"] = session.get("hits", 0) + 1
    return {
        "hits": session["hits"],
        "user": session.get("user"),
        "notes": get_flashed_messages(),
        "process": os.getpid(),
    }


@app.post("/login")
def login() -> BaseResponse:
    """Logs a user in, without a password because this is an example.

    The session gets a new token, and belongs to this user.
    """
    session["user"] = request.form["user"]
    rotate(request.form["user"])
    flash(f"Hello, {request.form['user']}!")
    return redirect("/", 303)


@app.post("/logout")
def logout() -> BaseResponse:
    """Ends the session; its token is no longer valid."""
    session.clear()
    return redirect("/", 303)


@app.after_request
def no_store(response: Response) -> Response:
    """Prevents caches from storing a visitor's own pages."""
    response.headers["Cache-Control"] = "no-store"
    return response
