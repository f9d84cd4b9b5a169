"""Access to the servers of the local stack: rules and keys."""

import ast
import os
import socket
from pathlib import Path

import pytest

from mayfly_local.errors import LocalError
from mayfly_local.iam.credentials import Credentials, Keys, make_private, people
from mayfly_local.iam.identities import Identities
from mayfly_local.ports.access import Access, is_browser, is_loopback_name
from mayfly_local.ports.http_server import HttpServer
from mayfly_local.ports.peers import can_tell, is_peer
from tests.conftest import ROOT

HOST = ("host", "127.0.0.1:3001")


@pytest.mark.parametrize("name", ["localhost", "app.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_name_always_means_this_machine(name: str) -> None:
    assert is_loopback_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "evil.example",
        "localhost.evil.example",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "notlocalhost",
        "",
    ],
)
def test_any_other_name_may_have_been_pointed_at_this_machine(name: str) -> None:
    assert not is_loopback_name(name)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:3001", "LOCALHOST:1", "localhost.:80", "[::1]:3001", "a.localhost"],
)
def test_request_for_a_loopback_host_is_served(host: str) -> None:
    assert Access().refusal("/", [("host", host)]) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3001",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "0.0.0.0:1",
        "",
        "[::2]",
    ],
)
def test_request_for_another_host_is_refused_with_instructions(host: str) -> None:
    for access in (Access(), Access(for_pages=True)):
        assert "mayfly up --allow-host NAME" in str(access.refusal("/", [("host", host)]))


def test_request_for_a_host_that_the_owner_allows_is_served() -> None:
    assert Access(frozenset({"shop.test"})).refusal("/", [("host", "Shop.test:3000")]) is None


def test_request_with_two_hosts_is_refused() -> None:
    assert Access().refusal("/", []) is not None
    assert Access().refusal("/", [HOST, HOST]) is not None


@pytest.mark.parametrize("target", ["http://evil.example/health", "evil.example:443"])
def test_host_in_the_request_target_is_checked_like_the_host_header(target: str) -> None:
    assert Access(for_pages=True).refusal(target, [HOST]) is not None
    assert Access(for_pages=True).refusal("http://127.0.0.1:3001/health", [HOST]) is None
    assert Access(for_pages=True).refusal("*", [HOST]) is None


@pytest.mark.parametrize(
    "header",
    [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:3000"),
        ("origin", "https://127.0.0.1:3001"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "something new"),
    ],
    ids=": ".join,
)
def test_page_of_another_site_is_refused_by_servers_for_programs(header: tuple[str, str]) -> None:
    assert Access().refusal("/", [HOST, header]) is not None
    assert Access(for_pages=True).refusal("/", [HOST, header]) is None


@pytest.mark.parametrize(
    "header",
    [
        ("origin", "http://127.0.0.1:3001"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "none"),
    ],
    ids=": ".join,
)
def test_page_of_the_same_origin_and_the_address_bar_are_served(header: tuple[str, str]) -> None:
    assert Access().refusal("/", [HOST, header]) is None


def test_browser_is_recognised_by_headers_that_only_browsers_send() -> None:
    assert is_browser([("origin", "null")])
    assert is_browser([("sec-fetch-dest", "image")])
    assert not is_browser([HOST, ("user-agent", "Boto3"), ("authorization", "x")])


def test_key_of_people_is_random_and_the_same_at_every_start(tmp_path: Path) -> None:
    credentials = people(tmp_path)
    assert people(tmp_path) == credentials
    assert people(tmp_path / "..").id != credentials.id
    assert (tmp_path / "access-key").stat().st_mode & 0o777 == 0o600
    assert len(credentials.id) > 40


def test_unreadable_key_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "access-key").write_text("{")
    with pytest.raises(LocalError, match="delete the file"):
        people(tmp_path)


def test_each_function_has_its_own_key() -> None:
    keys = Keys(Credentials.new("people"), Credentials.new("runtime")).for_functions(["A", "B"])
    assert len({keys.people.id, keys.runtime.id, keys.of("A").id, keys.of("B").id}) == 4


