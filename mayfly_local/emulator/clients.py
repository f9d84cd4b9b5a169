"""boto3 clients for the local stack's endpoint, used from a thread pool of their own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mayfly_local.account import REGION
from mayfly_local.iam.credentials import FOREIGN, Credentials, Keys

__all__ = ["Clients"]


@dataclass
class Clients:
    """Creates clients for one endpoint, and calls them without blocking the event loop."""

    endpoint: str
    credentials: Credentials = FOREIGN
    #: The functions' keys, known to the emulator's guard; None for any other endpoint.
    keys: Keys | None = None
    _made: dict[str, Any] = field(default_factory=dict)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(32, thread_name_prefix="store")
    )

    def get(self, service: str) -> Any:
        """Returns the client of a service; there is one for each, and threads may share it."""
        if service not in self._made:
            import boto3
            from botocore.config import Config

            self._made[service] = boto3.client(
                service,  # type: ignore[call-overload]  # by name
                endpoint_url=self.endpoint,
                region_name=REGION,
                aws_access_key_id=self.credentials.id,
                aws_secret_access_key=self.credentials.secret,
                config=Config(
                    connect_timeout=2,
                    read_timeout=30,
                    max_pool_connections=32,
                    parameter_validation=False,
                    retries={"mode": "standard", "total_max_attempts": 3},
                ),
            )
        return self._made[service]

    @property
    def is_guarded(self) -> bool:
        """True if functions use their own roles."""
        return self.keys is not None

    def of(self, function: str) -> "Clients":
        """Returns clients for the work that Lambda does on behalf of a function.

        They use the function's role and the same threads.
        """
        if self.keys is None:
            return self
        return Clients(self.endpoint, self.keys.of(function), _threads=self._threads)

    async def call(self, service: str, operation: str, **arguments: Any) -> Any:
        """Calls an operation in a thread."""
        return await self.run(getattr(self.get(service), operation), **arguments)

    async def run(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Calls a function in a thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, partial(function, **arguments)
        )

    def close(self) -> None:
        """Stops the threads, without waiting for running calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)
