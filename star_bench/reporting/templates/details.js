/* What a judge said of one picture: the text it read, what it detected, and any other facts. */
const MARKS = { equal: "=", replaced: "≠", missing: "−", extra: "+" };
const SAID = { equal: "as asked", replaced: "replaced", missing: "missing", extra: "extra" };

/* Asked-for and read characters in two rows, one column each, with a mark below where they differ. */
function alignment(stretches) {
  const counts = { equal: 0, replaced: 0, missing: 0, extra: 0 };
  const grid = make("div", { class: "aligned", "aria-hidden": "true" });
  grid.append(make("div", { class: "pair names" }, make("span", {}, "asked"), make("span", {}, "read"), make("span", {}, "")));
  for (const [kind, target, read] of stretches) {
    const asked = [...target], got = [...read];
    for (let i = 0; i < Math.max(asked.length, got.length); i++) {
      counts[kind]++;
      const pair = make("div", { class: `pair ${kind}` });
      for (const character of [asked[i], got[i]]) {
        pair.append(make("span", character === undefined ? { class: "gap" } : {}, character ?? ""));
      }
      pair.append(make("span", { class: "mark" }, kind === "equal" ? "" : MARKS[kind]));
      grid.append(pair);
    }
  }
  const key = Object.keys(counts).filter((kind) => counts[kind]).map((kind) => `${MARKS[kind]} ${counts[kind]} ${SAID[kind]}`);
  const words = stretches.map(([kind, target, read]) => {
    if (kind === "equal") return `“${target}” as asked`;
    if (kind === "replaced") return `“${target}” read as “${read}”`;
    return kind === "missing" ? `“${target}” missing` : `“${read}” extra`;
  });
  return make(
    "section", { class: "text" },
    make("h3", {}, "Read text beside the text asked for"),
    grid,
    make("p", { class: "unseen" }, words.join(", ")),
    make("p", { class: "fine" }, `${key.join(" · ")}. Compared in lower case, without spaces.`),
  );
}

/* A line per detection; pressing one leaves only its box and mask on the picture. */
function detectionList(detections, stage) {
  const list = make("ol", { class: "detections", "aria-label": "Detections" });
  detections.forEach(({ label, score, votes }, i) => {
    const button = make(
      "button", { type: "button", "aria-pressed": "false", class: `hue${i % 7}`, title: "show only this one" },
      make("span", { class: "number" }, String(i + 1)), make("span", { class: "label", dir: "auto" }, label), make("span", { class: "score" }, score ?? ""),
    );
    button.addEventListener("click", () => {
      const alone = button.getAttribute("aria-pressed") !== "true";
      for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button && alone));
      for (const seen of stage.querySelectorAll(".seen")) seen.classList.toggle("dim", alone && seen.dataset.number !== String(i + 1));
    });
    const item = make("li", {}, button);
    if (votes) {
      const table = make("dl", { class: "votes", "aria-label": "votes on its colour" });
      for (const [color, share] of votes.slice(0, 4)) {
        const bar = make("span", { class: "share" });
        bar.style.width = `${100 * Math.min(Math.max(share, 0), 1)}%`;
        table.append(make("dt", {}, color), make("dd", {}, make("span", { class: "track" }, bar), share.toFixed(3)));
      }
      item.append(table);
    }
    list.append(item);
  });
  return make("section", {}, make("h3", {}, "Detections, each with its confidence"), list);
}

function facts(pairs) {
  const list = make("dl", {});
  for (const [name, value] of pairs) list.append(make("dt", {}, name), make("dd", { dir: "auto" }, value || "–"));
  return list;
}
