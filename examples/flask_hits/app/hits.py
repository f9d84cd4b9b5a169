"""An ordinary Flask application: it counts a visitor's hits in the session, and knows nothing of
where that is kept.
"""

import os

from flask import Flask, flash, get_flashed_messages, redirect, request, session
from flask.wrappers import Response
from mayfly import resources
from mayfly.sessions.web.flask import MayflySessionInterface, rotate
from werkzeug.wrappers import Response as BaseResponse

app = Flask(__name__)
app.session_interface = MayflySessionInterface(resources.session_store(os.environ))


@app.get("/")
def hit() -> dict[str, object]:
    """Counts, and says who counted: the process is another one from time to time, the count goes
    on.
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
    """A login without password, for the example: the session goes on under a new token, as this
    user's.
    """
    session["user"] = request.form["user"]
    rotate(request.form["user"])
    flash(f"Hello, {request.form['user']}!")
    return redirect("/", 303)


@app.post("/logout")
def logout() -> BaseResponse:
    """Ends the session: its token opens nothing from now on."""
    session.clear()
    return redirect("/", 303)


@app.after_request
def no_store(response: Response) -> Response:
    """What belongs to one visitor is kept by no cache."""
    response.headers["Cache-Control"] = "no-store"
    return response
