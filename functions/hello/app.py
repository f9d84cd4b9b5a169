"""GET /, GET /health: a page that counts its visits in the store, and the probe. Answers what no route takes, too."""

from aws_lambda_powertools.event_handler import Response
from mayfly import counters, http
from mayfly.wiring import HelloDeps

__all__ = ["ROUTES", "build"]

#: The paths of the whole API and the methods they take, for an honest 405. Kept equal to template.yaml by a test.
ROUTES = {
    "/": ["GET"],
    "/health": ["GET"],
    "/jobs": ["GET", "POST"],
    "/jobs/{id}": ["GET"],
    "/jobs/{id}/cancel": ["POST"],
    "/jobs/{id}/redrive": ["POST"],
}

_SCOPES = {"GET /": http.PUBLIC, "GET /health": http.PUBLIC, "$default": http.PUBLIC}


def build(deps: HelloDeps) -> http.Handler:
    """The handler of the page."""
    app = http.resolver(deps.observe, _SCOPES, all_routes=ROUTES)

    @app.get("/")
    def hello() -> Response[str]:
        hits = counters.increment(deps.counters, tenant=deps.tenant, name="hits").value
        deps.observe.count("Hits")
        if "application/json" in (http.header(app, "accept") or ""):
            return http.answer({"hits": hits})
        return http.text(f"Hello World! {hits} times.")

    @app.get("/health")
    def health() -> Response[str]:
        deps.counters.ping()
        return http.answer({"status": "ok"})

    return http.entrypoint(app, deps.observe)
