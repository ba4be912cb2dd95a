// Single-letter shortcuts: when they may act, and whether the person wants them (WCAG 2.1.4).

const SETTING = "hilum.single-keys";

export const singleKeysAllowed = () => localStorage.getItem(SETTING) !== "off";

export function allowSingleKeys(allowed) {
  localStorage.setItem(SETTING, allowed ? "on" : "off");
}

const isTyping = (element) =>
  element.matches("textarea, select, [contenteditable], input:not([type=range], [type=checkbox], [type=radio])");

// True when a bare key is meant as a command. They never act while typing or under a dialog.
export function keysAreFor(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return false;
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return false;
  return event.key.length > 1 || singleKeysAllowed();
}
