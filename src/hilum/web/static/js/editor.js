// The report editor: text is kept in this tab until the server has said it is saved, so that nothing typed is lost.

const DEBOUNCE_MS = 900;
const RETRY_MS = 5_000;
const KEEPALIVE_LIMIT = 60_000;

const form = document.querySelector("[data-editor]");
const texts = [...form.querySelectorAll("[data-text]")];
const revision = form.querySelector("[data-revision]");
const saveState = form.querySelector("[data-save-state]");
const storageKey = `hilum.draft.${form.dataset.report}`;
const signDialog = document.getElementById("sign");
const discardDialog = document.getElementById("discard");

let typed = 0;
let saved = 0;
let running = null;
let timer = null;
let conflict = false;
let leaving = false;

const values = () => Object.fromEntries(texts.map((text) => [text.name, text.value]));
const isDirty = () => typed !== saved;

function say(text, tone = "") {
  saveState.textContent = text;
  saveState.dataset.tone = tone;
}

function setRevision(value) {
  for (const field of document.querySelectorAll("input[data-revision]")) field.value = value;
}

function keepLocally() {
  try {
    sessionStorage.setItem(storageKey, JSON.stringify({ revision: revision.value, values: values() }));
  } catch {
    say("This tab cannot keep a copy: do not close it before the text is saved", "bad");
  }
}

function onInput() {
  typed += 1;
  keepLocally();
  say("Not saved yet", "busy");
  clearTimeout(timer);
  timer = setTimeout(save, DEBOUNCE_MS);
}

function body() {
  const data = new URLSearchParams({ ...values(), revision: revision.value });
  data.set("csrf_token", form.elements.csrf_token.value);
  return data;
}

// One save at a time; what is typed meanwhile goes with the next.
async function save() {
  clearTimeout(timer);
  if (conflict || !isDirty()) return !conflict;
  if (running) {
    await running;
    return save();
  }
  running = send();
  try {
    return await running;
  } finally {
    running = null;
  }
}

async function send() {
  const sending = typed;
  say("Saving…", "busy");
  let response;
  try {
    response = await fetch(form.dataset.save, { method: "POST", body: body(), redirect: "manual" });
  } catch {
    return retryLater("No connection. The text is kept in this tab, trying again");
  }
  const html = await response.text();
  if (response.status === 409) return showConflict(html);
  if (response.status === 401 || response.status === 403 || response.type === "opaqueredirect") {
    return retryLater("You are signed out. Sign in in another tab: the text is kept here and will be saved");
  }
  if (response.status === 413 || response.status === 422) return refuse("Refused: the text is too long");
  if (!response.ok) return retryLater(`The server could not save (${response.status}). Trying again`);
  return accept(html, sending);
}

function accept(html, sending) {
  const answer = parse(html).querySelector("[data-revision]");
  setRevision(answer.dataset.revision);
  saved = sending;
  if (isDirty()) {
    keepLocally();
    timer = setTimeout(save, DEBOUNCE_MS);
  } else {
    sessionStorage.removeItem(storageKey);
  }
  say(answer.textContent);
  return true;
}

function refuse(words) {
  say(words, "bad");
  return false;
}

function retryLater(words) {
  clearTimeout(timer);
  timer = setTimeout(save, RETRY_MS);
  return refuse(words);
}

function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

function showConflict(html) {
  conflict = true;
  if (!parse(html).querySelector(".conflict")) {
    return refuse("The draft was signed or discarded by someone else. Your text is kept in this tab");
  }
  const place = form.querySelector("[data-conflict-place]");
  place.replaceChildren(parse(html));
  place.scrollIntoView({ block: "nearest" });
  const box = place.querySelector(".conflict");
  for (const button of box.querySelectorAll("[data-keep]")) {
    button.addEventListener("click", () => settle(box, button.dataset.keep));
  }
  return refuse("Someone else changed this text");
}

// "mine" keeps what is in the fields now, also what was typed after the conflict showed.
function settle(box, choice) {
  for (const theirs of box.querySelectorAll("[data-theirs]")) {
    const field = form.elements[`section.${theirs.dataset.theirs}`];
    const other = theirs.content.textContent;
    if (!field || choice === "mine" || field.value === other) continue;
    field.value = choice === "theirs" ? other : `${field.value}\n\n${other}`.trim();
  }
  setRevision(box.dataset.revision);
  box.remove();
  conflict = false;
  typed += 1;
  keepLocally();
  save();
  texts[0].focus();
}

