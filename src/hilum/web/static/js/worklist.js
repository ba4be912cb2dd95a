// The worklist by keyboard, and a word to screen readers when something new arrives.

import { keysAreFor } from "./keys.js";

const links = () => [...document.querySelectorAll("#list .row-link")];
const page = (id) => document.querySelector(`#list a#page-${id}`);
let lastFocused = "";

function move(step) {
  const all = links();
  if (!all.length) return;
  const here = all.findIndex((link) => link === document.activeElement);
  const kept = here >= 0 ? here : all.findIndex((link) => link.id === lastFocused);
  const next = kept < 0 ? 0 : Math.min(Math.max(kept + (here >= 0 ? step : 0), 0), all.length - 1);
  all[next].focus();
  all[next].closest("tr").scrollIntoView({ block: "nearest" });
}

const COMMANDS = {
  j: () => move(1),
  ArrowDown: () => move(1),
  k: () => move(-1),
  ArrowUp: () => move(-1),
  g: () => links()[0]?.focus(),
  o: () => document.activeElement?.closest("[data-row]")?.querySelector("[data-ohif]")?.click(),
  n: () => page("next")?.click(),
  b: () => page("previous")?.click(),
  "/": () => document.getElementById("filter-text").select(),
};

document.addEventListener("keydown", (event) => {
  const search = document.getElementById("filter-text");
  if (event.target === search && (event.key === "Escape" || event.key === "ArrowDown")) {
    event.preventDefault();
    if (event.key === "Escape" && search.value) {
      search.value = "";
      htmx.trigger(search, "input");
    }
    return move(0);
  }
  const command = keysAreFor(event) && COMMANDS[event.key];
  if (!command) return;
  event.preventDefault();
  command();
});

document.addEventListener("focusin", (event) => {
  if (event.target.matches(".row-link")) lastFocused = event.target.id;
});

const known = (root) => new Map([...root.querySelectorAll("[data-row]")].map((row) => [row.id, row.dataset.priority]));
let before = known(document);
let fromPoll = false;

document.body.addEventListener("htmx:beforeSwap", (event) => {
  fromPoll = event.detail.requestConfig.elt.matches("[data-poll]");
});

// Only what a refresh brought is news; a filter the person changed is not.
document.body.addEventListener("htmx:afterSwap", () => {
  const after = known(document);
  const fresh = [...after].filter(([id]) => !before.has(id));
  before = after;
  if (!fromPoll || !fresh.length) return;
  const stat = fresh.filter(([, priority]) => priority === "stat").length;
  document.getElementById("live").textContent =
    `${fresh.length} new ${fresh.length > 1 ? "studies" : "study"}${stat ? `, ${stat} STAT` : ""}`;
});
