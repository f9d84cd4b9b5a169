"""Requests to every port of a running stack.

A page, a rebinding host and another user are refused; programs with the key are served.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import psutil
import pytest
import requests
from botocore.config import Config

from mayfly_testing.stack import MAYFLY, ROOT, Stack, running, wait_until

PAGE = {
    "Origin": "https://evil.example",
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "no-cors",
}
FORM = {**PAGE, "Content-Type": "application/x-www-form-urlencoded"}
NEXT = "/2018-06-01/runtime/invocation/next"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("ports")) as found:
        assert found.get("/").status_code == 200
        yield found


def listening(stack: Stack) -> dict[int, set[str]]:
    """Returns the open ports of the whole stack with their addresses, by the kernel's table."""
    found: dict[int, set[str]] = {}
    for process in stack.tree():
        for each in process.net_connections("all"):
            if each.status == psutil.CONN_LISTEN:
                found.setdefault(each.laddr.port, set()).add(each.laddr.ip)
    return found


def ask(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {
            "Host": f"127.0.0.1:{port}",
            "Content-Length": str(len(body or b"")),
            **headers,
        }.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        reply = connection.getresponse()
        return (
            reply.status,
            {name.lower(): value for name, value in reply.getheaders()},
            reply.read(),
        )
    finally:
        connection.close()


def attacks(stack: Stack) -> dict[str, tuple[str, str, dict[str, str], bytes | None]]:
    queue, table = stack.facts["outputs"]["JobsQueueUrl"], stack.facts["resources"]["CountersTable"]
    send = urlencode(
        {
            "Action": "SendMessage",
            "QueueUrl": queue,
            "MessageBody": '{"task": "counter.add", "payload": {"name": "page"}}',
        }
    )
    item = json.dumps(
        {"TableName": table, "Item": {"pk": {"S": "default/owned"}, "value": {"N": "666"}}}
    ).encode()
    target = {
        "X-Amz-Target": "DynamoDB_20120810.PutItem",
        "Content-Type": "application/x-amz-json-1.0",
    }
    key = {
        "Authorization": "AWS4-HMAC-SHA256 "
        f"Credential={stack.credentials.id}/20260101/us-east-1/dynamodb/aws4_request, "
        "Signature=0"
    }
    preflight = {
        **PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-amz-target",
    }
    return {
        "foreign host": ("POST", "/", {"Host": "evil.example", **target, **key}, item),
        "foreign origin with the key": ("POST", "/", {**PAGE, **target, **key}, item),
        "page on another port with the key": (
            "POST",
            "/",
            {"Sec-Fetch-Site": "same-site", **target, **key},
            item,
        ),
        "form": ("POST", "/", FORM, send.encode()),
        "preflight": ("OPTIONS", "/", preflight, None),
        "image": (
            "GET",
            "/?" + send,
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"},
            None,
        ),
        "unsigned": ("POST", "/", target, item),
        "signed with another key": (
            "POST",
            "/",
            {
                **target,
                "Authorization": key["Authorization"].replace(stack.credentials.id, "local"),
            },
            item,
        ),
        "reset": ("POST", "/_ministack/reset", {}, None),
        "reset with the key": ("POST", "/_ministack/reset", key, None),
        "faults": (
            "POST",
            "/_mayfly/faults",
            {},
            b'{"function": "Hello", "action": "x", "kind": "refuse", "times": 1}',
        ),
        "roles by people": (
            "POST",
            "/_mayfly/roles",
            {"Authorization": f"Bearer {stack.credentials.id}"},
            b'{"roles": {}, "keys": {}}',
        ),
        "next event": ("GET", NEXT, {}, None),
    }


def test_every_port_but_the_gateway_refuses_requests_from_outside_its_stack(stack: Stack) -> None:
    inner = sorted(set(listening(stack)) - {stack.port})
    assert len(inner) >= 3, "the store and some functions"
    rows, wanted = {}, attacks(stack)
    for port in inner:
        found = {name: ask(port, *attack) for name, attack in wanted.items()}
        rows[port] = {name: status for name, (status, _, _) in found.items()}
        assert not [
            name
            for name, (_, headers, _) in found.items()
            if any(each.startswith("access-control-") for each in headers)
        ]
    # The requested table; pytest -rP shows it.
    print("\n".join(f"{port} {row}" for port, row in rows.items()))  # noqa: T201
    assert {status for row in rows.values() for status in row.values()} <= {401, 403, 404}
    assert stack.counter("page") == 0
    assert not [item for item in stack.items("CountersTable") if item["pk"]["S"] == "default/owned"]
    assert stack.get("/").status_code == 200


def test_gateway_refuses_a_foreign_host_and_sends_no_cors_header_beyond_the_template(
    stack: Stack,
) -> None:
    status, headers, body = ask(stack.port, "GET", "/", {"Host": "evil.example"})
    assert (status, b"--allow-host" in body) == (403, True)
    for method, path, more in (
        ("GET", "/", {}),
        ("OPTIONS", "/jobs", {"Access-Control-Request-Method": "POST"}),
        ("POST", "/jobs", {}),
    ):
        _, headers, _ = ask(stack.port, method, path, {**PAGE, **more})
        assert not [name for name in headers if name.startswith("access-control-")]


def test_nothing_listens_on_anything_but_loopback(stack: Stack) -> None:
    assert set().union(*listening(stack).values()) == {"127.0.0.1"}
    pids = {each.pid for each in stack.tree()}
    inodes = {
        os.readlink(file)
        for pid in pids
        for file in Path(f"/proc/{pid}/fd").iterdir()
        if file.is_symlink()
    }
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in (Path("/proc/net") / table).read_text().splitlines()[1:]:
            columns = line.split()
            if f"socket:[{columns[9]}]" in inodes and (
                columns[3] == "0A" or table.startswith("udp")
            ):
                assert columns[1].split(":")[0] == "0100007F", line


def test_template_in_the_form_of_a_page_makes_nothing(stack: Stack) -> None:
    queue = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "evil"}}
    template = json.dumps({"Resources": {"Q": queue}})
    fields = {"Action": "CreateStack", "StackName": "evil", "TemplateBody": template}
    store = int(stack.facts["endpoint"].rsplit(":", 1)[1])
    assert ask(store, "POST", "/", FORM, urlencode(fields).encode())[0] == 403
    client = stack.client("cloudformation")
    with pytest.raises(client.exceptions.ClientError, match="only mayfly up creates stacks"):
        client.create_stack(StackName="evil", TemplateBody=template)
    assert not stack.client("sqs").list_queues(QueueNamePrefix="evil").get("QueueUrls")


