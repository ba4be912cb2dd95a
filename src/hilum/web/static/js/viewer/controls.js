// Mouse, touch and keyboard of one viewer.

const SCROLL_PIXELS = 9;
const WHEEL_NOTCH = 60;

export function connect(viewer) {
  pointer(viewer);
  wheel(viewer);
  buttons(viewer);
}

// Left drag does what the chosen tool says; the right button zooms, the middle one pans, whatever the tool.
function pointer(viewer) {
  const { stage } = viewer;
  let drag = null;
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("pointerdown", (event) => {
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    const tool = { 1: "pan", 2: "zoom" }[event.button] ?? viewer.tool;
    drag = { tool, x: event.clientX, y: event.clientY, window: viewer.windowToDrag, index: viewer.index, last: event };
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const ratio = devicePixelRatio || 1;
    const dx = event.clientX - drag.x;
    const dy = event.clientY - drag.y;
    const stepX = event.clientX - drag.last.clientX;
    const stepY = event.clientY - drag.last.clientY;
    drag.last = event;
    if (drag.tool === "window" && drag.window) viewer.dragWindow(drag.window, dx, dy);
    else if (drag.tool === "scroll") viewer.showFrame(drag.index + Math.round(dy / SCROLL_PIXELS));
    else if (drag.tool === "pan") viewer.panBy(stepX * ratio, stepY * ratio);
    else if (drag.tool === "zoom") viewer.zoomBy(Math.exp(-stepY / 150));
  });
  const end = () => { drag = null; };
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", end);
}

function wheel(viewer) {
  let rest = 0;
  viewer.stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) {
      const ratio = devicePixelRatio || 1;
      const box = viewer.stage.getBoundingClientRect();
      viewer.zoomBy(Math.exp(-event.deltaY / 300), (event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio);
      return;
    }
    rest += event.deltaMode === 1 ? event.deltaY * WHEEL_NOTCH : event.deltaY;
    const steps = Math.abs(rest) >= WHEEL_NOTCH ? Math.trunc(rest / WHEEL_NOTCH) : 0;
    if (!steps) return;
    rest -= steps * WHEEL_NOTCH;
    viewer.showFrame(viewer.index + steps);
  }, { passive: false });
}

function buttons(viewer) {
  const { root } = viewer;
  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-series], [data-tool], [data-do]");
    if (!button) return;
    if (button.dataset.series) viewer.showSeries(Number(button.dataset.series));
    else if (button.dataset.tool) viewer.setTool(button.dataset.tool);
    else viewer[button.dataset.do]();
  });
  viewer.part("preset").addEventListener("change", (event) => {
    const [center, width] = event.target.value.split(",").map(Number);
    viewer.setWindow(event.target.value ? { center, width } : null);
    viewer.stage.focus();
  });
  viewer.part("scrubber").addEventListener("input", (event) => viewer.showFrame(Number(event.target.value) - 1));
}

const TOOL_KEYS = { w: "window", s: "scroll", p: "pan", z: "zoom" };

// Returns true if the key meant something here.
export function press(viewer, key) {
  const page = Math.max(5, Math.round(viewer.stack.length / 10));
  const moves = {
    ArrowUp: () => viewer.showFrame(viewer.index - 1),
    ArrowLeft: () => viewer.showFrame(viewer.index - 1),
    ArrowDown: () => viewer.showFrame(viewer.index + 1),
    ArrowRight: () => viewer.showFrame(viewer.index + 1),
    PageUp: () => viewer.showFrame(viewer.index - page),
    PageDown: () => viewer.showFrame(viewer.index + page),
    Home: () => viewer.showFrame(0),
    End: () => viewer.showFrame(Infinity),
    "[": () => viewer.showSeries(viewer.series - 1),
    "]": () => viewer.showSeries(viewer.series + 1),
    "+": () => viewer.zoomBy(1.25),
    "=": () => viewer.zoomBy(1.25),
    "-": () => viewer.zoomBy(0.8),
    i: () => viewer.invert(),
    f: () => viewer.fit(),
    r: () => (viewer.retry(), viewer.reset()),
    0: () => viewer.setWindow(null),
  };
  if (/^[1-6]$/.test(key)) viewer.preset(Number(key));
  else if (TOOL_KEYS[key]) viewer.setTool(TOOL_KEYS[key]);
  else if (moves[key]) moves[key]();
  else return false;
  return true;
}
