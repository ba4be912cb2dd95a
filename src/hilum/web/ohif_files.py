"""OHIF as `scripts/ohif.sh` has installed it: its files, and the policy that its page and its workers need."""

from __future__ import annotations

import re
import sys
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from hilum.settings import ViewerSettings

SCRIPT = "text/javascript; charset=utf-8"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": SCRIPT,
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}
# Its build puts a digest of the content into these names.
_HASHED = re.compile(r"(?:^|\.)[0-9a-f]{16}\.[a-z0-9]+\Z")
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
# The marker that the installer writes last.
MARKER = ".installed"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of OHIF; `zipped` files are kept and sent compressed."""

    file: Path
    media_type: str
    zipped: bool
    hashed: bool
    etag: str


@dataclass(frozen=True, slots=True)
class Installed:
    """OHIF in its folder: all parts by path, and the policy that its page needs."""

    parts: dict[str, Part]
    policy: str
    worker_policy: str


def installed(settings: ViewerSettings) -> Installed | None:
    """OHIF, if it is there; looked at again when it is installed anew."""
    folder = Path(settings.ohif_folder or Path(sys.prefix, "share", "hilum", "ohif"))
    try:
        marked = (folder / MARKER).stat().st_mtime_ns
    except OSError:
        return None
    return _read(folder, marked)


@lru_cache(maxsize=2)
def _read(folder: Path, marked: int) -> Installed | None:
    parts = dict(_parts(folder, marked))
    page = parts.get("index.html")
    if page is None:
        return None
    content = page.file.read_bytes()
    return Installed(parts, content_security_policy(content), content_security_policy(content, worker=True))


def _parts(folder: Path, marked: int) -> Iterable[tuple[str, Part]]:
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        zipped = path.endswith(".gz")
        path = path.removesuffix(".gz")
        media_type = TYPES.get(Path(path).suffix)
        if media_type and file.is_file():
            etag = sha256(f"{path}\0{marked}\0{file.stat().st_size}".encode()).hexdigest()[:32]
            yield path, Part(file, media_type, zipped, bool(_HASHED.search(Path(path).name)), f'"{etag}"')


def content_security_policy(page: bytes, *, worker: bool = False) -> str:
    """What OHIF's page may do: this origin, its own inline scripts by digest, WebAssembly, and workers of its own.

    A worker takes its policy from its script's answer. The JPEG 2000, JPEG-LS and JPEG decoders make their bindings
    from strings, so workers, which have no page to reach, may do that.
    """
    digests = [f"'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in _INLINE_SCRIPT.findall(page)]
    scripts = ["'self'", "'wasm-unsafe-eval'", *(["'unsafe-eval'"] if worker else digests)]
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src", *scripts)),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' blob: data:",
            "media-src 'self' blob:",
            "font-src 'self' data:",
            "connect-src 'self' blob: data:",
            "worker-src 'self' blob:",
            "object-src 'self' blob:",
            "frame-src 'self' blob:",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
