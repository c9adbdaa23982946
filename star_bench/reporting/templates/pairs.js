/* Two pictures of one prompt side by side, or in one place: held space, or a finger on B, shows A where B is. */
const viewer = document.querySelector(".viewer");
const NAMES = JSON.parse(document.querySelector("#names").textContent);

/* One side's picture with what its judge saw, to lie in a stage. */
function layer({ picture, detections }, side) {
  const out = make("div", { class: `layer ${side}` });
  if (!picture) {
    out.classList.add("none");
    out.append("picture not kept");
    return out;
  }
  const { src, width, height, small } = picture;
  out.classList.toggle("small", small);
  out.append(make("img", { src, width, height, alt: "", draggable: "false" }));
  if (detections) out.append(overlay(detections, width, height));
  return out;
}

/* layers: what lies in one place, [letter, layer], the last one on top. */
function figure(layers, side) {
  const shown = layers.at(-1)[1].querySelector("img");
  const stage = make("div", { class: "stage" }, ...layers.map(([, element]) => element));
  if (shown) stage.style.setProperty("--ratio", shown.getAttribute("width") / shown.getAttribute("height"));
  const names = layers.map(([letter]) => make("span", { class: letter.toLowerCase(), dir: "auto" }, make("b", {}, letter), ` ${NAMES[letter]}`));
  return make("figure", { class: `held ${side}` }, make("figcaption", {}, ...names), stage);
}

function figures({ before, after }) {
  const a = figure([["A", layer(before, "a")]], "a");
  const b = figure([["A", layer(before, "a")], ["B", layer(after, "b")]], "b");
  const stage = b.querySelector(".stage");
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    hold(true);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) stage.addEventListener(end, () => hold(false));
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  viewer.querySelector(".stages").replaceChildren(a, b);
  return { A: a, B: b };
}

/* What the judge said of one side. */
function account(judged, letter, place) {
  const out = make(
    "section", { class: `account ${judged.verdict}` },
    make("h3", { dir: "auto" }, make("b", {}, letter), ` ${NAMES[letter]}`),
    make("p", { class: "verdict" }, make("span", { class: "badge" }, judged.verdict), make("span", { class: "score" }, judged.score)),
  );
  if (judged.reason) out.append(make("p", { class: "reason", dir: "auto" }, judged.reason));
  if (judged.text) out.append(alignment(judged.text));
  if (judged.detections) out.append(detectionList(judged.detections, place.querySelector(".stage > :last-child")));
  if (judged.facts) out.append(facts(judged.facts));
  if (judged.picture) out.append(make("p", { class: "fine" }, make("a", { href: judged.picture.src }, "the picture alone")));
  return out;
}

/* place: words such as "3 of 58". As in the viewer of single images. */
function showImage({ image, card }, place) {
  hold(false);
  viewer.querySelector(".place").textContent = place;
  const places = figures(image);
  const panel = viewer.querySelector(".about");
  const said = (selector) => card.querySelector(selector).textContent;
  panel.replaceChildren(
    make("p", { class: `verdict ${image.verdict}` }, make("span", { class: "badge" }, image.verdict), make("span", { class: "score" }, said(".score"))),
    make("h2", { class: "prompt", dir: "auto" }, said(".prompt")),
    account(image.before, "A", places.A),
    account(image.after, "B", places.B),
    facts([["prompt", image.id], ["image", String(image.k)], ...(image.tag ? [["tag", image.tag]] : [])]),
  );
  panel.scrollTop = 0;
  if (!viewer.open) viewer.showModal();
  else if (!viewer.contains(document.activeElement)) viewer.querySelector(".place").focus();
}

function toggle(name) {
  const button = viewer.querySelector(`button[name="${name}"]`);
  if (button) button.setAttribute("aria-pressed", String(viewer.toggleAttribute(`data-${name}`)));
}

function hold(on) {
  viewer.toggleAttribute("data-held", on);
}

/* A button that has the focus is pressed by space, as everywhere. */
viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("button")) return;
  if (event.key !== " " && event.key !== "o") return;
  event.preventDefault();
  if (event.key === " ") hold(true);
  else if (!event.repeat) toggle("one");
});
viewer.addEventListener("keyup", (event) => event.key === " " && hold(false));
viewer.addEventListener("close", () => hold(false));
addEventListener("blur", () => hold(false));
viewer.querySelector("button[name=one]").addEventListener("click", () => toggle("one"));
