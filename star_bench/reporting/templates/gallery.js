/* The overview: filters, order, keys, and the part of the address that says all of this, so that a view can be linked. */
const form = document.querySelector(".tools");
const gallery = document.querySelector(".gallery");
const keys = document.querySelector(".keys");
const entries = JSON.parse(document.querySelector("#data").textContent).map((image, index) => ({ image, index, card: gallery.children[index] }));
const entryOf = new Map(entries.map((entry) => [entry.card, entry]));
const families = new Map();
for (const entry of entries) {
  families.set(entry.image.id, [...(families.get(entry.image.id) ?? []), entry]);
  entry.words = `${entry.card.querySelector(".prompt").textContent} ${entry.image.id}`.toLowerCase();
  entry.picture = entry.card.querySelector(".picture");
  entry.picture.tabIndex = -1;
  if (entry.picture.localName !== "a") {
    entry.picture.setAttribute("role", "button");
    entry.picture.setAttribute("aria-label", `${entry.picture.textContent}: ${entry.card.querySelector(".prompt").textContent}`);
  }
}

const value = (entry, direction) => ("value" in entry.image ? direction * entry.image.value : Infinity);
const byPrompt = (a, b) => a.index - b.index;
const first = (entry) => families.get(entry.image.id)[0].index;
/* Of changes between two runs: first all in one direction (sign), then all in the other, the largest first. */
const changed = (sign) => (a, b) =>
  (b.image.value !== 0) - (a.image.value !== 0) || sign * (Math.sign(b.image.value) - Math.sign(a.image.value)) || Math.abs(b.image.value) - Math.abs(a.image.value) || byPrompt(a, b);
const ORDERS = {
  prompt: byPrompt,
  ranked: (a, b) => first(a) - first(b) || value(a, -1) - value(b, -1) || byPrompt(a, b),
  worst: (a, b) => value(a, 1) - value(b, 1) || byPrompt(a, b),
  best: (a, b) => value(a, -1) - value(b, -1) || byPrompt(a, b),
  fallen: changed(-1),
  risen: changed(1),
};
const CONTROLS = ["verdict", "tag", "min", "max", "order", "q"].filter((name) => form.elements[name]);
const USUAL = { order: form.elements.order.options[0].value }; /* a page names its usual order first */
let order = "prompt";
let shown = entries;
let current = null; /* the entry that has the focus, or had it last */
let looked = null; /* the entry that is open, or was last */

/* Ranges are of scores as they are printed: 0.19999999 is 0.2 to a reader. */
const printed = (number) => Number(number.toFixed(4));

function filter(wanted) {
  const words = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
  const low = wanted.min ? Number(wanted.min) : -Infinity;
  const high = wanted.max ? Number(wanted.max) : Infinity;
  const ranged = low > -Infinity || high < Infinity;
  return ({ image, words: text }) =>
    (!wanted.verdict || image.verdict === wanted.verdict) &&
    (!wanted.tag || image.tag === wanted.tag) &&
    (!ranged || ("value" in image && printed(image.value) >= low && printed(image.value) <= high)) &&
    words.every((word) => text.includes(word));
}

function wantedNow() {
  return { verdict: "", tag: "", min: "", max: "", order: "prompt", q: "", ...Object.fromEntries(CONTROLS.map((name) => [name, form.elements[name].value])) };
}

function apply() {
  const wanted = wantedNow();
  const fits = filter(wanted);
  if (wanted.order !== order) {
    order = wanted.order;
    gallery.append(...entries.sort(ORDERS[order]).map((entry) => entry.card));
  }
  shown = entries.filter(fits);
  const visible = new Set(shown);
  for (const entry of entries) entry.card.hidden = !visible.has(entry);
  for (const bin of document.querySelectorAll(".bin")) {
    const { least, greatest } = bin.dataset;
    bin.classList.toggle("outside", Boolean((wanted.min && Number(greatest) < Number(wanted.min)) || (wanted.max && Number(least) > Number(wanted.max))));
  }
  form.querySelector("output").textContent = `${shown.length} of ${entries.length} shown`;
  document.querySelector(".nothing").hidden = shown.length > 0;
  mark(visible.has(current) ? current : (shown[0] ?? null));
  remember();
}

/* Of all pictures one takes part in the order of Tab; arrows go to the others. */
function mark(entry) {
  if (current) current.picture.tabIndex = -1;
  current = entry;
  if (current) current.picture.tabIndex = 0;
}

function remember() {
  const state = new URLSearchParams();
  for (const [name, text] of Object.entries(wantedNow())) if (text && text !== USUAL[name]) state.set(name, text);
  if (viewer.open) state.set("image", `${looked.image.id}/${looked.image.k}`);
  const part = String(state) && `#${state}`;
  if (part !== location.hash) history.replaceState(null, "", part || location.pathname + location.search);
}

