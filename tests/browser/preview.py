"""Shows every page with synthetic content: `python tests/browser/preview.py serve` or `… shots [NAME…]`.

`shots` writes artefacts/preview/NAME-THEME-WIDTH.png with Chromium; anything the browser's console complains of fails.
"""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import uvicorn
from PIL import Image
from sample_orders import draft_conflict
from sample_pages import FRAGMENTS, PAGES
from sample_worklist import NOW
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from hilum.web.assets import ROUTE, serve_asset
from hilum.web.headers import PAGE_HEADERS
from hilum.web.models import Saved
from hilum.web.view import View

OUTPUT = Path("artefacts/preview")
CHROMIUM = os.environ.get("HILUM_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VIEW = View(ZoneInfo("America/Chicago"), lambda: NOW)


def ellipse(x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1


@lru_cache(64)
def chest_slice(part: float) -> np.ndarray:
    """Hounsfield units of a schematic axial chest at `part` (0 top, 1 bottom), 512 square."""
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    values = np.full((512, 512), -1000.0)
    values[ellipse(x, y, 0, 0.02, 0.88, 0.66)] = -90
    values[ellipse(x, y, 0, 0.02, 0.82, 0.60)] = 45
    lung = 0.30 + 0.16 * np.sin(np.pi * part)
    for side in (-1, 1):
        values[ellipse(x, y, side * 0.42, 0, 0.31, lung)] = -840
    values[ellipse(x, y, 0.10, 0.02, 0.10 + 0.20 * part, 0.10 + 0.18 * part)] = 48
    values[ellipse(x, y, 0.12, 0.26, 0.075, 0.075)] = 260
    values[ellipse(x, y, 0, 0.42, 0.13, 0.11)] = 420
    values[ellipse(x, y, 0, 0.42, 0.09, 0.07)] = 230
    for angle in np.linspace(0.35, np.pi - 0.35, 6):
        for sign in (-1, 1):
            values[ellipse(x, y, 0.84 * np.cos(angle), sign * 0.62 * np.sin(angle), 0.05, 0.022)] = 700
    random = np.random.default_rng(int(part * 1000))
    for _ in range(60):
        cx, cy, size = random.uniform(-0.65, 0.65), random.uniform(-0.35, 0.35), random.uniform(0.004, 0.018)
        spot = ellipse(x, y, cx, cy, size, size) & (values < -500)
        values[spot] = random.uniform(-200, 120)
    if 0.3 < part < 0.42:
        values[ellipse(x, y, -0.46, -0.12, 0.035, 0.033)] = 60
    return values + random.normal(0, 14, values.shape)


@lru_cache(4)
def radiograph() -> np.ndarray:
    """The chest summed along one direction, as a projection image of 1200 × 1000."""
    volume = np.stack([chest_slice(part / 31) for part in range(32)])
    film = (volume + 1000).sum(axis=1)
    film = 4095 * (film / film.max())
    return np.asarray(Image.fromarray(film.astype("float32")).resize((1000, 1200), Image.Resampling.BICUBIC))


def pixels_of(series: str, instance: str) -> tuple[np.ndarray, float, float]:
    number = series.rsplit(".", 1)[1]
    if number == "4":
        return radiograph(), 2048, 3600
    count = {"2": 120, "3": 40}.get(number, 1)
    return chest_slice(int(instance.rsplit(".", 1)[1]) / (count + 1)), 40, 400


def png(values: np.ndarray, center: float, width: float, size: tuple[int, int] | None) -> bytes:
    grey = np.clip(((values - center) / width + 0.5) * 255, 0, 255).astype("uint8")
    image = Image.fromarray(grey)
    if size:
        image.thumbnail(size)
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def rendered(request: Request) -> Response:
    values, center, width = pixels_of(request.path_params["series"], request.path_params["instance"])
    if window := request.query_params.get("window"):
        center, width = (float(part) for part in window.split(",")[:2])
    viewport = request.query_params.get("viewport")
    size = tuple(int(part) for part in viewport.split(",")) if viewport else None
    return Response(
        png(values, center, width, size), media_type="image/png", headers={"cache-control": "private, max-age=60"}
    )


def thumbnail(request: Request) -> Response:
    values, center, width = pixels_of(request.path_params["series"], request.path_params["instance"])
    return Response(png(values, center, width, (128, 128)), media_type="image/png")


def page(request: Request) -> Response:
    template, model = PAGES[request.path_params["name"]]
    frame = replace(model.frame, theme=request.cookies.get("hilum_theme", "auto"))
    return HTMLResponse(VIEW.render(template, replace(model, frame=frame)), headers=PAGE_HEADERS)


def rows(request: Request) -> Response:
    model = PAGES["worklist"][1]
    if request.query_params.get("seen") == model.version and not request.query_params.get("text"):
        return Response(status_code=204)
    text = request.query_params.get("text", "").lower()
    found = tuple(row for row in model.rows if text in row.patient.name.lower())
    return HTMLResponse(VIEW.render("worklist_list.html", replace(model, rows=found, version=f"v-{text}")))


async def draft(request: Request) -> Response:
    form = await request.form()
    if "CONFLICT" in str(form.get("section.findings")) and form["revision"] != "9":
        return HTMLResponse(VIEW.render("draft_conflict.html", draft_conflict()), status_code=409)
    return HTMLResponse(VIEW.render("draft_saved.html", Saved(int(str(form["revision"])) + 1, NOW)))


FRAME_PATH = "/dicom-web/studies/{study}/series/{series}/instances/{instance}"


def application() -> Starlette:
    nothing = Response(status_code=204)
    return Starlette(
        routes=[
            Route("/", lambda _: RedirectResponse("/page/worklist")),
            Route("/page/{name}", page),
            Route(ROUTE, serve_asset),
            Route("/worklist/rows", rows),
            Route("/orders/{order}/chain", lambda _: nothing),
            Route("/orders/{order}/report", lambda _: nothing),
            Route("/exceptions/{id}/candidates", lambda _: HTMLResponse(VIEW.render(*FRAGMENTS["candidates"]))),
            Route("/reports/{id}/draft", draft, methods=["POST"]),
            Route("/reports/{id}/sign", lambda _: RedirectResponse("/page/order", 303), methods=["POST"]),
            Route("/orders/{order}", lambda _: RedirectResponse("/page/order")),
            Route(FRAME_PATH + "/frames/{frame}/rendered", rendered),
            Route(FRAME_PATH + "/thumbnail", thumbnail),
        ]
    )


@contextmanager
def serving() -> Iterator[str]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


SIZES = ((1280, 800), (1920, 1080))


def shots(names: list[str]) -> int:
    from playwright.sync_api import sync_playwright

    OUTPUT.mkdir(parents=True, exist_ok=True)
    complaints: list[str] = []
    with serving() as root, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for theme in ("dark", "light"):
            for width, height in SIZES:
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
                tab = context.new_page()
                tab.on(
                    "console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None
                )
                tab.on("pageerror", lambda error: complaints.append(str(error)))
                for name in names or PAGES:
                    tab.goto(f"{root}/page/{name}")
                    if tab.locator("[data-stage]").count():
                        tab.wait_for_selector("[data-stage][data-exact=true]", timeout=15_000)
                    tab.wait_for_load_state("networkidle")
                    tab.screenshot(path=OUTPUT / f"{name}-{theme}-{width}.png")
                context.close()
        browser.close()
    print(*dict.fromkeys(complaints), sep="\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["shots"]:
        sys.exit(shots(sys.argv[2:]))
    with serving() as address:
        print(f"{address}/page/worklist")
        threading.Event().wait()
