"""`/viewer/`: OHIF as `scripts/ohif.sh` has installed it, for those who may see images; its parts by their own names.

It is served as a foreign application in a room of its own: it reaches this origin only, and its policy (looser than the
pages', since it compiles WebAssembly and styles itself) stands on its paths alone. Where it is not installed, there is
nothing at these addresses and images open in the small viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from gzip import decompress

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.security.policy import Action, require
from hilum.web import urls
from hilum.web.ohif_config import config_script
from hilum.web.ohif_files import SCRIPT, Installed, installed
from hilum.web.pages import Pages, may

FOREVER = "private, max-age=31536000, immutable"
# Only what was signed in for may stay on this machine, and it is asked again whether it is still right.
REVALIDATED = "private, no-cache"


@dataclass(frozen=True, slots=True)
class Ohif:
    """The handlers of OHIF's files and of its configuration."""

    pages: Pages

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        return [
            Route(urls.VIEWER.rstrip("/"), self.root, methods=["GET"]),
            Route(urls.VIEWER_CONFIG, self.config, methods=["GET"]),
            Route(urls.VIEWER + "{path:path}", self.part, methods=["GET"]),
        ]

    def root(self, request: Request) -> Response:
        """The address without its slash."""
        self._installed(request)
        return RedirectResponse(urls.VIEWER, 307)

    def config(self, request: Request) -> Response:
        """`app-config.js`, made for whoever asks."""
        there = self._installed(request)
        actor: Actor = request.state.actor
        script = config_script(
            facility=self.pages.configuration.current.facility.name,
            csrf_token=request.state.csrf_token,
            may_store=may(actor, Action.STORE_IMAGES),
        )
        return Response(script, 200, _headers(there.policy, "no-store"), SCRIPT)

    def part(self, request: Request) -> Response:
        """A file, or OHIF's one page for the addresses that it makes itself."""
        there = self._installed(request)
        path = request.path_params["path"]
        # Its own addresses have no ending, and a file that is missing must not be answered with a page.
        part = there.parts.get("index.html" if "." not in path.rpartition("/")[2] else path)
        if part is None:
            raise NotFound("There is no such part of the viewer.")
        policy = there.worker_policy if part.media_type == SCRIPT else there.policy
        headers = _headers(policy, FOREVER if part.hashed else REVALIDATED)
        headers |= {"etag": part.etag, "vary": "Accept-Encoding"}
        if part.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if part.zipped and "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(decompress(part.file.read_bytes()), 200, headers, part.media_type)
        if part.zipped:
            headers["content-encoding"] = "gzip"
        return FileResponse(part.file, 200, headers, part.media_type)

    def _installed(self, request: Request) -> Installed:
        """OHIF for who may see images. Raises Forbidden; NotFound where it is not installed."""
        require(request.state.actor, Action.READ_IMAGES)
        there = installed(self.pages.configuration.current.viewer)
        if there is None:
            raise NotFound("OHIF is not installed here.")
        return there


def _headers(policy: str, control: str) -> dict[str, str]:
    """Workers take their policy and their isolation from their own script's answer, so all parts carry them."""
    return {
        "cache-control": control,
        "content-security-policy": policy,
        # Shared memory for its decoders and volumes is given to an isolated page only.
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-embedder-policy": "require-corp",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
        "permissions-policy": "camera=(), microphone=(), geolocation=()",
    }
