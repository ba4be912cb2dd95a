// One study on screen. State is (series, frame, look); everything drawn follows from it and from what has arrived.

import { Surface } from "./canvas.js";
import { FrameStore } from "./frames.js";
import { Stack } from "./stack.js";
import { draggedWindow, sameWindow, windowKey, windowText } from "./window.js";

const AHEAD = 16;
const BEHIND = 4;
const SETTLE_MS = 120;
const SLOW_MS = 200;
const ZOOM_MIN = 0.25;
const ZOOM_MAX = 12;

export class Viewer {
  #store = new FrameStore(() => this.#paintSoon());
  #arrivedWindows = new Map(); // frame → Map(window key → {url, window}) already asked for at this size or another
  #painting = 0;
  #settling = 0;
  #slow = 0;

  constructor(root) {
    this.root = root;
    this.part = (name) => root.querySelector(`[data-${name}]`);
    const model = JSON.parse(this.part("viewer-model").textContent);
    this.stacks = model.series.map((series) => new Stack(series));
    this.stage = this.part("stage");
    this.surface = new Surface(this.part("canvas"));
    this.tool = "window";
    this.look = { window: null, inverted: false, zoom: 1, pan: { x: 0, y: 0 } };
    new ResizeObserver(() => this.#wantAndPaint()).observe(this.stage);
    this.showSeries(0);
  }

  // --- what is on screen -------------------------------------------------------------------------------------

  showSeries(index) {
    if (!this.stacks[index]) return;
    this.series = index;
    this.stack = this.stacks[index];
    this.index = 0;
    this.direction = 1;
    this.#arrivedWindows.clear();
    this.look = { window: null, inverted: false, zoom: 1, pan: { x: 0, y: 0 } };
    for (const [place, thumb] of this.root.querySelectorAll("[data-series]").entries()) {
      if (place === index) thumb.setAttribute("aria-current", "true");
      else thumb.removeAttribute("aria-current");
      if (place === index) thumb.scrollIntoView({ block: "nearest" });
    }
    this.#fillPresets();
    this.part("scrubber").max = this.stack.length;
    for (const side of ["left", "right", "top", "bottom"]) {
      this.root.querySelector(`[data-edge=${side}]`).textContent = this.stack.series.edges?.[side] ?? "";
    }
    this.#wantAndPaint();
  }

  showFrame(index) {
    const next = Math.min(Math.max(index, 0), this.stack.length - 1);
    if (next === this.index) return;
    this.direction = next > this.index ? 1 : -1;
    this.index = next;
    this.#wantAndPaint();
  }

  // null is the window each image has by itself.
  setWindow(window, settled = true) {
    if (!this.stack.isGrey) return;
    this.look.window = window;
    this.#showPreset();
    if (settled) this.#wantAndPaint();
    else {
      this.#paintSoon();
      clearTimeout(this.#settling);
      this.#settling = setTimeout(() => this.#wantAndPaint(), SETTLE_MS);
    }
  }

  preset(number) {
    const preset = this.stack.series.presets[number - 1];
    if (preset) this.setWindow({ center: preset.center, width: preset.width });
  }

  zoomBy(factor, x = this.surface.canvas.width / 2, y = this.surface.canvas.height / 2) {
    const zoom = Math.min(Math.max(this.look.zoom * factor, ZOOM_MIN), ZOOM_MAX);
    const grown = zoom / this.look.zoom;
    const dx = x - this.surface.canvas.width / 2;
    const dy = y - this.surface.canvas.height / 2;
    this.look.pan = { x: dx - (dx - this.look.pan.x) * grown, y: dy - (dy - this.look.pan.y) * grown };
    this.look.zoom = zoom;
    this.#paintSoon();
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#wantAndPaint(), SETTLE_MS);
  }

  panBy(dx, dy) {
    this.look.pan = { x: this.look.pan.x + dx, y: this.look.pan.y + dy };
    this.#paintSoon();
  }

  dragWindow(start, dx, dy) {
    this.setWindow(draggedWindow(start, dx, dy, this.stage.clientWidth), false);
  }

  invert() {
    this.look.inverted = !this.look.inverted;
    this.root.querySelector("[data-do=invert]").setAttribute("aria-pressed", String(this.look.inverted));
    this.#paintSoon();
  }

  fit() {
    this.look.zoom = 1;
    this.look.pan = { x: 0, y: 0 };
    this.#wantAndPaint();
  }

  reset() {
    if (this.look.inverted) this.invert();
    this.look.window = null;
    this.#showPreset();
    this.fit();
  }

  retry() {
    this.#store.forgetFailure(this.#url(this.index));
    this.#wantAndPaint();
  }

  setTool(tool) {
    this.tool = tool;
    for (const button of this.root.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
  }

  get window() {
    return this.look.window ?? this.stack.ownWindow(this.index);
  }

  // Where a drag of the window starts; null for colour.
  get windowToDrag() {
    return this.window ?? this.stack.series.guess;
  }

  // --- asking for frames and painting ------------------------------------------------------------------------

  #pixels(index) {
    const { columns, rows } = this.stack.frames[index].instance;
    return Math.max(columns, rows) * this.surface.fitScale(columns, rows) * Math.max(this.look.zoom, 1);
  }

  #url(index) {
    return this.stack.url(index, this.look.window, this.#pixels(index));
  }

  #wantAndPaint() {
    if (!this.surface.resize()) return;
    const wishes = [this.index, ...this.stack.around(this.index, this.direction, AHEAD, BEHIND)].map((index) => {
      const url = this.#url(index);
      this.#note(index, url);
      return url;
    });
    this.#store.want(wishes);
    this.#paintSoon();
  }

  #note(index, url) {
    const known = this.#arrivedWindows.get(index) ?? new Map();
    known.delete(url);
    known.set(url, this.look.window ?? this.stack.ownWindow(index));
    this.#arrivedWindows.set(index, known);
  }

