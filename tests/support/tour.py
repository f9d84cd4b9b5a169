"""A full run of a local stack: every route, every built-in task, and every repair is used.

For tests that look at what it leaves behind.
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

from mayfly_testing.stack import MAYFLY, Stack, running, wait_until

__all__ = ["PARAMETERS", "Tour", "touring"]

#: Everything that can be switched on is on; what takes its time is quick.
PARAMETERS = {
    "PageLimit": "100000",
    "TenantLimit": "100000",
    "WebhookPauses": "1,1,1",
    "LeaseSeconds": "2",
}


class Receiver:
    """Of webhooks: takes them, or says that it is gone."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.is_back = False
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.bodies.append(
                    self.rfile.read(int(self.headers["Content-Length"])).decode()
                )
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
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def touring(folder: Path, **parameters: str) -> Iterator["Tour"]:
    """A stack on which the tour was made."""
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
    """One walk through everything.

    `secrets` are texts that nobody but their holder may see: parts of keys, tokens, cookies and
    webhook keys.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.replies: list[requests.Response] = []
        self.secrets: set[str] = {_secret_part(stack.key)}

    def make(self) -> None:
        """Goes everywhere."""
        self.schedules()
        self.pages()
        self.sessions()
        self.counters()
        self.jobs()
        self.queue()
        self.imports()
        self.webhooks()
        self.dead_letters()
        self.bad_input()
        self.tick()

    def call(
        self, method: str, path: str, body: Any = None, *, status: int, **headers: str
    ) -> requests.Response:
        """One request with the development key; its status must be as expected."""
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
        """`mayfly ...` on this stack."""
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
        """The front page by text, by visitor, and on a counter with shards; the probe; what no
        route takes.
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
        """A session's whole life, alone and as one of its subject's."""
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
        """Every kind of increment, and limits."""
        self.call("POST", "/counters/c/increment", status=200)
        for _ in range(2):
            self.call("POST", "/counters/c/increment", {"by": 2}, status=200, Idempotency_Key="k")
        self.call("POST", "/counters/c/increment", {"by": 9, "ceiling": 4}, status=409)
        self.call("POST", "/counters/c/increment", {"approximate": True}, status=200)
        self.fail_next(
            "Counters", "dynamodb:UpdateItem", "lose", times=4
        )  # three are the limit's own, which is let through without
        self.call("POST", "/counters/c/increment", status=200)
        self.call("GET", "/counters/c", status=200)
        self.call("PUT", "/counters/sharded", {"shards": 3}, status=200)
        self.call("POST", "/counters/sharded/increment", status=200)
        self.call("POST", "/counters/sharded/increment", {"by": 2}, status=200, Idempotency_Key="k")
        self.call("GET", "/counters/sharded", status=200)
        for name in ("c", "sharded"):
            self.call("DELETE", f"/counters/{name}", status=204)
        for algorithm in ("fixed", "sliding", "gcra"):
            asked = {"key": "k", "algorithm": algorithm, "limit": 1, "period_seconds": 1000}
            self.call("POST", f"/limits/{algorithm}/take", asked, status=200)
            self.call("POST", f"/limits/{algorithm}/take", asked, status=429)

    def jobs(self) -> None:
        """Jobs that succeed, fail, wait, are cancelled, revived, and too large for their item."""
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
        for each in (first, soon, again, long):
            self.wait_for(each["id"], "succeeded")
        self.wait_for(large["id"], "dead")
        self.wait_for(dead["id"], "dead")
        self.call("GET", "/jobs?status=dead", status=200)
        self.call("POST", f"/jobs/{dead['id']}/redrive", status=202)
        self.wait_for(dead["id"], "dead", "succeeded")

    def wait_for(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """A job, once it has ended as it should."""

        def ended() -> Any:
            found = self.call("GET", f"/jobs/{job_id}?wait=5", status=200).json()
            return found["status"] in statuses and found

        return dict(wait_until(ended, 90, what=f"job {job_id} {statuses}"))

    def schedules(self) -> None:
        """One that is paused, resumed and changed; it ticks meanwhile."""
        asked = {"every_seconds": 60, "task": "counter.add", "payload": {"name": "ticks"}}
        self.call("PUT", "/schedules/s", asked, status=201)
        self.call("PUT", "/schedules/s", {**asked, "every_seconds": 61}, status=200)
        self.call("GET", "/schedules", status=200)
        self.call("GET", "/schedules/s", status=200)
        self.call("POST", "/schedules/s/pause", status=200)
        self.call("POST", "/schedules/s/resume", status=200)
        self.call(
            "POST",
            "/jobs",
            {"task": "counter.add", "payload": {"name": "due"}, "delay_seconds": 930},
            status=202,
        )

    def tick(self) -> None:
        """The end of the schedule, after a sweep has handed out a tick."""
        # Far enough away for the table, near enough for the sweep of the next minute.
        wait_until(
            lambda: self.stack.counter("ticks"),
            90,
            what="a tick, handed out by the sweep of the next minute",
        )
        self.call("DELETE", "/schedules/s", status=204)

    def queue(self) -> None:
        """Producers' messages: jobs of every kind, some that are received together, and what is no
        job.
        """
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
            lambda: all(each in self.command("jobs", "unreadable", "--json") for each in sent), 60
        )

    def send(self, queue: str, *bodies: Any) -> list[str]:
        """Puts messages on a queue, at once; returns their ids."""
        texts = [each if isinstance(each, str) else json.dumps(each) for each in bodies]
        entries = [{"Id": str(index), "MessageBody": text} for index, text in enumerate(texts)]
        reply = self.stack.client("sqs").send_message_batch(
            QueueUrl=self.stack.facts["resources"][queue], Entries=entries
        )
        return [str(each["MessageId"]) for each in reply["Successful"]]

    def fail_next(self, function: str, action: str, kind: str, times: int = 1) -> None:
        """The next calls of a function fail in the store: they never take effect (`refuse`), or
        their answers are lost (`lose`).
        """
        wanted = {"function": function, "action": action, "kind": kind, "times": times}
        assert self.stack.control("faults", wanted).ok

    def rewrite(self, job_id: str, **changes: Any) -> None:
        """Changes a job's item behind everybody's back, as time and crashes would."""
        (item,) = [
            each
            for each in self.stack.items("JobsTable")
            if each.get("id") == {"S": job_id} and each["sk"] == {"S": "job"}
        ]
        for name in ("due", "attention", "attention_at", "not_before"):
            item.pop(name, None)
        self.stack.client("dynamodb").put_item(
            TableName=self.stack.facts["resources"]["JobsTable"], Item={**item, **changes}
        )

    def imports(self) -> None:
        """A file that is uploaded, and one that is asked for."""
        s3, bucket = self.stack.client("s3"), self.stack.facts["outputs"]["ImportsBucketName"]
        s3.put_object(Bucket=bucket, Key="default/up.csv", Body=b"a,b\n1,2\n")
        made = self.call(
            "POST", "/jobs", {"task": "csv.import", "payload": {"key": "up.csv"}}, status=202
        ).json()
        self.wait_for(made["id"], "succeeded")
        # S3 tells of an upload more than once; the second time its job seems to have been waiting
        # for an hour.
        notice = {
            "bucket": {"name": bucket},
            "object": {"key": "default/twice.csv", "eTag": "e", "sequencer": "1"},
        }
        event = {"Records": [{"eventName": "ObjectCreated:Put", "s3": notice}]}
        known: set[str] = set()

        def started() -> set[str]:
            items = self.stack.items("JobsTable")
            return {
                each["id"]["S"]
                for each in items
                if '"twice.csv"' in each.get("payload", {}).get("S", "")
            } - known

        s3.put_object(Bucket=bucket, Key="default/twice.csv", Body=b"a\n1\n")
        known |= wait_until(started, 60, what="the job of the store's own notice")
        self.send("UploadsQueue", event)
        (job_id,) = wait_until(started, 60, what="the job of this one")
        self.wait_for(job_id, "succeeded")
        self.rewrite(
            job_id, status={"S": "RETRY"}, created_at={"N": "1"}, not_before={"N": "1"}
        )  # which the relay does not announce
        self.send("UploadsQueue", event)
        self.wait_for(job_id, "succeeded")

    def webhooks(self) -> None:
        """One that arrives, signed; one whose receiver is gone for good; and one to it after
        that.
        """
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
            # Its worker cannot read the batch, and claims the job unseen.
            self.fail_next("DeliverWebhooks", "dynamodb:BatchGetItem", "refuse", times=3)
            self.deliver(receiver.url + "/hook", "succeeded", note="x" * 3000)
            payload = {"url": receiver.url + "/hook", "body": {}}
            many = [
                self.call(
                    "POST", "/jobs", {"task": "http.deliver", "payload": payload}, status=202
                ).json()
                for _ in range(10)
            ]
            for each in many:
                self.wait_for(each["id"], "succeeded")
        finally:
            receiver.close()
        assert len(receiver.bodies) == 14

    def deliver(self, url: str, status: str, note: str = "") -> str:
        """A webhook, when it has ended so; its job's id."""
        asked = {"task": "http.deliver", "payload": {"url": url, "body": {"note": note}}}
        job_id = str(self.call("POST", "/jobs", asked, status=202).json()["id"])
        self.wait_for(job_id, status)
        return job_id

    def dead_letters(self) -> None:
        """Messages that were received too often, and records that the relay gave up on, as their
        queues would hold them.
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
        named = [{"tenant": "default", "id": each["id"]} for each in (waiting, lost)]
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
        self.send("RelayFailures", self._gap())
        queues = ("JobsDeadLetters", "WebhooksDeadLetters", "RelayFailures")
        wait_until(lambda: not any(self.left(queue) for queue in queues), 60, what="settled")
        self.stranded()

    def stranded(self) -> None:
        """A job whose announcement was lost with records that the stream no longer has: the search
        for stranded jobs resends it.
        """
        job = self.call(
            "POST", "/jobs", {"task": "counter.add", "payload": {"name": "d"}}, status=202
        ).json()
        self.wait_for(job["id"], "succeeded")
        self.rewrite(
            job["id"], status={"S": "RETRY"}, not_before={"N": "1"}
        )  # which the relay does not announce
        self.send("RelayFailures", self._gap(startSequenceNumber="1", endSequenceNumber="2"))
        self.wait_for(job["id"], "succeeded")
        wait_until(lambda: not self.left("RelayFailures"), 60, what="settled")

    def interrupted(self) -> dict[str, Any]:
        """A job whose worker is gone after its last attempt had begun: as it was then, once
        more.
        """
        asked = {"task": "sleep", "payload": {"seconds": 1}, "max_attempts": 1}
        job = dict(self.call("POST", "/jobs", asked, status=202).json())

        def running_item() -> Any:
            items = [
                each for each in self.stack.items("JobsTable") if each.get("id") == {"S": job["id"]}
            ]
            return next((each for each in items if each.get("status") == {"S": "INPROGRESS"}), None)

        item = wait_until(running_item, 30, what="running")
        self.wait_for(job["id"], "succeeded")
        self.stack.client("dynamodb").put_item(
            TableName=self.stack.facts["resources"]["JobsTable"],
            Item={**item, "lease_until": {"N": "1"}},
        )
        return job

    def left(self, queue: str) -> int:
        """How many messages a queue holds."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        reply = self.stack.client("sqs").get_queue_attributes(
            QueueUrl=self.stack.facts["resources"][queue], AttributeNames=names
        )
        return sum(int(value) for value in reply["Attributes"].values())

    def _gap(self, **changes: Any) -> dict[str, Any]:
        """A report of the relay's mapping on the first records of the stream, or on others."""
        streams = self.stack.client("dynamodbstreams")
        arn = streams.list_streams(TableName=self.stack.facts["resources"]["JobsTable"])["Streams"][
            0
        ]["StreamArn"]
        shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
        start = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        numbers = [
            each["dynamodb"]["SequenceNumber"]
            for each in streams.get_records(ShardIterator=start)["Records"]
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
        """Requests that are refused, each for its reason."""
        self.call("POST", "/jobs", {"task": "nobody"}, status=400)
        self.call("POST", "/jobs", {"task": "counter.add", "payload": "x" * 300_000}, status=413)
        self.call("GET", "/sessions/current", status=404, Session_Token="nonsense")
        self.call("GET", "/jobs/unknown", status=404)
        self.call(
            "GET",
            "/jobs/unknown",
            status=401,
            Authorization=self.stack.key and f"Bearer {self.stack.key[:-1]}x",
        )


def _secret_part(text: str) -> str:
    """The part of a key, a token or a cookie that must stay secret, whatever stands around it: 30
    of its last letters, a key's checksum left out."""
    return text[-40:-10]
