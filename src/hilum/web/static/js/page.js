// What every page does: colours, help, remembered panels, ageing times, and polling that stays out of the way.

import { keysAreFor, singleKeysAllowed, allowSingleKeys } from "./keys.js";

const THEMES = ["auto", "dark", "light"];
const YEAR_SECONDS = 31_536_000;

function nextTheme(button) {
  const root = document.documentElement;
  const theme = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `hilum_theme=${theme}; Path=/; Max-Age=${YEAR_SECONDS}; SameSite=Lax${secure}`;
  button.querySelector("[data-theme-label]").textContent = theme[0].toUpperCase() + theme.slice(1);
  button.setAttribute("aria-label", `Colours: ${theme}. Change`);
}

function durationText(milliseconds) {
  const minutes = Math.floor(milliseconds / 60_000);
  if (minutes < 1) return `${Math.max(0, Math.floor(milliseconds / 1000))} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 && days < 7 ? `${days} d ${hours % 24} h` : `${days} d`;
}

function ageTimes() {
  for (const element of document.querySelectorAll("time[data-age]")) {
    const text = durationText(Date.now() - Date.parse(element.dateTime));
    if (element.textContent !== text) element.textContent = text;
  }
}

function rememberPanels() {
  for (const panel of document.querySelectorAll("details[data-remember]")) {
    const key = `hilum.open.${panel.dataset.remember}`;
    const kept = localStorage.getItem(key);
    if (kept !== null) panel.open = kept === "1";
    panel.addEventListener("toggle", () => localStorage.setItem(key, panel.open ? "1" : "0"));
  }
}

// A person who selects text, fills in a form in the part, or looks at another tab is not disturbed by a refresh.
function inUse(part) {
  if (document.hidden || document.querySelector("dialog[open]")) return true;
  const selection = getSelection();
  if (!selection.isCollapsed && part.contains(selection.anchorNode)) return true;
  const focused = document.activeElement;
  return part.contains(focused) && focused.matches("input, textarea, select");
}

function keepDetailsOpen(part, replacement) {
  for (const open of part.querySelectorAll("details[open]")) {
    const same = open.id ? replacement.getElementById(open.id) : replacement.querySelector(`details.${open.className}`);
    if (same) same.setAttribute("open", "");
  }
}

function polling() {
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    const { elt, requestConfig } = event.detail;
    if (elt.matches("[data-poll]") && !requestConfig.triggeringEvent && inUse(elt)) event.preventDefault();
  });
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const { target, serverResponse, xhr } = event.detail;
    if (xhr.status === 401) return location.reload();
    if (!target.matches("[data-poll]")) return;
    const replacement = document.createElement("template");
    replacement.innerHTML = serverResponse;
    keepDetailsOpen(target, replacement.content);
    event.detail.serverResponse = replacement.innerHTML;
  });
  document.body.addEventListener("htmx:afterRequest", (event) => {
    const failed = !event.detail.successful;
    for (const mark of document.querySelectorAll("[data-stale]")) mark.hidden = !failed;
    for (const mark of document.querySelectorAll("[data-pulse]")) {
      mark.hidden = failed;
      mark.classList.remove("beat");
      requestAnimationFrame(() => mark.classList.add("beat"));
    }
  });
}

function help() {
  const dialog = document.getElementById("help");
  if (!dialog) {
    document.querySelector("[data-help-open]")?.setAttribute("hidden", "");
    return;
  }
  const single = dialog.querySelector("[data-single-keys]");
  single.checked = singleKeysAllowed();
  single.addEventListener("change", () => allowSingleKeys(single.checked));
  document.querySelector("[data-help-open]")?.addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.key === "?" && keysAreFor(event)) {
      event.preventDefault();
      dialog.showModal();
    }
  });
}

document.querySelector("[data-theme-toggle]")?.addEventListener("click", (event) => nextTheme(event.currentTarget));
rememberPanels();
polling();
help();
setInterval(ageTimes, 10_000);
