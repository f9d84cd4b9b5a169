"""The front door of the library: what handlers and tasks import.

`from mayfly import jobs, sessions` gives features, whose functions are verbs over a store.
`from mayfly import task, Effects` gives names. Each is imported when it is first asked for, so that
a function pays at its cold start for what it uses only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mayfly.core.deferred import install

if TYPE_CHECKING:
    from mayfly.core.errors import InvalidRequest, MayflyError, PayloadTooLarge, StoreUnavailable
    from mayfly.core.json_input import Fields
    from mayfly.core.observability import Observer, observer
    from mayfly.core.settings import read_settings
    from mayfly.jobs.authoring.effects import Effects
    from mayfly.jobs.authoring.outcomes import Continue, Permanent, Retry
    from mayfly.jobs.authoring.task import task
    from mayfly.jobs.model import Job
    from mayfly.limits.model import Algorithm, Limit
    from mayfly.web.answers import Response, answer, nothing, text
    from mayfly.web.rate_headers import rate_headers
    from mayfly.web.resolver import PUBLIC, Api, read_name

__version__ = "0.3.0"

_NAMES: Final = {
    "Algorithm": "limits.model",
    "Api": "web.resolver",
    "Continue": "jobs.authoring.outcomes",
    "Effects": "jobs.authoring.effects",
    "Fields": "core.json_input",
    "InvalidRequest": "core.errors",
    "Job": "jobs.model",
    "Limit": "limits.model",
    "MayflyError": "core.errors",
    "Observer": "core.observability",
    "PUBLIC": "web.resolver",
    "PayloadTooLarge": "core.errors",
    "Permanent": "jobs.authoring.outcomes",
    "Response": "web.answers",
    "Retry": "jobs.authoring.outcomes",
    "StoreUnavailable": "core.errors",
    "answer": "web.answers",
    "nothing": "web.answers",
    "observer": "core.observability",
    "rate_headers": "web.rate_headers",
    "read_name": "web.resolver",
    "read_settings": "core.settings",
    "task": "jobs.authoring.task",
    "text": "web.answers",
}

__all__ = [
    "PUBLIC",
    "Algorithm",
    "Api",
    "Continue",
    "Effects",
    "Fields",
    "InvalidRequest",
    "Job",
    "Limit",
    "MayflyError",
    "Observer",
    "PayloadTooLarge",
    "Permanent",
    "Response",
    "Retry",
    "StoreUnavailable",
    "answer",
    "nothing",
    "observer",
    "rate_headers",
    "read_name",
    "read_settings",
    "task",
    "text",
]


install()

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Imports a name of the front door (PEP 562)."""
        module = _NAMES.get(name)
        if module is None:
            raise AttributeError(f"module 'mayfly' has no attribute {name!r}")
        return getattr(import_module(f"mayfly.{module}"), name)
