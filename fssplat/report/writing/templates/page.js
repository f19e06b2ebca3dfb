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
  const key = (picture, name) => fact(picture, name)?.dataset.key ?? "";
  const facts = pictures.length ? [...pictures[0].querySelectorAll("[data-name]")] : [];
  const wanted = {};
  const filter = () => {
    for (const picture of pictures) {
      picture.hidden = Object.entries(wanted).some(
        ([name, text]) => text && key(picture, name) !== text);
    }
    const count = pictures.filter(picture => !picture.hidden).length;
    gallery.querySelector(".shown").textContent = `${count} of ${pictures.length} shown`;
  };
  for (const one of facts.filter(one => one.dataset.kind === "text")) {
    const name = one.dataset.name;
    const values = [...new Set(pictures.map(picture => key(picture, name)))].sort();
    if (values.length < 2) continue;
    choice(form, name, [["", "all"], ...values.map(value => [value, value])], value => {
      wanted[name] = value;
      filter();
    });
  }
  const numbers = facts.filter(one => one.dataset.kind === "number").map(one => one.dataset.name);
  const orders = numbers.flatMap(
    name => [[name + "|-1", name + ", highest first"], [name + "|1", name + ", lowest first"]]);
  choice(form, "order", [["", "as chosen"], ...orders], value => {
    const cut = value.lastIndexOf("|");
    const [name, sign] = [value.slice(0, cut), Number(value.slice(cut + 1))];
    const sorted = [...pictures];
    if (value) sorted.sort((a, b) => sign * compare(key(a, name), key(b, name)));
    gallery.querySelector(".pictures").append(...sorted);
  });
  form.addEventListener("submit", event => event.preventDefault());
  filter();
}
