/* One image in full: the picture with what the judge saw, and all that is known of it. */
const viewer = document.querySelector(".viewer");

function about({ image, card }, stage) {
  const said = (selector) => card.querySelector(selector).textContent;
  const out = [
    make("p", { class: "verdict" }, make("span", { class: "badge" }, said(".badge")), make("span", { class: "score" }, said(".score"))),
    make("h2", { class: "prompt", dir: "auto" }, said(".prompt")),
  ];
  if (image.reason) out.push(make("p", { class: "reason", dir: "auto" }, image.reason));
  if (image.text) out.push(alignment(image.text));
  if (image.detections) out.push(detectionList(image.detections, stage));
  const [within, of, overall, all] = image.rank ?? [];
  const known = [["prompt", image.id], ["image", String(image.k)], ...(image.tag ? [["tag", image.tag]] : [])];
  if (of > 1) known.push(["rank in prompt", `${within} of ${of}`]);
  if (all > 1) known.push(["rank overall", `${overall} of ${all}`]);
  out.push(facts([...known, ...(image.facts ?? [])]));
  const link = card.querySelector("a.picture");
  if (link) out.push(make("p", { class: "fine" }, make("a", { href: link.getAttribute("href") }, "the picture alone")));
  return out;
}

function picture({ image, card }) {
  const stage = viewer.querySelector(".stage");
  const link = card.querySelector("a.picture");
  if (!link) {
    stage.className = "stage none";
    stage.replaceChildren(card.querySelector(".picture").textContent);
    return stage;
  }
  const small = card.querySelector("img");
  const [width, height] = [Number(small.getAttribute("width")), Number(small.getAttribute("height"))];
  const full = make("img", { src: link.getAttribute("href"), width, height, alt: small.alt });
  stage.className = link.classList.contains("small") ? "stage small" : "stage";
  stage.style.setProperty("--ratio", width / height);
  stage.replaceChildren(full);
  if (image.detections) stage.append(overlay(image.detections, width, height));
  return stage;
}

/* The images of the same prompt, this one marked; where scores rank, the best first. */
function siblings(entry, family, open) {
  const strip = viewer.querySelector(".siblings");
  const sorted = [...family].sort((a, b) => (a.image.rank?.[0] ?? Infinity) - (b.image.rank?.[0] ?? Infinity) || a.index - b.index);
  strip.replaceChildren(
    ...(family.length < 2 ? [] : sorted).map((other) => {
      const small = other.card.querySelector("img");
      const inside = small ? make("img", { src: small.getAttribute("src"), alt: "", width: 64, height: 64 }) : make("span", { class: "none" }, "–");
      const score = other.card.querySelector(".score").textContent;
      const button = make(
        "button", { type: "button", class: other.card.className.replace("card ", ""), "aria-label": `image ${other.image.k}: ${other.image.verdict}, ${score}` },
        inside, make("span", { class: "badge", "aria-hidden": "true" }, other.image.rank ? score : ""),
      );
      if (other === entry) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => open(other));
      return button;
    }),
  );
}

/* place: words such as "3 of 58"; family: all entries of its prompt; open: shows another entry. */
function showImage(entry, place, family, open) {
  viewer.querySelector(".place").textContent = place;
  const stage = picture(entry);
  const panel = viewer.querySelector(".about");
  panel.className = entry.card.className.replace("card ", "about ");
  panel.replaceChildren(...about(entry, stage));
  panel.scrollTop = 0;
  film(entry.image.maps, stage);
  siblings(entry, family, open);
  if (!viewer.open) viewer.showModal();
  else if (!viewer.contains(document.activeElement)) viewer.querySelector(".place").focus();
}

function toggle(name) {
  const button = viewer.querySelector(`button[name="${name}"]`);
  if (button) button.setAttribute("aria-pressed", String(viewer.toggleAttribute(`data-${name}`)));
}
