"""A server that answers requests of the JSON protocols as a test says, also wrongly."""

import json
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Request", "Server", "answer", "forgetting", "serving"]


@dataclass(frozen=True)
class Request:
    """A request as it came. Names of headers are in lower case."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """The operation that it names."""
        return self.headers["x-amz-target"].partition(".")[2]


#: Answers a request on its connection. Returns False if the connection is to be closed.
Behaviour = Callable[[Request, socket.socket], bool]


def answer(
    body: Any = None,
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
    checksum: int | None = None,
    cut: int = 0,
) -> Behaviour:
    """Returns the behaviour that sends an answer; `cut` bytes of it are missing at the end."""
    content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    crc = zlib.crc32(content) if checksum is None else checksum

    def send(request: Request, connection: socket.socket) -> bool:
        lines = {"x-amz-crc32": str(crc), **(headers or {}), "Content-Length": str(len(content))}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        whole = f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content
        connection.sendall(whole[: len(whole) - cut])
        return not cut and lines.get("Connection") != "close"

    return send


def refusal(code: str, status: int = 400, **more: Any) -> Behaviour:
    """Returns the behaviour that answers with an error."""
    return answer({"__type": f"com.amazonaws.x#{code}", "message": "no", **more}, status)


def reset(request: Request, connection: socket.socket) -> bool:
    """Ends the connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def close(request: Request, connection: socket.socket) -> bool:
    """Ends the connection without an answer."""
    return False


def after(seconds: float, behaviour: Behaviour) -> Behaviour:
    """Returns a behaviour that waits first."""

    def wait(request: Request, connection: socket.socket) -> bool:
        time.sleep(seconds)  # noqa: TID251  # a server that is slow
        with suppress(OSError):
            return behaviour(request, connection)
        return False

    return wait


def forgetting(
    idle_seconds: float, clock: Callable[[], int], behaviour: Behaviour, *, cut: Behaviour
) -> Behaviour:
    """Returns the behaviour of a network that forgets idle connections without a sign.

    A request on a connection that was idle for longer than `idle_seconds` of `clock` meets `cut`,
    and never the service.
    """
    last: dict[socket.socket, int] = {}

    def serve(request: Request, connection: socket.socket) -> bool:
        idle_ms = clock() - last.get(connection, clock())
        last[connection] = clock()
        return (cut if idle_ms > 1000 * idle_seconds else behaviour)(request, connection)

    return serve


@dataclass
class Server:
    """A running server. It answers with `behaviours` in order, and then with `usual`."""

    port: int
    scheme: str = "http"
    behaviours: list[Behaviour] = field(default_factory=list)
    usual: Behaviour = field(default_factory=answer)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        """Its URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def script(self, *behaviours: Behaviour) -> None:
        """Sets the answers to the next requests."""
        self.behaviours[:] = behaviours

    def serve(self, connection: socket.socket) -> None:
        """Serves the requests of one connection."""
        with connection, suppress(OSError, ValueError):
            stream = connection.makefile("rb")
            while line := stream.readline():
                assert line.startswith(b"POST / HTTP/1.1"), line
                headers = {}
                while (line := stream.readline()) != b"\r\n":
                    name, _, value = line.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                request = Request(headers, stream.read(int(headers["content-length"])))
                self.requests.append(request)
                behaviour = self.behaviours.pop(0) if self.behaviours else self.usual
                if not behaviour(request, connection):
                    return


@contextmanager
def serving(tls: Path | None = None) -> Iterator[Server]:
    """Runs a server for the time of the block; `tls` is the file with its certificate and key."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(listener.getsockname()[1], "http" if tls is None else "https")
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):  # a client that does not trust this server
            server.serve(
                connection if context is None else context.wrap_socket(connection, server_side=True)
            )

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                server.connections += 1
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
