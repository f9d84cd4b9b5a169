"""Connections of a boto3 client, with what botocore has no option for: idleness and deadlines."""

from math import isfinite
from typing import Any, Final

from urllib3.connection import HTTPConnection
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout

from mayfly.aws.reading import LimitedAnswer
from mayfly.core.clock import Clock, system_clock
from mayfly.core.deadline import seconds_left

__all__ = ["limit_connections"]

#: The least time of a try: urllib3 refuses a timeout of 0.
_LEAST_SECONDS: Final = 0.01


def limit_connections(client: Any, *, idle_seconds: float, clock: Clock = system_clock) -> None:
    """Makes the connections of a boto3 client keep to the request's deadline, and stay fresh.

    Each try has the time that is left (`mayfly.core.deadline`) for its connection and its whole
    answer. A connection that was idle for longer than `idle_seconds` is not used again; `clock` is
    the wall clock, since others may stand still while a process is frozen.

    Call it before the client's first request.
    """
    session = client._endpoint.http_session  # boto3 has options for a whole client only
    timeouts = session._timeout
    limited = _Timeouts(connect=timeouts.connect_timeout, read=timeouts.read_timeout)
    # One for connections to the service, one for those to a proxy.
    session._manager.connection_pool_kw["timeout"] = session._timeout = limited
    pools = session._manager.pool_classes_by_scheme  # also those of proxies
    facts = {"clock": staticmethod(clock), "idle_ms": round(idle_seconds * 1000)}
    for scheme, pool in pools.items():
        kept = type("Connection", (_Connection, pool.ConnectionCls), facts)
        pools[scheme] = type("Pool", (pool,), {"ConnectionCls": kept})


class _Timeouts(Timeout):
    """Timeouts that end with the request's deadline. urllib3 copies them for each request."""

    def clone(self) -> Timeout:
        left = seconds_left()
        total = max(left, _LEAST_SECONDS) if isfinite(left) else None
        return Timeout(connect=self._connect, read=self._read, total=total)


class _Connection(HTTPConnection):
    """A connection that a pool replaces after it was idle for long.

    A pool asks `is_connected` when it hands out a connection.
    """

    clock: Clock
    idle_ms: int
    response_class = LimitedAnswer
    #: The time of the last answer, None before the first.
    _answered_ms: int | None = None

    def getresponse(self) -> BaseHTTPResponse:  # type: ignore[override]  # as in urllib3
        """Returns the answer."""
        response = super().getresponse()
        self._answered_ms = self.clock()
        return response

    @property
    def is_connected(self) -> bool:
        """True if the connection can take a request."""
        # A clock that went back says nothing about the time in between.
        is_fresh = self._answered_ms is None or (
            0 <= self.clock() - self._answered_ms <= self.idle_ms
        )
        return is_fresh and super().is_connected
