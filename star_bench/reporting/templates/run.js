"use strict";
const form = document.querySelector(".tools");
const gallery = document.querySelector(".gallery");
const cards = [...gallery.children];
const value = (card, direction) => (card.dataset.value === "" ? Infinity : direction * Number(card.dataset.value));
const orders = {
  prompt: (a, b) => a.dataset.order - b.dataset.order,
  worst: (a, b) => value(a, 1) - value(b, 1) || orders.prompt(a, b),
  best: (a, b) => value(a, -1) - value(b, -1) || orders.prompt(a, b),
};
let order = "prompt";

function apply() {
  const wanted = new FormData(form);
  const matches = (card, key) => !wanted.get(key) || card.dataset[key] === wanted.get(key);
  let shown = 0;
  for (const card of cards) {
    card.hidden = !(matches(card, "tag") && matches(card, "verdict"));
    shown += !card.hidden;
  }
  if (wanted.get("order") !== order) {
    order = wanted.get("order");
    gallery.append(...cards.sort(orders[order]));
  }
  gallery.classList.toggle("bare", Boolean(form.elements.boxes) && !form.elements.boxes.checked);
  form.querySelector("output").textContent = `${shown} of ${cards.length} shown`;
  document.querySelector(".nothing").hidden = shown > 0;
}

form.hidden = false;
form.addEventListener("input", apply);
form.addEventListener("submit", (event) => event.preventDefault());
apply();
