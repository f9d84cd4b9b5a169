"""A real browser on a hostile page of another port: no request of the page changes the stack.

Needs Chromium (Debian: `apt-get install chromium`). Skipped without it, but not in CI.
"""

import contextlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from mayfly_testing.stack import Stack

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
IN_CI = sys.platform == "linux" and bool(os.environ.get("CI"))
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not IN_CI, reason="needs Chromium: apt-get install chromium"
)

PAGE = """<!doctype html><title>evil</title><pre id="out">started</pre>
<iframe name="sink" hidden></iframe>
<form id="form" method="post" target="sink" action="%(store)s/"></form>
<script>
const store = "%(store)s", api = "%(api)s", key = "%(key)s", runtime = %(runtime)s, results = {};
const scope = "/20260101/us-east-1";
const auth = {
  Authorization: `AWS4-HMAC-SHA256 Credential=${key}${scope}/dynamodb/aws4_request, Signature=0`,
};
const tell = (name, promise) => promise.then(
  async r => { results[name] = `${r.type} ${r.status} ${(await r.text()).slice(0, 40)}` },
  e => { results[name] = "error " + e.name },
);
const put = JSON.stringify({
  TableName: "%(table)s", Item: {pk: {S: "default/owned"}, value: {N: "666"}},
});
const target = {
  "X-Amz-Target": "DynamoDB_20120810.PutItem", "Content-Type": "application/x-amz-json-1.0",
};
const send = "%(send)s";
for (const [name, value] of new URLSearchParams(send)) {
  const field = document.createElement("input");
  field.name = name;
  field.value = value;
  form.append(field);
}
form.submit();
new Image().src = store + "/?" + send;
new Image().src = store + "/?" + send
  + "&X-Amz-Credential=" + encodeURIComponent(key + scope + "/sqs/aws4_request");
Promise.all([
  tell("put with the key",
    fetch(store, {method: "POST", body: put, headers: {...target, ...auth}})),
  tell("put without cors", fetch(store, {method: "POST", body: put, mode: "no-cors"})),
  tell("form", fetch(store, {method: "POST", body: new URLSearchParams(send), mode: "no-cors"})),
  tell("form read", fetch(store, {method: "POST", body: new URLSearchParams(send)})),
  tell("list", fetch(store + "/?Action=ListQueues")),
  tell("reset", fetch(store + "/_ministack/reset", {method: "POST", mode: "no-cors"})),
  tell("faults", fetch(store + "/_mayfly/faults", {method: "POST", mode: "no-cors", body: "{}"})),
  tell("api read", fetch(api + "/")),
  tell("other name", fetch(store.replace("127.0.0.1", "localhost") + "/?Action=ListQueues")),
  ...runtime.map(port => tell("event " + port,
    fetch(`http://127.0.0.1:${port}/2018-06-01/runtime/invocation/next`, {mode: "no-cors"}))),
  new Promise(done => {
    const s = new WebSocket(store.replace("http", "ws") + "/");
    s.onopen = () => { results.socket = "open"; done() };
    s.onerror = s.onclose = () => { results.socket ??= "error"; done() };
  }),
]).then(() => { out.textContent = JSON.stringify(results) });
</script>"""


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    return shared_stack


def page_of(stack: Stack) -> bytes:
    store = stack.facts["endpoint"]
    queue = stack.facts["outputs"]["JobsQueueUrl"]
    ports = {
        each.laddr.port
        for process in stack.tree()
        for each in process.net_connections()
        if each.status == "LISTEN"
    }
    send = urlencode(
        {
            "Action": "SendMessage",
            "QueueUrl": queue,
            "MessageBody": '{"task": "counter.add", "payload": {"name": "page"}}',
        }
    )
    facts = {
        "store": store,
        "api": stack.url,
        "key": stack.credentials.id,  # as if the page knew the key
        "runtime": json.dumps(sorted(ports - {stack.port, int(store.rsplit(":", 1)[1])})),
        "table": stack.facts["resources"]["CountersTable"],
        "send": send,
    }
    return (PAGE % facts).encode()


@contextlib.contextmanager
def served(page: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def test_page_on_another_port_cannot_change_the_stack(stack: Stack, tmp_path: Path) -> None:
    assert CHROMIUM is not None, "CI installs Chromium"
    with served(page_of(stack)) as address:
        done = subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
                f"--user-data-dir={tmp_path}",
                "--virtual-time-budget=15000", "--dump-dom", address,
            ],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    assert found[1].startswith("{"), found[1]
    results = json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))
    assert len(results) >= 12, results
    # A request without CORS is sent, and its answer is hidden from the page; its effect is checked
    # below.
    readable = {
        name: result
        for name, result in results.items()
        if not result.startswith(("error", "opaque"))
    }
    assert readable == {}, results
    assert stack.counter("page") == 0
    assert not [item for item in stack.items("CountersTable") if item["pk"]["S"] == "default/owned"]
    assert stack.get("/").status_code == 200
    assert stack.client("sqs").list_queues()["QueueUrls"]