def test_caller_identity_of_a_function_is_the_root_user(stack: Stack) -> None:
    variables = stack.facts["launches"]["Hello"]["variables"]
    sts = boto3.client(
        "sts",
        endpoint_url=stack.facts["endpoint"],
        region_name="us-east-1",
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    assert sts.get_caller_identity()["Arn"].endswith(":root")


@pytest.mark.parametrize("service", ["cloudformation", "sns", "sts", "s3"])
def test_key_of_a_function_makes_no_stack_whatever_service_it_names(
    stack: Stack, service: str
) -> None:
    key = stack.facts["launches"]["Hello"]["variables"]["AWS_ACCESS_KEY_ID"]
    assert key != stack.credentials.id
    store = int(stack.facts["endpoint"].rsplit(":", 1)[1])
    headers = {
        "Authorization": "AWS4-HMAC-SHA256 "
        f"Credential={key}/20260101/us-east-1/{service}/aws4_request, "
        "Signature=0"
    }
    body = urlencode(
        {
            "Action": "CreateStack",
            "StackName": "x",
            "TemplateBody": '{"Resources": {}}',
            "Version": "2010-05-15",
        }
    ).encode()
    assert (
        ask(
            store,
            "POST",
            "/",
            {**headers, "Content-Type": "application/x-www-form-urlencoded"},
            body,
        )[0]
        >= 400
    )
    assert [
        each["StackName"] for each in stack.client("cloudformation").describe_stacks()["Stacks"]
    ] == [stack.facts["name"]]


@pytest.mark.parametrize("key", ["people", "function"])
def test_only_the_runtimes_key_makes_or_deletes_a_stack_by_an_action_hidden_in_json(
    stack: Stack, key: str
) -> None:
    used = (
        stack.credentials.id
        if key == "people"
        else stack.facts["launches"]["Hello"]["variables"]["AWS_ACCESS_KEY_ID"]
    )
    store, name = int(stack.facts["endpoint"].rsplit(":", 1)[1]), stack.facts["name"]
    headers = {
        "Authorization": "AWS4-HMAC-SHA256 "
        f"Credential={used}/20260101/us-east-1/cloudformation/aws4_request, "
        "Signature=0",
        "X-Amz-Target": "CloudFormation_20100515.DescribeStacks",
        "Content-Type": "application/x-amz-json-1.1",
    }
    for body in (
        {"Action": "CreateStack", "StackName": "evil", "TemplateBody": "{}"},
        {"Action": "DeleteStack", "StackName": name},
    ):
        assert (
            ask(store, "POST", "/?Action=DescribeStacks", headers, json.dumps(body).encode())[0]
            >= 400
        )
    assert [
        each["StackStatus"] for each in stack.client("cloudformation").describe_stacks()["Stacks"]
    ] == ["CREATE_COMPLETE"]


@pytest.mark.parametrize("service", ["sns", "foo", "kms", "dynamodbstreams", "s3", "sqs", "sts"])
def test_request_is_answered_only_by_the_service_that_it_is_signed_for(
    stack: Stack, service: str
) -> None:
    store = int(stack.facts["endpoint"].rsplit(":", 1)[1])
    for key in (
        stack.credentials.id,
        stack.facts["launches"]["RunJobs"]["variables"]["AWS_ACCESS_KEY_ID"],
    ):
        headers = {
            "Authorization": "AWS4-HMAC-SHA256 "
            f"Credential={key}/20260101/us-east-1/{service}/aws4_request, "
            "Signature=0",
            "X-Amz-Target": "DynamoDB_20120810.ListTables",
            "Content-Type": "application/x-amz-json-1.0",
        }
        status, _, body = ask(store, "POST", "/", headers, b"{}")
        assert (status >= 400, b"TableNames" in body) == (True, False)


def test_parameter_store_runs_no_commands(stack: Stack) -> None:
    with pytest.raises(
        stack.client("ssm").exceptions.ClientError, match="no commands are run here"
    ):
        stack.client("ssm").send_command(
            InstanceIds=["i-1"],
            DocumentName="AWS-RunShellScript",
            Parameters={"commands": ["true"]},
        )


@pytest.mark.parametrize(
    "path",
    [
        "/v2/email/identities",
        "/v2/_catalog",
        "/v20180820/accesspoint",
        "/iceberg/v1/config",
        "/restapis/x/_user_request_/",
    ],
)
def test_paths_of_services_that_the_stack_does_not_have_are_refused(
    stack: Stack, path: str
) -> None:
    store = int(stack.facts["endpoint"].rsplit(":", 1)[1])
    headers = {
        "Authorization": "AWS4-HMAC-SHA256 "
        f"Credential={stack.credentials.id}/20260101/us-east-1/s3/aws4_request, "
        "Signature=0"
    }
    assert ask(store, "GET", path, headers)[0] >= 400


def test_line_that_a_request_forges_in_the_emulators_output_is_not_taken_for_its_own(
    stack: Stack,
) -> None:
    client, table = stack.client("dynamodb"), stack.facts["resources"]["CountersTable"]
    for forged in ('{"said": "forged"}', '{"said" broken'):
        with pytest.raises(client.exceptions.ClientError):
            client.put_item(
                TableName=table,
                Item={"pk": {"S": "x"}},
                ConditionExpression=f"attribute_exists(pk\n{forged}",
            )
    assert stack.get("/").status_code == 200
    assert "forged" not in [line.strip() for line in stack.output.splitlines()]


def test_unsigned_upload_is_refused_before_it_is_read(stack: Stack) -> None:
    store = next(each for each in stack.tree() if "mayfly_local.emulator.main" in each.cmdline())
    before = store.memory_info().rss
    port = int(stack.facts["endpoint"].rsplit(":", 1)[1])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(
            f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: multipart/form-data; "
            "boundary=x\r\nContent-Length: 200000000\r\n\r\n".encode()
        )
        for _ in range(100):
            connection.sendall(bytes(1_000_000))
    assert store.memory_info().rss - before < 60_000_000


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv, to be another user",
)
def test_another_user_of_the_machine_is_refused(stack: Stack) -> None:
    program = f"""
import http.client, json, sys
def ask(port, method, path, headers, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()
found = {{}}
for port in {sorted(set(listening(stack)) - {stack.port})}:
    target = {{"X-Amz-Target": "DynamoDB_20120810.ListTables"}}
    found[port] = [
        ask(port, "GET", "{NEXT}", {{}})[0], ask(port, "POST", "/", target, "{{}}")[0]
    ]
for path in ("access-key", "stack.json", "development-key"):
    try:
        open({str(stack.work)!r} + "/" + path).read()
        found[path] = "read"
    except OSError as problem:
        found[path] = type(problem).__name__
print(json.dumps(found))
"""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin") or sys.executable
    done = subprocess.run(
        ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", python, "-I", "-c",
        program], capture_output=True, text=True, check=False, cwd="/"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    files = {path: found.pop(path) for path in ("access-key", "stack.json", "development-key")}
    assert set(files.values()) == {"PermissionError"}
    assert {status for statuses in found.values() for status in statuses} <= {403}


