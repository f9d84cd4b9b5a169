"""A full run of a local stack, with every route, every built-in task and every repair.

For tests that inspect the remains.
"""

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from mayfly.jobs.items import DUE

from mayfly_testing.stack import MAYFLY, Stack, running, wait_until

__all__ = ["PARAMETERS", "Tour", "touring"]

#: Switches everything on that can be switched on; slow parts are set to be quick.
PARAMETERS = {
    "PageLimit": "100000",
    "TenantLimit": "100000",
    "WebhookPauses": "1,1,1",
    "LeaseSeconds": "2",
    "DueShards": "8",
}


class Receiver:
    """A receiver of webhooks: accepts them, slowly too, or answers that it is gone."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.is_back = False
        self.is_over = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.bodies.append(
                    self.rfile.read(int(self.headers["Content-Length"])).decode()
                )
                if self.path == "/slow":  # Longer than what counts as quick.
                    receiver.is_over.wait(2.5)
                self.send_response(410 if self.path == "/gone" and not receiver.is_back else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        self.is_over.set()
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def touring(folder: Path, **parameters: str) -> Iterator["Tour"]:
    """Yields a stack on which the tour was made."""
    options = [
        part
        for name, value in {**PARAMETERS, **parameters}.items()
        for part in ("--parameter", f"{name}={value}")
    ]
    with running(folder, *options, work=folder / ".mayfly") as stack:
        tour = Tour(stack)
        tour.make()
        yield tour


class Tour:
    """One walk through all features.

    `secrets` are texts that only their holders may see: parts of keys, tokens, cookies and webhook
    keys.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.replies: list[requests.Response] = []
        self.secrets: set[str] = {_secret_part(stack.key)}

    def make(self) -> None:
        """Runs all parts of the tour."""
        self.schedules()
        self.pages()
        self.authorizer()
        self.sessions()
        self.counters()
        self.jobs()
        self.queue()
        self.imports()
        self.webhooks()
        self.dead_letters()
        self.bad_input()
        self.tick()

    def authorizer(self) -> None:
        """Asks the authorizer for routes of users, which none of these routes has."""
        key = json.loads(self.command("keys", "create", "--json"))["key"]
        self.secrets.add(_secret_part(key))
        event = {"headers": {"authorization": f"Bearer {key}"}}
        done = self.stack.client("lambda").invoke(
            FunctionName="Authorizer", Payload=json.dumps(event).encode()
        )
        assert json.load(done["Payload"])["isAuthorized"] is True

    def call(
        self, method: str, path: str, body: Any = None, *, status: int, **headers: str
    ) -> requests.Response:
        """Sends one request with the development key; checks its status."""
        data = None if body is None else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = requests.request(
            method,
            self.stack.url + path,
            data=data,
            headers={**self.stack.headers, **named},
            timeout=60,
        )
        assert reply.status_code == status, (
            method,
            path,
            reply.status_code,
            reply.text,
            self.stack.output[-2000:],
        )
        self.replies.append(reply)
        return reply

    def command(self, *arguments: str) -> str:
        """Runs `mayfly ...` on this stack."""
        done = subprocess.run(
            [str(MAYFLY), *arguments],
            cwd=self.stack.work.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pages(self) -> None:
        """Requests the front page as text, by visitor and on a counter with shards.

        Requests the health check and a path without a route, too.
        """
        self.call("GET", "/", status=200)
        first = self.call("GET", "/", status=200, Accept="application/json")
        cookie = first.headers["Set-Cookie"].partition(";")[0]
        self.secrets.add(_secret_part(cookie))
        assert (
            self.call("GET", "/", status=200, Accept="application/json", Cookie=cookie).json()[
                "yours"
            ]
            == 2
        )
        self.call("GET", "/health", status=200)
        self.call("GET", "/openapi.json", status=200)
        self.call("GET", "/nothing", status=404)
        self.call("DELETE", "/jobs", status=405)
        self.call("DELETE", "/counters/hits", status=204)
        self.call("PUT", "/counters/hits", {"shards": 2}, status=200)
        self.call("GET", "/", status=200)
        self.call("DELETE", "/counters/hits", status=204)
        self.call("POST", "/counters/hits/increment", {"ttl_seconds": 1}, status=200)
        wait_until(
            lambda: self.call("GET", "/counters/hits", status=200).json()["value"] == 0,
            10,
            what="expiry",
        )
        self.call("GET", "/", status=200)

    def sessions(self) -> None:
        """Takes a session through its whole life, alone and as one of its subject's sessions."""
        made = self.call(
            "POST", "/sessions", {"subject": "ann", "data": {"a": 1}}, status=201
        ).json()
        token = made["token"]
        self.call("GET", "/sessions/current", status=200, Session_Token=token)
        self.call("PATCH", "/sessions/current", {"a": 2}, status=200, Session_Token=token)
        self.call(
            "PATCH", "/sessions/current", {"a": 3}, status=412, Session_Token=token, If_Match='"1"'
        )
        rotated = self.call(
            "POST", "/sessions/current/rotate", {}, status=200, Session_Token=token
        ).json()["token"]
        other = self.call(
            "POST",
            "/sessions/current/rotate",
            {"subject": "bob"},
            status=200,
            Session_Token=rotated,
        ).json()["token"]
        alone = self.call("POST", "/sessions", status=201).json()["token"]
        self.call("PATCH", "/sessions/current", {"a": 2}, status=200, Session_Token=alone)
        self.call("POST", "/sessions/current/rotate", status=200, Session_Token=alone)
        self.call("DELETE", "/sessions/current", status=204, Session_Token=other)
        (one, *_) = [
            self.call("POST", "/sessions", {"subject": "ann"}, status=201).json() for _ in range(2)
        ]
        listed = self.call("GET", "/subjects/ann/sessions", status=200).json()["items"]
        self.call("DELETE", f"/subjects/ann/sessions/{listed[0]['id']}", status=204)
        self.call("DELETE", "/subjects/ann/sessions", status=204)
        self.call("GET", "/sessions/current", status=404, Session_Token=one["token"])
        self.secrets |= {
            _secret_part(each) for each in (token, rotated, other, alone, one["token"])
        }

    def counters(self) -> None:
        """Makes every kind of increment, and takes from limits."""
        self.call("POST", "/counters/c/increment", status=200)
        for _ in range(2):
            self.call("POST", "/counters/c/increment", {"by": 2}, status=200, Idempotency_Key="k")
        self.call("POST", "/counters/c/increment", {"by": 9, "ceiling": 4}, status=409)
        self.call("POST", "/counters/c/increment", {"approximate": True}, status=200)
        # Three are for the limit of the tenant, which admits a request if it gets no answer.
        self.fail_next("Counters", "dynamodb:UpdateItem", "lose", times=4)
        self.call("POST", "/counters/c/increment", status=200)
        self.call("GET", "/counters/c", status=200)
        self.call("PUT", "/counters/sharded", {"shards": 3}, status=200)
        self.call("POST", "/counters/sharded/increment", status=200)
        self.call("POST", "/counters/sharded/increment", {"by": 2}, status=200, Idempotency_Key="k")
        self.call("GET", "/counters/sharded", status=200)
        for name in ("c", "sharded"):
            self.call("DELETE", f"/counters/{name}", status=204)
        for algorithm in ("fixed", "sliding", "gcra"):
            take = {"key": "k", "algorithm": algorithm, "limit": 1, "period_seconds": 1000}
            self.call("POST", f"/limits/{algorithm}/take", take, status=200)
            self.call("POST", f"/limits/{algorithm}/take", take, status=429)
            path = f"/limits/{algorithm}?key=k&algorithm={algorithm}&limit=1&period_seconds=1000"
            self.call("GET", path, status=200)
            self.call("DELETE", path, status=204)

    def jobs(self) -> None:
        """Makes jobs that succeed, fail, wait, are cancelled or redriven, and some large ones."""
        body = {"task": "counter.add", "payload": {"name": "n"}}
        first = self.call("POST", "/jobs", body, status=202, Idempotency_Key="j").json()
        self.call("POST", "/jobs", body, status=200, Idempotency_Key="j")
        self.call("POST", "/jobs", {**body, "max_attempts": 3}, status=422, Idempotency_Key="j")
        large = self.call(
            "POST",
            "/jobs",
            {"task": "sleep", "payload": {"seconds": 0, "note": "x" * 3000}},
            status=202,
        ).json()
        later = self.call("POST", "/jobs", {**body, "delay_seconds": 3000}, status=202).json()
        soon = self.call("POST", "/jobs", {**body, "delay_seconds": 1}, status=202).json()
        dead = self.call(
            "POST",
            "/jobs",
            {"task": "fail", "payload": {"times": 1, "permanent": True}},
            status=202,
        ).json()
        again = self.call(
            "POST", "/jobs", {"task": "fail", "payload": {"times": 1}}, status=202
        ).json()
        self.call("GET", "/jobs?status=scheduled", status=200)
        self.call("POST", f"/jobs/{later['id']}/cancel", status=200)
        long = self.call(
            "POST", "/jobs", {"task": "sleep", "payload": {"seconds": 4}}, status=202
        ).json()
        for job in (first, soon, again, long):
            self.wait_for(job["id"], "succeeded")
        self.wait_for(large["id"], "dead")
        self.wait_for(dead["id"], "dead")
        self.call("GET", "/jobs?status=dead", status=200)
        self.call("POST", f"/jobs/{dead['id']}/redrive", status=202)
        self.wait_for(dead["id"], "dead", "succeeded")

    def wait_for(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """Returns a job, once it has ended with the expected status."""

        def ended() -> Any:
            job = self.call("GET", f"/jobs/{job_id}?wait=5", status=200).json()
            return job["status"] in statuses and job

        return dict(wait_until(ended, 90, what=f"job {job_id} {statuses}"))

    def schedules(self) -> None:
        """Makes a schedule that is paused, resumed and changed, and ticks meanwhile."""
        definition = {"every_seconds": 60, "task": "counter.add", "payload": {"name": "ticks"}}
        self.call("PUT", "/schedules/s", definition, status=201)
        self.call("PUT", "/schedules/s", {**definition, "every_seconds": 61}, status=200)
        self.call("GET", "/schedules", status=200)
        self.call("GET", "/schedules/s", status=200)
        self.call("POST", "/schedules/s/pause", status=200)
        self.call("POST", "/schedules/s/resume", status=200)
        body = {"task": "counter.add", "payload": {"name": "due"}, "delay_seconds": 930}
        sharded, other = (self.call("POST", "/jobs", body, status=202).json()["id"] for _ in "ab")
        # Their time has come: the next sweep announces both in one call. One is in its shard, the
        # other one where releases without shards stored it.
        is_due = {"attention_at": {"N": "1"}, "not_before": {"N": "1"}}
        self.rewrite(sharded, is_due, keeps="due")
        self.rewrite(other, {"due": {"S": DUE}, **is_due})

    def tick(self) -> None:
        """Deletes the schedule after a sweep has made the job of a tick."""
        # Late enough for the table, early enough for the sweep of the next minute.
        wait_until(
            lambda: self.stack.counter("ticks"),
            90,
            what="a tick, announced by the sweep of the next minute",
        )
        self.call("DELETE", "/schedules/s", status=204)

    def queue(self) -> None:
        """Sends messages of producers: jobs of every kind, some in one batch, and invalid ones."""
        self.send(
            "JobsQueue",
            {"task": "counter.add", "payload": {"name": "sent"}, "idempotency_key": "q"},
            {
                "task": "http.deliver",
                "payload": {"url": "http://127.0.0.1:9/"},
                "idempotency_key": "w",
            },
            {"task": "fail", "payload": {"times": 1}},
            {"task": "sleep", "payload": {"seconds": 0, "note": "x" * 3000}},
        )
        self.send("JobsQueue", *({"task": "sleep", "payload": {"seconds": 2}} for _ in range(6)))
        sent = [*self.send("JobsQueue", "no job"), *self.send("WebhooksQueue", "no job")]
        wait_until(
            lambda: all(
                message_id in self.command("jobs", "unreadable", "--json") for message_id in sent
            ),
            60,
        )

    def send(self, queue: str, *bodies: Any) -> list[str]:
        """Puts messages on a queue in one call; returns their ids."""
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        entries = [{"Id": str(index), "MessageBody": text} for index, text in enumerate(texts)]
        reply = self.stack.client("sqs").send_message_batch(
            QueueUrl=self.stack.facts["resources"][queue], Entries=entries
        )
        return [str(entry["MessageId"]) for entry in reply["Successful"]]

    def fail_next(self, function: str, action: str, kind: str, times: int = 1) -> None:
        """Makes the next calls of a function fail in the emulator.

        Either they never take effect (`refuse`), or their answers are lost (`lose`).
        """
        fault = {"function": function, "action": action, "kind": kind, "times": times}
        assert self.stack.control("faults", fault).ok

    def rewrite(self, job_id: str, changes: dict[str, Any], *, keeps: str = "") -> None:
        """Changes a job's item directly, as time and crashes would.

        It loses its places in indexes, except for the attribute `keeps`.
        """
        (item,) = [
            item
            for item in self.stack.items("JobsTable")
            if item.get("id") == {"S": job_id} and item["sk"] == {"S": "job"}
        ]
        for name in ("due", "attention", "attention_at", "not_before"):
            if name != keeps:
                item.pop(name, None)
        self.stack.client("dynamodb").put_item(
            TableName=self.stack.facts["resources"]["JobsTable"], Item={**item, **changes}
        )

    def imports(self) -> None:
        """Imports an uploaded file, and one that is requested."""
        s3, bucket = self.stack.client("s3"), self.stack.facts["outputs"]["ImportsBucketName"]
        s3.put_object(Bucket=bucket, Key="default/up.csv", Body=b"a,b\n1,2\n")
        job = self.call(
            "POST", "/jobs", {"task": "csv.import", "payload": {"key": "up.csv"}}, status=202
        ).json()
        self.wait_for(job["id"], "succeeded")
        # S3 announces an upload more than once; at the second time its job seems to have waited for
        # an hour.
        notice = {
            "bucket": {"name": bucket},
            "object": {"key": "default/twice.csv", "eTag": "e", "sequencer": "1"},
        }
        event = {"Records": [{"eventName": "ObjectCreated:Put", "s3": notice}]}
        known: set[str] = set()

        def started() -> set[str]:
            items = self.stack.items("JobsTable")
            return {
                item["id"]["S"]
                for item in items
                if '"twice.csv"' in item.get("payload", {}).get("S", "")
            } - known

        s3.put_object(Bucket=bucket, Key="default/twice.csv", Body=b"a\n1\n")
        known |= wait_until(started, 60, what="the job of the store's own notice")
        self.send("UploadsQueue", event)
        (job_id,) = wait_until(started, 60, what="the job of this one")
        self.wait_for(job_id, "succeeded")
        # The relay does not announce it.
        changes = {"status": {"S": "RETRY"}, "created_at": {"N": "1"}, "not_before": {"N": "1"}}
        self.rewrite(job_id, changes)
        self.send("UploadsQueue", event)
        self.wait_for(job_id, "succeeded")

    def webhooks(self) -> None:
        """Sends webhooks: one arrives signed, one finds a closed endpoint, and one follows that."""
        receiver = Receiver()
        self.secrets.add(self.command("webhooks", "secret").strip().removeprefix("whsec_")[:30])
        try:
            (dead, *_) = [
                self.deliver(receiver.url + path, status)
                for path, status in (("/gone", "dead"), ("/gone", "dead"))
            ]
            self.deliver(receiver.url + "/hook", "succeeded")
            receiver.is_back = True
            self.call("POST", f"/jobs/{dead}/redrive", status=202)
            self.wait_for(dead, "succeeded")
            # Its worker cannot read the batch, and claims the job without a read.
            self.fail_next("DeliverWebhooks", "dynamodb:BatchGetItem", "refuse", times=3)
            self.deliver(receiver.url + "/hook", "succeeded", note="x" * 3000)
            # While the relay retries, the others gather, and are claimed together.
            self.fail_next("RelayJobs", "sqs:SendMessage", "refuse", times=3)
            payload = {"url": receiver.url + "/hook", "body": {}}
            many = [
                self.call(
                    "POST", "/jobs", {"task": "http.deliver", "payload": payload}, status=202
                ).json()
                for _ in range(10)
            ]
            for job in many:
                self.wait_for(job["id"], "succeeded")
            self.deliver(receiver.url + "/slow", "succeeded")
        finally:
            receiver.close()
        assert len(receiver.bodies) == 15

    def deliver(self, url: str, status: str, note: str = "") -> str:
        """Waits until a webhook has ended with this status; returns its job's id."""
        body = {"task": "http.deliver", "payload": {"url": url, "body": {"note": note}}}
        job_id = str(self.call("POST", "/jobs", body, status=202).json()["id"])
        self.wait_for(job_id, status)
        return job_id

    def dead_letters(self) -> None:
        """Puts messages and reports on the dead-letter queues.

        The messages were received too often; the reports name records that the relay could not
        deliver.
        """
        waiting = self.call(
            "POST",
            "/jobs",
            {"task": "counter.add", "payload": {"name": "d"}, "delay_seconds": 800},
            status=202,
        ).json()
        hook = {
            "task": "http.deliver",
            "payload": {"url": "http://127.0.0.1:9/"},
            "delay_seconds": 800,
        }
        unsent = self.call("POST", "/jobs", hook, status=202).json()
        lost = self.interrupted()
        named = [{"tenant": "default", "id": job["id"]} for job in (waiting, lost)]
        self.send(
            "JobsDeadLetters",
            *named,
            {"task": "counter.add", "payload": {"name": "late"}},
            "no job either",
        )
        self.send(
            "WebhooksDeadLetters",
            {"tenant": "default", "id": unsent["id"]},
            {"tenant": "default", "id": "nobody"},
        )
        self.send("UploadsDeadLetters", "no notice of S3")
        self.send("RelayFailures", self._gap())
        queues = ("JobsDeadLetters", "WebhooksDeadLetters", "UploadsDeadLetters", "RelayFailures")
        wait_until(lambda: not any(self.left(queue) for queue in queues), 60, what="settled")
        self.stranded()

    def stranded(self) -> None:
        """Makes a job whose announcement was lost with records that have left the stream.

        The search for stranded jobs resends it.
        """
        job = self.call(
            "POST", "/jobs", {"task": "counter.add", "payload": {"name": "d"}}, status=202
        ).json()
        self.wait_for(job["id"], "succeeded")
        # The relay does not announce it.
        self.rewrite(job["id"], {"status": {"S": "RETRY"}, "not_before": {"N": "1"}})
        self.report(self._gap(startSequenceNumber="1", endSequenceNumber="2"))
        self.wait_for(job["id"], "succeeded")
        wait_until(lambda: not self.left("RelayFailures"), 60, what="settled")

    def report(self, report: dict[str, Any]) -> None:
        """Stores a report as the relay's mapping does, and lets the sweep pass it on."""
        self.stack.client("s3").put_object(
            Bucket=self.stack.facts["resources"]["RelayReports"],
            Key="aws/lambda/tour/shard/report",
            Body=json.dumps(report).encode(),
        )
        done = self.stack.client("lambda").invoke(
            FunctionName="SweepJobs", Payload=json.dumps({"reports": True}).encode()
        )
        assert "FunctionError" not in done, done

    def interrupted(self) -> dict[str, Any]:
        """Restores a job to its state after its worker died in its last attempt."""
        body = {"task": "sleep", "payload": {"seconds": 1}, "max_attempts": 1}
        job = dict(self.call("POST", "/jobs", body, status=202).json())

        def running_item() -> Any:
            items = [
                item for item in self.stack.items("JobsTable") if item.get("id") == {"S": job["id"]}
            ]
            return next((item for item in items if item.get("status") == {"S": "INPROGRESS"}), None)

        item = wait_until(running_item, 30, what="running")
        self.wait_for(job["id"], "succeeded")
        self.stack.client("dynamodb").put_item(
            TableName=self.stack.facts["resources"]["JobsTable"],
            Item={**item, "lease_until": {"N": "1"}},
        )
        return job

    def left(self, queue: str) -> int:
        """Returns the number of messages in a queue."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        reply = self.stack.client("sqs").get_queue_attributes(
            QueueUrl=self.stack.facts["resources"][queue], AttributeNames=names
        )
        return sum(int(value) for value in reply["Attributes"].values())

    def _gap(self, **changes: Any) -> dict[str, Any]:
        """Returns a report of the relay's mapping on the first records of the stream, or others."""
        streams = self.stack.client("dynamodbstreams")
        arn = streams.list_streams(TableName=self.stack.facts["resources"]["JobsTable"])["Streams"][
            0
        ]["StreamArn"]
        shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
        start = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        numbers = [
            record["dynamodb"]["SequenceNumber"]
            for record in streams.get_records(ShardIterator=start)["Records"]
        ][:3]
        return {
            "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 1},
            "DDBStreamBatchInfo": {
                "shardId": shard,
                "startSequenceNumber": numbers[0],
                "endSequenceNumber": numbers[-1],
                "batchSize": len(numbers),
                "streamArn": arn,
                **changes,
            },
        }

    def bad_input(self) -> None:
        """Sends requests that are refused, each for its reason."""
        self.call("POST", "/jobs", {"task": "nobody"}, status=400)
        self.call("POST", "/jobs", {"task": "counter.add", "payload": "x" * 300_000}, status=413)
        self.call("GET", "/sessions/current", status=404, Session_Token="nonsense")
        self.call("GET", "/jobs/unknown", status=404)
        key = self.stack.key
        mistyped = key[:-1] + ("y" if key.endswith("x") else "x")
        self.call("GET", "/jobs/unknown", status=401, Authorization=f"Bearer {mistyped}")


def _secret_part(text: str) -> str:
    """Returns the part of a key, a token or a cookie that must stay secret.

    These are 30 of its last letters, without a key's checksum.
    """
    return text[-40:-10]
