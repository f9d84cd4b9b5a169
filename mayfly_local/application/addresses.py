"""The local addresses of a template's APIs, and the ids that stand for them in ARNs and URLs."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mayfly_local.account import REGION
from mayfly_local.application.physical_ids import absent_host, physical_id
from mayfly_local.application.supported import is_websocket
from mayfly_local.application.template import Template

__all__ = ["Address", "Addresses"]

#: Types with an address of their own; APIs come before function URLs.
_APIS = ("AWS::ApiGatewayV2::Api", "AWS::ApiGateway::RestApi")
_URLS = ("AWS::Lambda::Url",)
#: The id of a template's first API.
_FIRST_ID = "local"


@dataclass(frozen=True)
class Address:
    """The id of an API, and the port of loopback that serves it."""

    id: str
    port: int

    @property
    def url(self) -> str:
        """The address without a stage and without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Addresses:
    """The addresses of all APIs and function URLs, by logical id.

    Each has a port of its own, so that paths and cookies are those of the deployed API. HTTP APIs
    come first, then REST APIs, then function URLs. The first one has the port of
    `mayfly up --port`.
    """

    by_name: dict[str, Address]
    #: Hosts of deployed WebSocket APIs, which are absent, and the ones that stand for them.
    absent: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, template: Template, *, url: str, next_port: Callable[[int], int] = lambda port: port
    ) -> "Addresses":
        """Returns addresses for everything in a template that has one.

        `url` is the address of the first one. `next_port` returns the first free port from a port
        on.
        """
        port = urlsplit(url).port or 80
        sockets = _sockets(template)
        names = [
            name
            for kind in (*_APIS, *_URLS)
            for name in template.of_type(kind)
            if name not in sockets
        ]
        addresses: dict[str, Address] = {}
        ids = {_FIRST_ID}
        last = port
        for name in names:
            if not addresses:
                addresses[name] = Address(_FIRST_ID, port)
                continue
            # The emulator has the port after the first one.
            last = next_port(max(last + 1, port + 2))
            own = re.sub(r"[^a-z0-9]", "", name.lower())
            own = own if own not in ids else f"{own}{len(ids)}"
            ids.add(own)
            addresses[name] = Address(own, last)
        hosts = {_deployed_host(own): absent_host(name) for name, own in sockets.items()}
        return cls(addresses, hosts)

    def localized(self, text: str) -> str:
        """Returns a text with the addresses of deployed APIs replaced by the local ones."""
        for address in self.by_name.values():
            text = text.replace(f"https://{_deployed_host(address.id)}", address.url)
        for deployed, host in self.absent.items():
            text = text.replace(deployed, host)
        return text

    def localized_all(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Returns texts by name, such as variables, with local addresses."""
        return {name: self.localized(text) for name, text in texts.items()}

    def scope(self, template: Template) -> dict[tuple[str, str | None], Any]:
        """Returns the values of Ref and GetAtt for APIs, their stages and function URLs."""
        scope: dict[tuple[str, str | None], Any] = {}
        ids = {name: address.id for name, address in self.by_name.items()} | _sockets(template)
        for name in template.of_type(*_APIS):
            scheme = "https" if name in self.by_name else "wss"
            scope[name, "ApiEndpoint"] = f"{scheme}://{_deployed_host(ids[name])}"
            scope[name, "RootResourceId"] = f"{name}/"
            scope[name, None] = scope[name, "RestApiId"] = scope[name, "ApiId"] = ids[name]
        for name in template.of_type(*_URLS):
            scope[name, "FunctionUrl"] = f"{self.by_name[name].url}/"
        return scope


def _deployed_host(api_id: str) -> str:
    return f"{api_id}.execute-api.{REGION}.amazonaws.com"


def _sockets(template: Template) -> dict[str, str]:
    """Returns the ids of WebSocket APIs by logical id."""
    return {
        name: str(physical_id(template.name, name, _APIS[0], {}, None))
        for name in template.of_type(_APIS[0])
        if is_websocket(template.resources[name])
    }