  #paintSoon() {
    if (!this.#painting) this.#painting = requestAnimationFrame(() => this.#paint());
  }

  // The exact frame if it is here, else the latest of the same frame at another window or size as a preview.
  #best() {
    const url = this.#url(this.index);
    const exact = this.#store.get(url);
    if (exact) return { bitmap: exact, window: this.window, exact: true };
    for (const [other, window] of [...(this.#arrivedWindows.get(this.index) ?? [])].reverse()) {
      const bitmap = this.#store.get(other);
      if (bitmap) return { bitmap, window, exact: false };
    }
    return null;
  }

  #paint() {
    this.#painting = 0;
    if (!this.surface.resize()) return;
    const best = this.#best();
    const { instance } = this.stack.frames[this.index];
    if (best) this.surface.draw(best.bitmap, best.window, instance, { ...this.look, window: this.window, negative: this.stack.series.negative });
    else this.surface.clear();
    this.stage.dataset.exact = String(Boolean(best?.exact));
    this.#tellState(best);
    this.#tellWords(instance);
  }

  #tellState(best) {
    const state = this.part("state");
    const failure = this.#store.failure(this.#url(this.index));
    clearTimeout(this.#slow);
    state.dataset.tone = failure ? "bad" : "";
    state.hidden = !failure;
    if (failure) state.textContent = `This image could not be loaded (${failure}). Press R to try again.`;
    if (failure || best) return;
    this.#slow = setTimeout(() => {
      state.textContent = "Loading…";
      state.hidden = false;
    }, SLOW_MS);
  }

  #tellWords(instance) {
    const { series } = this.stack;
    const frame = this.stack.frames[this.index];
    const words = (name, text) => {
      const element = this.part(name);
      if (element.textContent !== text) element.textContent = text;
    };
    words("series-text", `Series ${series.number}  ${series.description || series.modality}`);
    const within = instance.frames > 1 ? `frame ${frame.number}` : `image ${instance.number}`;
    words("frame-text", `${this.index + 1} of ${this.stack.length}  ${within}`);
    words("window-text", windowText(this.window) || (this.stack.isGrey ? "Fitted window" : ""));
    const scale = this.surface.fitScale(instance.columns, instance.rows) * this.look.zoom;
    words("zoom-text", `${Math.round((100 * scale) / (devicePixelRatio || 1))} %${this.look.inverted ? "  inverted" : ""}`);
    const scrubber = this.part("scrubber");
    scrubber.value = this.index + 1;
    scrubber.setAttribute("aria-valuetext", `${this.index + 1} of ${this.stack.length}`);
  }

  // --- presets -----------------------------------------------------------------------------------------------

  #fillPresets() {
    const select = this.part("preset");
    const { presets } = this.stack.series;
    const grey = this.stack.isGrey;
    select.disabled = !grey;
    select.replaceChildren(
      new Option(grey ? "0  As acquired" : "Colour", ""),
      ...presets.map((preset, place) => new Option(`${place + 1}  ${preset.label}`, windowKey(preset))),
    );
    select.append(Object.assign(new Option("Own window", "own"), { hidden: true }));
    this.#showPreset();
  }

  #showPreset() {
    const { presets } = this.stack.series;
    const match = presets.find((preset) => sameWindow(preset, this.look.window));
    this.part("preset").value = this.look.window ? (match ? windowKey(match) : "own") : "";
  }
}
