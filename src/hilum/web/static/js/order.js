// Keys of the order page, and the note that images came in, or were taken out of use, since it was opened.

import { keysAreFor } from "./keys.js";

const COMMANDS = {
  c: () => {
    const chain = document.querySelector(".chain-section");
    chain.open = !chain.open;
  },
  e: () => document.querySelector("#report .primary")?.click(),
  o: () => document.querySelector("[data-ohif]")?.click(),
  u: () => document.querySelector(".brand").click(),
};

document.addEventListener("keydown", (event) => {
  const command = keysAreFor(event) && COMMANDS[event.key];
  if (!command) return;
  event.preventDefault();
  command();
});

const images = () => Number(document.getElementById("chain-body")?.dataset.images ?? 0);
const opened = images();

document.body.addEventListener("htmx:afterSwap", () => {
  const more = images() - opened;
  const note = document.querySelector("[data-images-new]");
  if (!note || more === 0) return;
  const count = `${Math.abs(more)}${more > 0 ? " new" : ""} image${Math.abs(more) > 1 ? "s" : ""}`;
  note.querySelector("[data-images-new-text]").textContent =
    more > 0 ? `${count} arrived.` : `${count} shown here must not be used any more.`;
  note.hidden = false;
});
