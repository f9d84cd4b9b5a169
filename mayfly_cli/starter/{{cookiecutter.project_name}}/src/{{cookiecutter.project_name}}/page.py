"""GET /: a page that counts its visits, and shows the orders that jobs have counted."""

import os

from mayfly import PUBLIC, Api, Observer, Response, counters, observer, resources, text
from mayfly.counters import CounterStore
from mayfly.web.resolver import Handler

TENANT = "default"


def build(store: CounterStore, observe: Observer) -> Handler:
    """Returns the handler of the page."""
    api = Api(observe)

    @api.get("/", scope=PUBLIC)
    def page() -> Response[str]:
        visits = counters.increment(store, "visits", tenant=TENANT).value
        orders = counters.read(store, "orders", tenant=TENANT).value
        return text(f"{{cookiecutter.project_name}}: visits {visits}, orders {orders}")

    return api.handler()


handler = build(resources.counter_store(os.environ), observer("page"))