/* What the address asks for and this page has; the rest of it is ignored, as of a link to a section. */
function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  form.reset();
  for (const name of CONTROLS) {
    const control = form.elements[name];
    if (state.has(name)) control.value = state.get(name);
    if (control.selectedIndex === -1) control.selectedIndex = 0;
  }
  const asked = entries.find(({ image }) => `${image.id}/${image.k}` === state.get("image"));
  if (asked) mark(asked);
  else viewer.close();
  apply();
  if (asked) open(asked);
}

function open(entry) {
  looked = entry;
  mark(entry);
  const at = shown.indexOf(entry);
  const { id, k } = entry.image;
  showImage(entry, `${at < 0 ? "not among those" : `${at + 1} of ${shown.length}`} shown · prompt ${id}, image ${k}`, families.get(id), open);
  for (const near of [shown[at + 1], shown[at - 1]]) if (at >= 0 && near?.picture.href) new Image().src = near.picture.href;
  remember();
}

function go(to) {
  const entry = shown[Math.min(Math.max(to, 0), shown.length - 1)];
  if (!entry) return;
  if (viewer.open) return open(entry);
  mark(entry);
  entry.picture.focus();
  entry.card.scrollIntoView({ block: "nearest" });
}

const place = () => shown.indexOf(current);
const columns = () => getComputedStyle(gallery).gridTemplateColumns.split(" ").length;
/* Before anything was looked at, a step leads to the first picture. */
const step = (by) => go(viewer.open || document.activeElement === current?.picture ? place() + by : place());
const STEPS = {
  ArrowRight: () => step(1), j: () => step(1), ArrowLeft: () => step(-1), k: () => step(-1), Home: () => go(0), End: () => go(shown.length - 1),
};
const ROWS = { ArrowDown: () => step(columns()), ArrowUp: () => step(-columns()) };
const PLAIN = {
  b: () => toggle("boxes"), m: () => toggle("masks"), s: () => toggle("maps"), "?": () => keys.showModal(),
};
const OVERVIEW = {
  f: () => form.querySelector("input:checked, select").focus(),
  "/": () => form.elements.q.focus(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=radio]), select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const inOverview = !viewer.open;
  const atPictures = inOverview && gallery.contains(document.activeElement);
  const radio = event.target.matches("input[type=radio]") && event.key.startsWith("Arrow");
  let action = { ...PLAIN, ...(inOverview ? OVERVIEW : {}) }[event.key];
  /* Arrows scroll the page, and move between chips, until a picture has the focus; j and k always go to one. */
  if (!radio && (viewer.open || atPictures || "jk".includes(event.key))) action ??= STEPS[event.key];
  if (atPictures) action ??= ROWS[event.key];
  if (inOverview && /^[1-9]$/.test(event.key)) {
    const chip = form.querySelectorAll("input[type=radio]")[event.key - 1];
    action = chip && (() => chip.click());
  }
  if (atPictures && [" ", "Enter"].includes(event.key) && document.activeElement.matches(".picture")) action = () => open(current);
  if (!action) return;
  event.preventDefault();
  action();
});

gallery.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (!card || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (getSelection().isCollapsed || event.target.closest(".picture")) open(entryOf.get(card));
});
gallery.addEventListener("focusin", (event) => {
  const card = event.target.closest(".card");
  if (card) mark(entryOf.get(card));
});
document.querySelector(".histogram")?.addEventListener("click", (event) => {
  const bin = event.target.closest(".bin");
  if (!bin) return;
  const { least, greatest } = bin.dataset;
  const already = form.elements.min.value === least && form.elements.max.value === greatest;
  form.elements.min.value = already ? "" : least;
  form.elements.max.value = already ? "" : greatest;
  apply();
});
document.querySelector("button[name=all]").addEventListener("click", () => {
  form.reset();
  apply();
});
form.elements.keys.addEventListener("click", () => keys.showModal());
form.addEventListener("input", apply);
form.addEventListener("submit", (event) => event.preventDefault());

const BUTTONS = {
  previous: () => step(-1), next: () => step(1), close: () => viewer.close(), boxes: () => toggle("boxes"), masks: () => toggle("masks"),
  maps: () => toggle("maps"),
};
for (const button of viewer.querySelectorAll("header button")) button.addEventListener("click", BUTTONS[button.name]);
for (const dialog of [viewer, keys]) {
  /* A click beside a dialog is one on the dialog itself, outside of what is in it. */
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
/* A finger drawn across the picture turns the page. */
let touched = null;
const look = viewer.querySelector(".look");
look.addEventListener("touchstart", (event) => { touched = event.touches.length === 1 && !event.target.closest(".frames") ? event.touches[0].clientX : null; }, { passive: true });
look.addEventListener("touchend", (event) => {
  const way = touched === null ? 0 : event.changedTouches[0].clientX - touched;
  if (Math.abs(way) > 48) step(way < 0 ? 1 : -1);
}, { passive: true });
viewer.addEventListener("close", () => {
  /* The browser gives the focus back to where it was before; the image that was looked at last has a better claim. */
  if (!looked.card.hidden) go(shown.indexOf(looked));
  remember();
});
addEventListener("hashchange", recall);

form.hidden = false;
recall();
