"""Where clients reach this door: the root of every absolute link in an answer (RetrieveURL, BulkDataURI, Link).

`[http] public_url` is the last word. Without it the Host header field counts and, where the request comes from one of
`[http] trusted_proxies`, what that proxy says of the client's own request: `Forwarded` (RFC 7239) before
`X-Forwarded-Proto`, `-Host`, `-Port` and `-Prefix`. From anyone else these are ignored, since whoever can set them
could turn another person's links elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from starlette.requests import Request

from hilum.settings.sections import HttpSettings

LONGEST = 512
_HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]{1,64}){1,8}\Z")
_FORWARDED = re.compile(r"""(host|proto)\s*=\s*(?:"([^"]*)"|([^;,\s"]*))""", re.IGNORECASE)
_STANDARD_PORTS = {"http": "80", "https": "443"}
LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host with its port, and a path that a proxy puts before ours."""

    scheme: str
    host: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}{self.prefix}"


def public_root(request: Request, http: HttpSettings) -> str:
    """The absolute URL of this server as the client of a request reaches it, without a slash at its end."""
    if http.public_url:
        return http.public_url
    origin = Origin(request.url.scheme, _with_port(request, request.headers.get("host", "")))
    if is_trusted(request, http.trusted_proxies):
        origin = _as_forwarded(request, origin)
    return str(origin) if _HOST.match(origin.host) else http.base_url


def is_trusted(request: Request, proxies: tuple[str, ...]) -> bool:
    """Whether a request comes from an address that may say who asked it."""
    peer = request.scope.get("peer") or request.scope.get("client")  # the proxy, and not for whom it asks
    if not proxies or not peer:
        return False
    try:
        address = ip_address(peer[0])
    except ValueError:
        return False
    return any(address in ip_network(proxy, strict=False) for proxy in proxies)


def _as_forwarded(request: Request, origin: Origin) -> Origin:
    """The origin as the first hop says it; each part that says nothing usable is left as it is."""
    host, scheme, port = _first(request, "host"), _first(request, "proto"), _first(request, "port")
    for name, quoted, plain in _FORWARDED.findall(_first_value(request, "forwarded")):
        if name.lower() == "host":
            host, port = quoted or plain, ""
        else:
            scheme = quoted or plain
    if scheme.lower() in _STANDARD_PORTS:
        origin = replace(origin, scheme=scheme.lower())
    if _HOST.match(host):
        origin = replace(origin, host=host.lower())
    if _PORT.match(port):
        bare = re.sub(r":[0-9]{1,5}\Z", "", origin.host)
        origin = replace(origin, host=bare if port == _STANDARD_PORTS[origin.scheme] else f"{bare}:{port}")
    prefix = _first(request, "prefix").rstrip("/")
    return replace(origin, prefix=prefix) if _PREFIX.match(prefix) and ".." not in prefix else origin


def _first(request: Request, name: str) -> str:
    return _first_value(request, f"x-forwarded-{name}")


def _first_value(request: Request, name: str) -> str:
    return request.headers.get(name, "")[:LONGEST].split(",")[0].strip()


def _with_port(request: Request, host: str) -> str:
    """The host with the port we listen on where a client (dicomweb-client does) has left it out of its Host header.

    Only for our own address: a proxy's public name without a port is meant so.
    """
    address, port = request.scope.get("server") or ("", None)
    own = {address, "localhost"} if address in LOOPBACK else {address}
    standard = 443 if request.url.scheme == "https" else 80
    return f"{host}:{port}" if host in own and port not in (None, standard) else host
