// Starts each viewer of the page; keys go to the one last used.

import { keysAreFor } from "../keys.js";
import { connect, press } from "./controls.js";
import { Viewer } from "./viewer.js";

const viewers = [...document.querySelectorAll("[data-viewer]")].map((root) => new Viewer(root));
let active = viewers[0];

for (const viewer of viewers) {
  connect(viewer);
  const use = () => { active = viewer; };
  viewer.root.addEventListener("focusin", use);
  viewer.root.addEventListener("pointerdown", use);
}

// Arrow keys belong to the images only where nothing else wants them.
const ELSEWHERE = "a, summary, button, input, .side *";

document.addEventListener("keydown", (event) => {
  if (!active || !keysAreFor(event)) return;
  const inside = event.target.closest("[data-stage]");
  if (!inside && event.key.length > 1 && event.target.matches(ELSEWHERE)) return;
  if (press(active, event.key)) event.preventDefault();
});
