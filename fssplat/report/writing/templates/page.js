"use strict";
// Sorts tables by a click on a heading.

function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");  // what has no number is last
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}

function sortTable(table, column, head) {
  const down = head.getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const groups = [];  // a row with the lines beneath it
  for (const row of body.rows) {
    if (row.classList.contains("beneath") && groups.length) groups.at(-1).push(row);
    else groups.push([row]);
  }
  const key = group => group[0].cells[column].dataset.key;
  groups.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    return x === "" || y === "" || !down ? compare(x, y) : compare(y, x);
  });
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...groups.flat());
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortTable(table, column, head));
    head.append(button);
  });
}
