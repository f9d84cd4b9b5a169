"""Signatures equal botocore's, byte by byte."""

import datetime as dt
import random  # noqa: TID251  # a search that can be repeated
import string
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from mayfly.aws.credentials import Credentials
from mayfly.aws.signature import Signer

#: The edges of days, in seconds since the epoch: the signing key changes there.
MIDNIGHT = 1_800_057_600
TEXTS = string.ascii_letters + string.digits + ' +/=~é世🌍"\\\t'


def of_botocore(
    *,
    url: str,
    service: str,
    region: str,
    headers: dict[str, str],
    body: bytes,
    credentials: Credentials,
    at: float,
) -> dict[str, str]:
    """Returns the headers that botocore adds to a request, by the steps of its `add_auth`."""
    auth: Any = botocore.auth.SigV4Auth(
        botocore.credentials.Credentials(credentials.key_id, credentials.secret, credentials.token),
        service,
        region,
    )
    request = botocore.awsrequest.AWSRequest("POST", url, headers=headers, data=body)
    moment = dt.datetime.fromtimestamp(at, dt.UTC)
    request.context["timestamp"] = moment.strftime(botocore.auth.SIGV4_TIMESTAMP)
    auth._modify_request_before_signing(request)
    to_sign = auth.string_to_sign(request, auth.canonical_request(request))
    auth._inject_signature_to_request(request, auth.signature(to_sign, request))
    return dict(request.headers.items())


def a_text(source: random.Random, longest: int, letters: str = TEXTS) -> str:
    return "".join(source.choices(letters, k=source.randint(1, longest)))


def a_request(source: random.Random) -> dict[str, Any]:
    """Returns the parts of a random request."""
    plain = string.ascii_letters + string.digits
    host = source.choice(["dynamodb.us-east-1.amazonaws.com", "127.0.0.1:4566", "sqs.cn.example"])
    return {
        "service": source.choice(["dynamodb", "sqs", "ssm"]),
        "region": source.choice(["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1"]),
        "host": host,
        "target": f"{a_text(source, 20, plain)}.{a_text(source, 20, plain)}",
        "content_type": f"application/x-amz-json-1.{source.randint(0, 1)}",
        "body": b"" if not source.randint(0, 9) else a_text(source, 200).encode(),
        "credentials": Credentials(
            a_text(source, 20, plain),
            a_text(source, 40, plain + "+/"),
            source.choice([None, a_text(source, 300, plain + "+/="), "two  spaces  inside"]),
        ),
        "at": source.choice(
            [MIDNIGHT, MIDNIGHT - 1, MIDNIGHT + 0.5, source.randint(0, 4_000_000_000)]
        ),
    }


def test_signatures_of_random_requests_equal_those_of_botocore(
    searches: int,
) -> None:
    source = random.Random(18)  # a search that can be repeated
    for _ in range(100 * searches):
        parts = a_request(source)
        signer = Signer(parts.pop("service"), parts.pop("region"))
        ours = signer.headers(**parts)
        theirs = of_botocore(
            url=f"http://{parts['host']}/",
            service=signer._service,
            region=signer._region,
            headers={"Content-Type": parts["content_type"], "X-Amz-Target": parts["target"]},
            body=parts["body"],
            credentials=parts["credentials"],
            at=parts["at"],
        )
        assert ours["Authorization"] == theirs["Authorization"], parts
        assert ours.items() <= theirs.items()


def test_signing_key_follows_the_day_and_the_secret() -> None:
    signer = Signer("dynamodb", "us-east-1")
    parts: dict[str, Any] = {"host": "h", "target": "t", "content_type": "c", "body": b""}

    def signature(secret: str, at: float) -> str:
        return signer.headers(**parts, credentials=Credentials("k", secret), at=at)["Authorization"]

    first = signature("one", MIDNIGHT)
    others = {signature("one", MIDNIGHT - 1), signature("two", MIDNIGHT)}
    assert first not in others
    assert signature("one", MIDNIGHT) == first
