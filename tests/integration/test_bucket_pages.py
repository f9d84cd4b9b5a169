"""Pages of other sites at buckets of a running stack: only what the CORS of a bucket allows."""

from pathlib import Path

import requests

from mayfly_testing.stack import running


def test_upload_of_a_browser_is_accepted_if_the_cors_of_the_bucket_allows_it(
    tmp_path: Path,
) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(
        """
Transform: AWS::Serverless-2016-10-31
Resources:
  Open:
    Type: AWS::S3::Bucket
    Properties:
      CorsConfiguration:
        CorsRules:
          - AllowedOrigins: ["https://shop.example"]
            AllowedMethods: [PUT, GET]
            AllowedHeaders: ["*"]
            MaxAge: 60
  Closed: {Type: AWS::S3::Bucket}
"""
    )
    page = {"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"}
    with running(tmp_path / "run", template=template) as stack:
        s3, names = stack.client("s3"), stack.facts["resources"]
        for name, status in (("Open", 200), ("Closed", 403)):
            url = s3.generate_presigned_url(
                "put_object", Params={"Bucket": names[name], "Key": "a.txt"}
            )
            preflight = requests.options(
                url, headers={**page, "Access-Control-Request-Method": "PUT"}, timeout=20
            )
            put = requests.put(url, data=b"hello", headers=page, timeout=20)
            assert (preflight.status_code, put.status_code) == (status, status)
            allowed = {each.headers.get("access-control-allow-origin") for each in (preflight, put)}
            assert allowed == ({"https://shop.example"} if name == "Open" else {None})
        other = requests.put(
            s3.generate_presigned_url("put_object", Params={"Bucket": names["Open"],
            "Key": "b.txt"}),
            data=b"x", headers={**page, "Origin": "https://evil.example"}, timeout=20,
        )  # fmt: skip
        unsigned = requests.put(
            f"{stack.facts['endpoint']}/{names['Open']}/c.txt", data=b"x", headers=page, timeout=20
        )
        assert (other.status_code, unsigned.status_code) == (403, 403)
        posted = s3.generate_presigned_post(names["Open"], "posted.txt")
        form = requests.post(
            posted["url"], data=posted["fields"], files={"file": b"by form"}, timeout=20
        )
        assert form.status_code in (200, 204), form.text
        assert s3.get_object(Bucket=names["Open"], Key="posted.txt")["Body"].read() == b"by form"
        signed = {
            "Authorization": "AWS4-HMAC-SHA256 "
            f"Credential={stack.credentials.id}/20260101/us-east-1/dynamodb/aws4_request, "
            "Signature=0"
        }
        target = {
            "X-Amz-Target": "DynamoDB_20120810.ListTables",
            "Content-Type": "application/x-amz-json-1.0",
        }
        hop = requests.post(
            f"{stack.facts['endpoint']}/{names['Open']}",
            data=b"{}",
            headers={**page, **signed, **target},
            timeout=20,
        )
        assert hop.status_code == 403, "a bucket's CORS opens no other service"


OPEN_AND_CLOSED = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Open:
    Type: AWS::S3::Bucket
    Properties:
      CorsConfiguration: {CorsRules: [{AllowedOrigins: ["*"], AllowedMethods: [POST, GET]}]}
  Closed: {Type: AWS::S3::Bucket}
  Queue: {Type: AWS::SQS::Queue}
"""


def test_bucket_open_to_pages_opens_no_other_service_even_with_any_credentials(
    tmp_path: Path,
) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(OPEN_AND_CLOSED)
    page = {"Origin": "https://evil.example"}
    with running(
        tmp_path / "run", "--any-credentials", "--allow-host", "shop.test", template=template
    ) as stack:
        store, names = stack.facts["endpoint"], stack.facts["resources"]
        for bucket in ("Open", "Closed"):
            stack.client("s3").put_object(Bucket=names[bucket], Key="k", Body=bucket.encode())
        form = requests.post(
            f"{store}/{names['Open']}", data={"Action": "ListQueues"}, headers=page, timeout=20
        )
        assert (form.status_code, "access-control-allow-origin" in form.headers) == (403, False)
        asks = {
            **page,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "X-Amz-Target",
        }
        assert (
            requests.options(f"{store}/{names['Open']}", headers=asks, timeout=20).status_code
            == 403
        )
        named = requests.get(
            f"{store}/{names['Open']}/k", headers={"Host": "shop.test"}, timeout=20
        )
        assert named.status_code == 403, "a page under such a name would need no key"
        found = requests.get(f"{store}/{names['Open']}/k", headers=page, timeout=20)
        assert (
            found.content,
            found.headers["access-control-allow-origin"],
            found.headers["vary"],
        ) == (b"Open", "*", "Origin")
        by_host = {
            **page,
            "Host": f"{names['Closed'].lower()}.s3.localhost:{store.rsplit(':', 1)[1]}",
        }
        assert (
            requests.get(f"{store}/{names['Open']}/k", headers=by_host, timeout=20).status_code
            == 403
        )
