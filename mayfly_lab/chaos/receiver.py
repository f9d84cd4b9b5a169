"""The receiver of a run's webhooks: it notes the job of each."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Receiver", "receiving"]


class Receiver:
    """Has the ids of the jobs whose webhooks have arrived, at least once each."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.jobs: set[str] = set()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Yields a receiver on a port of its own, and closes it at the end of the block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            receiver.jobs.add(self.headers["webhook-id"].removeprefix("msg_"))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Logs nothing."""

        def handle(self) -> None:
            """Serves a connection; its worker may be killed meanwhile."""
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_port)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
