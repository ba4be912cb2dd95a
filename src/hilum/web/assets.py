"""Style sheets and scripts, read once, served for ever: the path carries a digest of all of them together.

One digest for the whole tree lets a script import its neighbour by a relative path and still never meet an older one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

PREFIX = "/static"
ROUTE = PREFIX + "/{digest}/{path:path}"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Assets:
    digest: str
    contents: dict[str, bytes]

    def url(self, path: str) -> str:
        """Where `path` is served; raises KeyError for a file that does not exist, so no template links to nothing."""
        if path not in self.contents:
            raise KeyError(path)
        return f"{PREFIX}/{self.digest}/{path}"


@cache
def load_assets() -> Assets:
    contents = dict(sorted(_walk(files("hilum.web").joinpath("static"), "")))
    digest = sha256()
    for path, content in contents.items():
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return Assets(digest.hexdigest()[:16], contents)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif _type_of(entry.name):
            found.append((prefix + entry.name, entry.read_bytes()))
    return found


def _type_of(name: str) -> str:
    return next((kind for suffix, kind in TYPES.items() if name.endswith(suffix)), "")


async def serve_asset(request: Request) -> Response:
    """A page from before an upgrade asks for a digest that is gone: it gets today's file, which must not be kept."""
    assets = load_assets()
    content = assets.contents.get(request.path_params["path"])
    if content is None:
        return PlainTextResponse("There is no such file.", status_code=404)
    current = request.path_params["digest"] == assets.digest
    headers = {"cache-control": FOREVER if current else "no-store", "x-content-type-options": "nosniff"}
    return Response(content, media_type=_type_of(request.path_params["path"]), headers=headers)