def test_sdks_are_served_with_the_output_of_mayfly_env(stack: Stack) -> None:
    printed = subprocess.run(
        [MAYFLY, "env", "--work", stack.work], capture_output=True, text=True, check=True
    ).stdout
    code = (
        "import boto3; print(len(boto3.client('dynamodb').list_tables()['TableNames']), "
        "len(boto3.client('sqs').list_queues()['QueueUrls']))"
    )
    shell = f"{printed}\n{sys.executable} -c {json.dumps(code)}"
    done = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, check=True, env={"PATH": os.defpath}
    )
    tables, queues = map(int, done.stdout.split())
    assert (tables >= 5, queues >= 5) == (True, True)
    as_json = json.loads(
        subprocess.run(
            [MAYFLY, "env", "--json", "--work", stack.work],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert as_json["AWS_ACCESS_KEY_ID"] == stack.credentials.id
    assert {line.partition("=")[0].removeprefix("export ") for line in printed.splitlines()} == set(
        as_json
    )


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_url_allows_its_own_request_until_it_expires(stack: Stack, version: str) -> None:
    s3 = boto3.client(
        "s3", endpoint_url=stack.facts["endpoint"], region_name="us-east-1",
        config=Config(signature_version=version),
        aws_access_key_id=stack.credentials.id, aws_secret_access_key=stack.credentials.secret,
    )  # fmt: skip
    bucket = stack.facts["outputs"]["ImportsBucketName"]
    s3.put_object(
        Bucket=bucket, Key="other/a page.html", Body=b"<script>1</script>", ContentType="text/html"
    )
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "other/a page.html"}, ExpiresIn=60
    )
    found = requests.get(url, timeout=20)
    assert (found.status_code, found.content) == (200, b"<script>1</script>")
    assert found.headers["content-security-policy"] == "sandbox", "its script runs in no origin"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert requests.delete(url, timeout=20).status_code == 403
    assert requests.get(url.replace("a%20page", "another"), timeout=20).status_code == 403
    assert (
        requests.get(re.sub("Signature=[^&]+", "Signature=AAAA", url), timeout=20).status_code
        == 403
    )
    late = s3.generate_presigned_url(
        "get_object",
        Params={"Bucket": bucket, "Key": "other/a page.html"},
        ExpiresIn=-10 if version == "s3" else 1,
    )
    wait_until(lambda: requests.get(late, timeout=20).status_code == 403, 10)