def test_key_identifies_its_owner_and_an_unknown_key_does_not() -> None:
    identities = Identities(people="p", runtime="r", functions={"f": "F"})
    assert [identities.of(key) for key in ("p", "r", "f", "x", "", "P")] == [
        "people",
        "runtime",
        "function F",
        None,
        None,
        None,
    ]
    assert Identities().of("") is None


def test_any_credentials_make_people_of_unknown_keys_and_not_of_functions_keys() -> None:
    identities = Identities(people="p", runtime="r", functions={"f": "F"}, any_credentials=True)
    assert [identities.of(key) for key in ("x", "f", "r")] == ["people", "function F", "runtime"]


def test_files_that_other_users_could_read_are_closed_to_them_and_named(tmp_path: Path) -> None:
    folder = tmp_path / ".mayfly"
    folder.mkdir(mode=0o755)
    secret = folder / "stack.json"
    secret.touch(mode=0o644)
    secret.chmod(0o644)
    assert make_private(folder, is_own=True) == [str(secret), str(folder)]
    assert (secret.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert make_private(folder, is_own=True) == []


def test_folder_that_the_caller_named_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert make_private(tmp_path, is_own=False) == []
    assert tmp_path.stat().st_mode & 0o777 == 0o755


#: Names of calls that open a port, and of modules that do. `process` opens the emulator's port,
#: which its process serves by an HttpServer; `peers` opens one for a moment, to find out whether
#: the system names a peer's process.
OPENERS = {
    "bind",
    "create_server",
    "start_server",
    "create_unix_server",
    "start_unix_server",
    "run_app",
    "make_server",
}
OPENERS |= {
    "TCPSite",
    "SockSite",
    "UnixSite",
    "AppRunner",
    "HTTPServer",
    "ThreadingHTTPServer",
    "TCPServer",
}
OPENERS |= {"hypercorn", "uvicorn", "gunicorn", "http.server", "socketserver", "wsgiref"}
OPEN_PORTS = {
    "ports/http_server.py": {"bind", "create_server"},
    "emulator/process.py": {"bind"},
    "ports/peers.py": {"create_server"},
}


def test_no_other_module_opens_a_port() -> None:
    openers: dict[str, set[str]] = {}
    for path in (ROOT / "mayfly_local").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                {node.attr}
                if isinstance(node, ast.Attribute)
                else {node.id}
                if isinstance(node, ast.Name)
                else set()
            )
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names} | {
                    alias.name.partition(".")[0] for alias in node.names
                }
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {
                    node.module,
                    node.module.partition(".")[0],
                    *(alias.name for alias in node.names),
                }
            if opening := names & OPENERS:
                openers.setdefault(
                    path.relative_to(ROOT / "mayfly_local").as_posix(), set()
                ).update(opening)
    assert openers == OPEN_PORTS, (
        "a server of the local runtime is an HttpServer, which has rules of access"
    )


def test_server_cannot_be_made_without_rules_of_access() -> None:
    with pytest.raises(TypeError, match="access"):
        # The missing rules are what is tested.
        HttpServer(None, body_limit=1)  # type: ignore[call-arg, arg-type]


@pytest.mark.skipif(not can_tell(), reason="this system does not name peers")
@pytest.mark.parametrize(("missing", "expected"), [(0, True), (1, True), (4, True), (9, False)])
def test_connection_is_found_if_the_kernels_table_lacks_it_at_first(
    missing: int, expected: bool
) -> None:
    """The table is read in pieces, so a line may be missing while other connections end."""
    reads: list[str] = []

    def read() -> str:
        table = Path("/proc/net/tcp").read_text()
        reads.append(table)
        return table.splitlines()[0] if len(reads) <= missing else table

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        ports = {
            "client_port": client.getsockname()[1],
            "server_port": server.getsockname()[1],
        }
        assert is_peer(os.getpid(), **ports, read=read) is expected
        assert not is_peer(1, **ports)
