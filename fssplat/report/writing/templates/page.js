"use strict";
// Sorts tables by a click on a heading, and sorts and filters the pictures of a gallery.

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

function choice(form, text, options, change) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  for (const [value, name] of options) select.add(new Option(name, value));
  select.addEventListener("change", () => change(select.value));
  label.append(text + " ", select);
  form.append(label);
}

for (const gallery of document.querySelectorAll(".gallery")) {
  const form = gallery.querySelector(".choices");
  const pictures = [...gallery.querySelectorAll(".pictures figure")];
  const fact = (picture, name) =>
    [...picture.querySelectorAll("[data-name]")].find(one => one.dataset.name === name);
  const facts = pictures.length ? [...pictures[0].querySelectorAll("[data-name]")] : [];
  const wanted = {};
  for (const one of facts.filter(one => one.dataset.kind === "text")) {
    const name = one.dataset.name;
    const values = [...new Set(pictures.map(picture => fact(picture, name)?.dataset.key ?? ""))];
    if (values.length < 2) continue;
    choice(form, name, [["", "all"], ...values.sort().map(value => [value, value])], value => {
      wanted[name] = value;
      for (const picture of pictures) {
        picture.hidden = Object.entries(wanted).some(
          ([key, text]) => text && fact(picture, key)?.dataset.key !== text);
      }
    });
  }
  const numbers = facts.filter(one => one.dataset.kind === "number").map(one => one.dataset.name);
  const orders = numbers.flatMap(name => [[name + "|1", name + ", ascending"], [name + "|-1", name + ", descending"]]);
  choice(form, "Order", [["", "as chosen"], ...orders], value => {
    const [name, sign] = value.split("|");
    const key = picture => fact(picture, name)?.dataset.key ?? "";
    const sorted = value ? [...pictures].sort((a, b) => sign * compare(key(a), key(b))) : pictures;
    gallery.querySelector(".pictures").append(...sorted);
  });
  form.addEventListener("submit", event => event.preventDefault());
}