def test_bucket_is_served_by_its_own_host_name(stack: Stack) -> None:
    bucket, port = (
        stack.facts["outputs"]["ImportsBucketName"],
        int(stack.facts["endpoint"].rsplit(":", 1)[1]),
    )
    stack.client("s3").put_object(Bucket=bucket, Key="other/hosted.txt", Body=b"hello")
    headers = {"Host": f"{bucket}.s3.localhost:{port}"}
    headers["Authorization"] = (
        "AWS4-HMAC-SHA256 "
        f"Credential={stack.credentials.id}/20260101/us-east-1/s3/aws4_request, Signature=0"
    )
    assert ask(port, "GET", "/other/hosted.txt", headers)[::2] == (200, b"hello")


def test_host_of_the_owner_is_allowed_by_a_flag_and_any_credentials_cause_a_warning(
    tmp_path: Path,
) -> None:
    with running(
        tmp_path,
        "--allow-host",
        "shop.test",
        "--any-credentials",
        template=ROOT / "tests/apps/misbehaving/template.yaml",
    ) as stack:
        assert ask(stack.port, "GET", "/fine", {"Host": "shop.test"})[0] == 200
        assert "any credentials" in stack.output
        store = int(stack.facts["endpoint"].rsplit(":", 1)[1])
        body, target = (
            b"{}",
            {
                "X-Amz-Target": "DynamoDB_20120810.ListTables",
                "Content-Type": "application/x-amz-json-1.0",
            },
        )
        assert ask(store, "POST", "/", target, body)[0] == 200
        assert ask(store, "POST", "/", {**target, **PAGE}, body)[0] == 403


def test_files_that_others_could_read_are_closed_at_start_and_reported(tmp_path: Path) -> None:
    work = tmp_path / ".mayfly"
    work.mkdir()
    (work / "development-key").write_text("{}")
    work.chmod(0o755)
    (work / "development-key").chmod(0o644)
    with running(
        tmp_path, template=ROOT / "tests/apps/misbehaving/template.yaml", work=work
    ) as stack:
        assert f"{work} could be read by other users" in stack.output
        modes: dict[str, Any] = {
            path.name: oct(path.stat().st_mode & 0o777) for path in work.iterdir() if path.is_file()
        }
        assert set(modes.values()) == {"0o600"}
        assert work.stat().st_mode & 0o777 == 0o700
        wait_until(lambda: "stop with" in stack.output, 10)