function recover() {
  let kept;
  try {
    kept = JSON.parse(sessionStorage.getItem(storageKey) ?? "null");
  } catch {
    kept = null;
  }
  if (!kept) return;
  const server = values();
  const serverRevision = revision.value;
  if (texts.every((text) => kept.values[text.name] === undefined || kept.values[text.name] === text.value)) {
    sessionStorage.removeItem(storageKey);
    return;
  }
  for (const text of texts) text.value = kept.values[text.name] ?? text.value;
  // The kept revision goes with the kept text: if the server moved on meanwhile, both texts are shown.
  setRevision(kept.revision);
  const note = form.querySelector("[data-recovered]");
  note.hidden = false;
  note.querySelector("[data-recover-undo]").addEventListener("click", () => {
    for (const text of texts) text.value = server[text.name];
    if (!conflict && Number(revision.value) < Number(serverRevision)) setRevision(serverRevision);
    note.hidden = true;
    onInput();
  });
  onInput();
}

// --- signing ---------------------------------------------------------------------------------------------------

function openSign(state) {
  if (signDialog.open || !form.querySelector("[data-sign]")) return;
  if (!form.reportValidity()) return;
  form.querySelector("[data-sign-state]").value = state;
  signDialog.querySelector("[data-sign-words]").textContent = state;
  signDialog.querySelector("[data-sign-problem]").hidden = true;
  save();
  signDialog.showModal();
  signDialog.querySelector("[data-identity-checked], [data-sign-confirm]").focus();
}

async function confirmSign() {
  const button = signDialog.querySelector("[data-sign-confirm]");
  if (button.disabled || !signDialog.querySelector("form").reportValidity()) return;
  const password = signDialog.querySelector("[data-password]");
  if (password && !password.value) return password.focus();
  button.disabled = true;
  const ready = (await save()) && !isDirty();
  if (ready) {
    leaving = true;
    return form.submit();
  }
  button.disabled = false;
  const problem = signDialog.querySelector("[data-sign-problem]");
  problem.textContent = `Not signed. ${saveState.textContent}.`;
  problem.hidden = false;
}

for (const button of form.querySelectorAll("[data-sign]")) {
  button.addEventListener("click", () => openSign(button.dataset.sign));
}
form.addEventListener("submit", (event) => {
  event.preventDefault();
  openSign("final");
});
signDialog.querySelector("[data-password]")?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  confirmSign();
});
signDialog.addEventListener("submit", (event) => {
  if (event.submitter?.value !== "sign") return;
  event.preventDefault();
  confirmSign();
});
form.querySelector("[data-discard-open]").addEventListener("click", () => discardDialog.showModal());
discardDialog.querySelector("[data-close]").addEventListener("click", () => discardDialog.close());
discardDialog.querySelector("[data-discard]").addEventListener("submit", () => {
  leaving = true;
  clearTimeout(timer);
  sessionStorage.removeItem(storageKey);
});

// --- keys, leaving ---------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key === "Enter") {
    event.preventDefault();
    if (signDialog.open) confirmSign();
    else if (!discardDialog.open) openSign("final");
  } else if (command && event.key.toLowerCase() === "s") {
    event.preventDefault();
    save();
  } else if (event.altKey && event.key === "ArrowUp") {
    event.preventDefault();
    document.querySelector("[data-stage]")?.focus();
  } else if (event.altKey && event.key === "ArrowDown") {
    event.preventDefault();
    texts.at(-1).focus();
  }
});

for (const text of texts) text.addEventListener("input", onInput);
addEventListener("online", save);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) save();
});
addEventListener("beforeunload", (event) => {
  if (!leaving && isDirty()) event.preventDefault();
});
// A last try for someone who leaves all the same; the copy in the tab stays, since nobody hears the answer.
addEventListener("pagehide", () => {
  if (leaving || conflict || !isDirty() || body().toString().length >= KEEPALIVE_LIMIT) return;
  fetch(form.dataset.save, { method: "POST", body: body(), keepalive: true });
});
recover();
