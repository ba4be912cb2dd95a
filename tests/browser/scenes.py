"""What a person does on the pages, step by step, with a picture at each end: `python tests/browser/scenes.py`."""

from __future__ import annotations

import sys

from playwright.sync_api import Page, expect, sync_playwright
from preview import ARGUMENTS, CHROMIUM, OUTPUT, serving

EXACT = "[data-stage][data-exact=true]"


def scroll_and_window(tab: Page) -> None:
    tab.wait_for_selector(EXACT)
    stage = tab.locator("[data-stage]").first
    stage.focus()
    for _ in range(44):
        tab.keyboard.press("ArrowDown")
    expect(tab.locator("[data-frame-text]").first).to_contain_text("45 of 120")
    tab.keyboard.press("2")
    expect(tab.locator("[data-window-text]").first).to_contain_text("C -600")
    tab.wait_for_selector(EXACT)


def drag_window(tab: Page) -> None:
    tab.wait_for_selector(EXACT)
    box = tab.locator("[data-stage]").first.bounding_box()
    assert box
    tab.mouse.move(box["x"] + 200, box["y"] + 200)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 420, box["y"] + 120, steps=6)
    assert tab.locator("[data-stage]").first.get_attribute("data-exact") == "false"
    tab.screenshot(path=OUTPUT / "scene-preview-before-exact.png")
    tab.mouse.up()
    tab.wait_for_selector(EXACT)


def wheel_zoom(tab: Page) -> None:
    tab.wait_for_selector(EXACT)
    box = tab.locator("[data-stage]").first.bounding_box()
    assert box
    tab.mouse.move(box["x"] + 300, box["y"] + 220)
    for _ in range(5):
        tab.mouse.wheel(0, 120)
    expect(tab.locator("[data-frame-text]").first).to_contain_text("11 of 120")
    for _ in range(4):
        tab.keyboard.press("+")
    tab.keyboard.press("i")
    tab.wait_for_selector(EXACT)


def show_differences(tab: Page) -> None:
    tab.locator(".diff summary").first.click()
    tab.locator("details.version summary").first.click()
    tab.locator("[data-stage]").first.focus()
    tab.keyboard.press("c")
    expect(tab.locator(".chain-section")).not_to_have_attribute("open", "")
    tab.keyboard.press("c")
    tab.locator(".chain-table summary").click()


def move_by_keys(tab: Page) -> None:
    for _ in range(3):
        tab.keyboard.press("j")
    tab.keyboard.press("k")
    expect(tab.locator("#open-r2")).to_be_focused()
    tab.wait_for_timeout(200)


def search(tab: Page) -> None:
    tab.keyboard.press("/")
    tab.keyboard.type("hollo")
    expect(tab.locator("[data-row]")).to_have_count(3)
    expect(tab.locator("#filter-text")).to_be_focused()
    tab.keyboard.press("ArrowDown")
    expect(tab.locator("#open-r2")).to_be_focused()
    tab.wait_for_timeout(6000)
    expect(tab.locator("#open-r2")).to_be_focused()


def open_help(tab: Page) -> None:
    tab.keyboard.press("?")
    expect(tab.locator("#help")).to_be_visible()


def type_and_sign(tab: Page) -> None:
    tab.locator("#section-impression").fill("Stable nodule.")
    expect(tab.locator("[data-save-state]")).to_have_text("Not saved yet")
    expect(tab.locator("[data-save-state]")).to_contain_text("Saved 08:47:20")
    expect(tab.locator("input[data-revision]").first).to_have_value("5")
    assert tab.evaluate("Object.keys(sessionStorage).filter(key => key.startsWith('hilum.'))") == []
    tab.keyboard.press("Control+Enter")
    expect(tab.locator("#sign")).to_be_visible()


def type_conflict(tab: Page) -> None:
    tab.locator("#section-findings").fill("CONFLICT: my own words.")
    expect(tab.locator(".conflict")).to_be_visible()
    assert "my own words" in tab.evaluate("sessionStorage.getItem('hilum.draft.rep-7')")


def settle_conflict(tab: Page) -> None:
    type_conflict(tab)
    tab.get_by_role("button", name="Keep both").click()
    expect(tab.locator("[data-save-state]")).to_contain_text("Saved")
    assert "my own words" in tab.locator("#section-findings").input_value()
    assert "Bones" in tab.locator("#section-findings").input_value()


def lose_connection(tab: Page) -> None:
    tab.route("**/reports/**", lambda route: route.abort())
    tab.locator("#section-impression").fill("Typed without a network.")
    expect(tab.locator("[data-save-state]")).to_contain_text("No connection")
    tab.unroute("**/reports/**")
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.evaluate("sessionStorage.getItem('hilum.draft.rep-7')")
    tab.reload()
    expect(tab.locator("[data-recovered]")).to_be_visible()
    assert tab.locator("#section-impression").input_value() == "Typed without a network."
    expect(tab.locator("[data-save-state]")).to_contain_text("Saved")


def sign_unverified(tab: Page) -> None:
    tab.locator("#reason").fill("Side corrected.")
    tab.keyboard.press("Control+Enter")
    expect(tab.locator("[data-identity-checked]")).to_be_focused()
    tab.keyboard.press("Control+Enter")
    expect(tab.locator("#sign")).to_be_visible()


def find_candidates(tab: Page) -> None:
    tab.get_by_text("Link to order…").nth(1).click()
    tab.locator("#find-x2").press_sequentially("hollo")
    expect(tab.locator("#candidates-x2 .candidate")).to_have_count(2)
    tab.locator("#candidates-x2 input").first.check()


SCENES = {
    "scroll": ("order", scroll_and_window),
    "drag": ("order", drag_window),
    "zoom": ("order", wheel_zoom),
    "differences": ("order", show_differences),
    "keys": ("worklist", move_by_keys),
    "search": ("worklist", search),
    "help": ("order", open_help),
    "sign": ("editor", type_and_sign),
    "conflict": ("editor", type_conflict),
    "settle": ("editor", settle_conflict),
    "offline": ("editor", lose_connection),
    "sign-unverified": ("editor-correction", sign_unverified),
    "candidates": ("exceptions", find_candidates),
}


def play_scenes(names: list[str]) -> int:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    failures = 0
    with serving() as root, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for number, name in enumerate(names or SCENES):
            page, scene = SCENES[name]
            context = browser.new_context(
                viewport={"width": 1280, "height": 800}, color_scheme=["dark", "light"][number % 2]
            )
            context.set_default_timeout(8000)
            tab = context.new_page()
            tab.on("pageerror", lambda error, name=name: print(name, "page error:", error))
            tab.on("console", lambda line, name=name: print(name, line.text) if line.type == "error" else None)
            tab.goto(f"{root}/page/{page}")
            try:
                scene(tab)
            except Exception as error:
                failures += 1
                print(f"{name}: {error}")
            tab.screenshot(path=OUTPUT / f"scene-{name}.png")
            context.close()
        browser.close()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(play_scenes(sys.argv[1:]))
