"use strict";
// Sorts a table by the column whose head is pressed: numbers as numbers, and rows without a value last, both ways.
for (const table of document.querySelectorAll("table.board")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const planned = [...body.rows];
  for (const [column, head] of heads.entries()) {
    head.querySelector("button")?.addEventListener("click", () => {
      const isText = head.classList.contains("text");
      const first = isText || column === 0 ? "ascending" : "descending";
      const second = first === "ascending" ? "descending" : "ascending";
      const way = head.getAttribute("aria-sort") === first ? second : first;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way);
      const keys = new Map(planned.map((row) => [row, row.cells[column].dataset.value]));
      const sign = way === "ascending" ? 1 : -1;
      const order = [...planned].sort((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (isText ? x.localeCompare(y) : Number(x) - Number(y));
      });
      body.append(...order);
    });
  }
}
