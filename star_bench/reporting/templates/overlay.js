"use strict";
const SVG = "http://www.w3.org/2000/svg";

/* An element with text, never markup: whatever a prompt or a judge says stays text. */
function make(name, attributes = {}, ...inside) {
  const element = name.includes(":") ? document.createElementNS(SVG, name.split(":")[1]) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inside);
  return element;
}

/* COCO's compressed run lengths: numbers in groups of five bits, from the fourth on as differences to the run two before. */
function runs(text) {
  const out = [];
  for (let i = 0; i < text.length; ) {
    let number = 0, shift = 0, group;
    do {
      group = text.charCodeAt(i++) - 48;
      number |= (group & 31) << shift;
      shift += 5;
    } while (group & 32);
    if (group & 16) number |= -1 << shift;
    out.push(number + (out.length > 2 ? out.at(-2) : 0));
  }
  return out;
}

/* Of a mask stored column by column: one path that fills it, and one along its outline, in units of its grid. */
function maskPaths([rows, columns, counts]) {
  const cells = new Uint8Array(rows * columns);
  let fill = "", at = 0;
  runs(counts).forEach((length, i) => {
    if (i % 2) cells.fill(1, at, at + length);
    at += length;
  });
  const is = (x, y) => x >= 0 && y >= 0 && x < columns && y < rows && cells[x * rows + y];
  let edge = "";
  for (let x = 0; x < columns; x++) {
    for (let y = 0; y < rows; y++) {
      if (!is(x, y)) continue;
      if (!is(x, y - 1)) {
        let end = y;
        while (is(x, end)) end++;
        fill += `M${x} ${y}h1v${end - y}h-1z`;
        edge += `M${x} ${y}h1`;
      }
      if (!is(x, y + 1)) edge += `M${x} ${y + 1}h1`;
      if (!is(x - 1, y)) edge += `M${x} ${y}v1`;
      if (!is(x + 1, y)) edge += `M${x + 1} ${y}v1`;
    }
  }
  return { fill, edge };
}

/* Boxes, masks and numbers over a picture of so many pixels; the group of each detection carries its number. */
function overlay(detections, width, height) {
  const svg = make("svg:svg", { class: "overlay", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const unit = Math.max(width, height) / 100;
  detections.forEach(({ box: [x1, y1, x2, y2], mask }, i) => {
    const group = make("svg:g", { class: `seen hue${i % 7}`, "data-number": i + 1 });
    if (mask) {
      const { fill, edge } = maskPaths(mask);
      const fit = `translate(${x1} ${y1}) scale(${(x2 - x1) / mask[1]} ${(y2 - y1) / mask[0]})`;
      group.append(
        make("svg:g", { class: "mask", transform: fit }, make("svg:path", { class: "fill", d: fill }), make("svg:path", { class: "edge", d: edge })),
      );
    }
    const frame = { x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0) };
    const label = make("svg:text", { x: x1 + unit, y: Math.max(y1, 0) + 3.5 * unit, "font-size": 3.6 * unit, "stroke-width": unit }, String(i + 1));
    group.append(make("svg:g", { class: "box" }, make("svg:rect", { ...frame, class: "halo" }), make("svg:rect", frame), label));
    svg.append(group);
  });
  return svg;
}
