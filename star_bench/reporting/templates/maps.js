/* Where an advantage would go: a picture's allocation maps over it, one for each denoising step. */
const MAPS = JSON.parse(document.querySelector("#maps")?.textContent ?? "null");
let mapStep = 0; /* kept from picture to picture */
let chooseMap = null; /* shows another step of the open picture; null where it has no maps */

/* One map of a strip, whose maps lie below each other. */
function tile([url, width, height], step) {
  return make(
    "svg:svg", { viewBox: `0 ${step * height} ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    make("svg:image", { href: url, width, height: height * MAPS.sigmas.length, preserveAspectRatio: "none" }),
  );
}

/* The scale from 0 to the greatest weight that has a colour of its own. */
function mapScale() {
  const bar = make("span", { class: "colours" });
  bar.style.background = `linear-gradient(90deg, ${MAPS.colours.join(", ")})`;
  const one = make("span", { class: "one" });
  one.style.left = `${100 / MAPS.top}%`;
  bar.append(one);
  return make("p", { class: "scale fine" }, "weight 0", bar, `${MAPS.top} or more; the mark is 1, as Flow-GRPO`);
}

/* stage: holds the picture, to which the map is added below boxes and masks. */
function film(maps, stage) {
  const strip = viewer.querySelector(".film");
  chooseMap = null;
  if (!strip) return;
  strip.hidden = !maps;
  if (!maps) return;
  const layer = make("div", { class: "map" });
  stage.querySelector("img").after(layer);
  const said = make("p", { class: "step", "aria-live": "polite" });
  const buttons = MAPS.sigmas.map((sigma, step) => {
    const name = `step ${step + 1}, sigma ${sigma.toFixed(3)}`;
    const button = make("button", { type: "button", title: name, "aria-label": name }, tile(maps, step), make("span", { "aria-hidden": "true" }, String(step + 1)));
    button.addEventListener("click", () => chooseMap(step));
    return button;
  });
  chooseMap = (step) => {
    mapStep = Math.min(Math.max(step, 0), buttons.length - 1);
    layer.replaceChildren(tile(maps, mapStep));
    buttons.forEach((button, i) => (i === mapStep ? button.setAttribute("aria-current", "true") : button.removeAttribute("aria-current")));
    said.textContent = `Step ${mapStep + 1} of ${buttons.length}, sigma ${MAPS.sigmas[mapStep].toFixed(3)} · words: ${maps[3]}`;
  };
  strip.replaceChildren(said, make("div", { class: "frames", role: "group", "aria-label": "Denoising steps" }, ...buttons), mapScale());
  chooseMap(mapStep);
}

document.addEventListener("keydown", (event) => {
  const by = { "[": -1, "]": 1 }[event.key];
  if (by && chooseMap && viewer.open && viewer.hasAttribute("data-maps") && !event.ctrlKey && !event.metaKey) chooseMap(mapStep + by);
});
