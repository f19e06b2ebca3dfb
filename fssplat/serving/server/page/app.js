// The page of `fssplat serve`: mark an object in a few images, find it in others.

import { COLOURS, Editor, MarkedImage, tinted } from "./canvas.js";
import { zipped } from "./zip.js";

const at = id => document.getElementById(id);
const HINTS = {
  brush: "Paint over the object. Keys: arrows move, space paints, Z undoes.",
  eraser: "Paint over what is no object. Keys: arrows move, space erases, Z undoes.",
  polygon: "Click the corners; click the first one, or press Escape, to close. Keys: arrows move, Enter sets a corner.",
};
const MARKED_HERE = "marked on this page";
const SHOWN = 640; // pixels, width of a result on the page

const supports = [];
const queries = [];
const editor = new Editor(at("canvas"), () => { changed = true; showStrip(); });
let changed = true; // whether the marks differ from the set that was registered
let sent = ""; // the name under which the marks were registered
let opened = null;
let token = sessionStorage.getItem("token") || "";

// ------------------------------------------------------------------ the server

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Token = token;
  const answer = await fetch(path, { ...options, headers });
  const content = await answer.json().catch(() => ({}));
  if (answer.status === 401) at("token-form").hidden = false;
  if (!answer.ok) throw new Error(content.error ? content.error.message : `the server answers ${answer.status}`);
  return content;
}

function send(path, method, value) {
  return ask(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
}

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  }
}

async function refresh() {
  const [models, sets] = [await ask("v1/models"), await ask("v1/supports")];
  at("token-form").hidden = true;
  at("model").textContent = `Model: ${models.model}`;
  fill(at("models"), ["", ...models.models.map(one => one.name).filter(name => name !== models.model)], name => name || `${models.model}`);
  fill(at("sets"), ["", ...sets.supports], name => name || MARKED_HERE);
}

function fill(select, values, shown) {
  const before = select.value;
  select.replaceChildren(...values.map(value => new Option(shown(value), value)));
  if (values.includes(before)) select.value = before;
}

// ------------------------------------------------------------------ images

async function read(file) {
  const bytes = await new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => fail(new Error(`${file.name}: it cannot be read.`));
    reader.readAsDataURL(file);
  });
  try {
    return new MarkedImage(file.name, await createImageBitmap(file), bytes.replace(/^data:[^,]*,/, "data:;base64,"));
  } catch {
    throw new Error(`${file.name}: this browser cannot show it. Choose a JPEG, PNG or WebP image.`);
  }
}

function takesFiles(drop, input, take) {
  const all = files => attempt(async () => { for (const file of files) await take(await read(file)); });
  input.addEventListener("change", () => all([...input.files]).then(() => { input.value = ""; }));
  for (const kind of ["dragover", "dragenter"]) drop.addEventListener(kind, event => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", event => { event.preventDefault(); all([...event.dataTransfer.files]); });
}

for (const kind of ["dragover", "drop"]) addEventListener(kind, event => event.preventDefault());

// ------------------------------------------------------------------ 1: mark

function open(image) {
  opened = image;
  at("editor").hidden = !image;
  if (image) editor.open(image);
  showStrip();
}

function showStrip() {
  at("support-strip").replaceChildren(...supports.map(image => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "open";
    button.setAttribute("aria-current", String(image === opened));
    button.setAttribute("aria-label", `${image.name}${image.masks.size ? "" : ", not marked"}`);
    button.append(thumbnail(image));
    button.onclick = () => open(image);
    const away = document.createElement("button");
    away.type = "button";
    away.className = "away";
    away.textContent = "×";
    away.setAttribute("aria-label", `Remove ${image.name}`);
    away.onclick = () => {
      supports.splice(supports.indexOf(image), 1);
      changed = true;
      open(opened === image ? supports[0] || null : opened);
    };
    item.append(button, away);
    return item;
  }));
}

function thumbnail(image) {
  const canvas = document.createElement("canvas");
  canvas.width = 160;
  canvas.height = Math.round(160 * image.bitmap.height / image.bitmap.width);
  const pen = canvas.getContext("2d");
  pen.drawImage(image.bitmap, 0, 0, canvas.width, canvas.height);
  editor.classes.forEach((name, place) => {
    const mask = image.masks.get(name);
    if (mask) pen.drawImage(tinted(mask, COLOURS[place % COLOURS.length], canvas.width, canvas.height), 0, 0);
  });
  return canvas;
}

function showClasses() {
  at("classes").replaceChildren(...editor.classes.map((name, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", String(name === editor.current));
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.background = COLOURS[place % COLOURS.length];
    button.append(dot, name);
    button.onclick = () => { editor.close(); editor.current = name; showClasses(); };
    return button;
  }));
}

function addClass() {
  const name = at("new-class").value.trim();
  if (!name) return;
  const unused = editor.classes.length === 1 && !supports.some(image => image.masks.size);
  if (unused) editor.classes = [];
  if (!editor.classes.includes(name)) editor.classes.push(name);
  editor.current = name;
  at("new-class").value = "";
  showClasses();
}

function choose(tool) {
  editor.choose(tool);
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-checked", String(button.dataset.tool === tool));
  at("hint").textContent = HINTS[tool];
}

// The name of the set to search with; the marks of the page are registered first.
async function registered() {
  if (at("sets").value) return at("sets").value;
  const name = at("set-name").value.trim();
  const images = supports.map(image => ({
    name: image.name,
    image: image.bytes,
    masks: Object.fromEntries(editor.classes.map(one => [one, image.png(one)]).filter(([, png]) => png)),
  })).filter(one => Object.keys(one.masks).length);
  if (!images.length) throw new Error("Mark the object in at least one image first.");
  if (changed || sent !== name) {
    say("The marked images are being registered …");
    await send(`v1/supports/${encodeURIComponent(name)}`, "PUT", { images });
    changed = false;
    sent = name;
    await refresh();
  }
  return name;
}

// ------------------------------------------------------------------ 2: find

async function find() {
  editor.close();
  if (!queries.length) throw new Error("Add at least one image to search.");
  at("find").disabled = true;
  try {
    const name = await registered();
    const model = at("models").value;
    const settings = { supports: name, model, threshold: Number(at("threshold").value) };
    at("score").textContent = "";
    for (const [place, query] of queries.entries()) {
      say(`Searching image ${place + 1} of ${queries.length} …`);
      const answer = await send("v1/predict", "POST", { ...settings, images: [query.bytes] });
      const result = answer.results[0];
      const shown = await image(`data:image/png;base64,${result.mask}`);
      query.result = { ...result, classes: answer.classes, shown };
      showResults();
    }
    say(`Searched ${queries.length} image${queries.length === 1 ? "" : "s"}.`);
    const { scores } = await ask(`v1/supports/${encodeURIComponent(name)}/score?model=${encodeURIComponent(model)}`);
    at("score").textContent = Object.entries(scores).map(([one, score]) => {
      const how = score.left_out ? `its ${score.supports} supports, each by the others,` : "its only support, by itself,";
      return `${one}: the model finds ${how} at ${Math.round(100 * score.iou)} IoU.`;
    }).join(" ");
  } finally {
    at("find").disabled = false;
  }
}

async function image(address) {
  const found = new Image();
  found.src = address;
  await found.decode();
  return found;
}

// ------------------------------------------------------------------ 3: results

function showResults() {
  at("results").replaceChildren(...queries.map(query => {
    const item = document.createElement("li");
    const about = document.createElement("div");
    about.className = "about";
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = query.name;
    about.append(name);
    if (query.result) {
      const { mask, classes, found } = query.result;
      const link = document.createElement("a");
      link.href = `data:image/png;base64,${mask}`;
      link.download = `${stem(query.name)}.png`;
      link.textContent = "Mask";
      link.setAttribute("aria-label", `Download the mask of ${query.name}`);
      const text = document.createElement("span");
      text.className = "found";
      text.textContent = classes.map(one => described(one, found[one])).join("; ");
      about.append(link, text);
    }
    item.append(drawn(query), about);
    return item;
  }));
  const done = queries.filter(query => query.result);
  at("download-all").disabled = !done.length;
  const seen = done.filter(query => Object.values(query.result.found).some(one => one.pixels)).length;
  at("summary").textContent = done.length ? `found in ${seen} of ${done.length}` : "";
}

function described(name, one) {
  return one.pixels ? `${name}: ${(100 * one.share).toFixed(1)} % of the image, confidence ${one.confidence.toFixed(2)}` : `${name}: absent`;
}

function stem(name) {
  return name.replace(/\.[^.]*$/, "");
}

function drawn(query) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.min(SHOWN, query.bitmap.width);
  canvas.height = Math.round(query.bitmap.height * canvas.width / query.bitmap.width);
  const pen = canvas.getContext("2d");
  pen.drawImage(query.bitmap, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", query.name);
  if (!query.result) return canvas;
  const { shown, classes } = query.result;
  classes.forEach((_, place) => {
    const inside = ofClass(shown, place, classes.length);
    pen.drawImage(tinted(inside, COLOURS[place % COLOURS.length], canvas.width, canvas.height), 0, 0);
  });
  return canvas;
}

// The pixels of one class in a mask: white of one class, or a colour of VOC's palette.
function ofClass(mask, place, classes) {
  const canvas = document.createElement("canvas");
  canvas.width = mask.naturalWidth;
  canvas.height = mask.naturalHeight;
  const pen = canvas.getContext("2d");
  pen.drawImage(mask, 0, 0);
  const data = pen.getImageData(0, 0, canvas.width, canvas.height);
  const [red, green, blue] = classes === 1 ? [255, 255, 255] : paletteColour(place + 1);
  const values = data.data;
  for (let n = 0; n < values.length; n += 4) {
    const own = values[n] === red && values[n + 1] === green && values[n + 2] === blue;
    values[n + 3] = own ? 255 : 0;
  }
  pen.putImageData(data, 0, 0);
  return canvas;
}

function paletteColour(index) {
  const colour = [0, 0, 0];
  for (let bit = 7, rest = index; bit >= 0; bit--, rest >>= 3) for (let channel = 0; channel < 3; channel++) colour[channel] |= ((rest >> channel) & 1) << bit;
  return colour;
}

function downloadAll() {
  const done = queries.filter(query => query.result);
  const used = new Set();
  const files = done.map(query => {
    let name = stem(query.name);
    for (let number = 2; used.has(name); number++) name = `${stem(query.name)}-${number}`;
    used.add(name);
    return [`${name}.png`, Uint8Array.from(atob(query.result.mask), letter => letter.charCodeAt(0))];
  });
  const classes = done[0].result.classes;
  if (classes.length > 1) {
    const names = Object.fromEntries(classes.map((name, place) => [place + 1, name]));
    files.push(["classes.json", new TextEncoder().encode(JSON.stringify(names, null, 1))]);
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(zipped(files));
  link.download = "masks.zip";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// ------------------------------------------------------------------ start

takesFiles(at("support-drop"), at("support-files"), image => { supports.push(image); changed = true; open(image); });
takesFiles(at("query-drop"), at("query-files"), image => { queries.push(image); showResults(); });
for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => choose(button.dataset.tool);
at("size").oninput = () => { editor.size = Number(at("size").value); editor.show(); };
at("undo").onclick = () => editor.undo();
at("clear").onclick = () => editor.clear();
at("add-class").onclick = addClass;
at("new-class").onkeydown = event => { if (event.key === "Enter") addClass(); };
at("threshold").oninput = () => { at("threshold-value").textContent = at("threshold").value; };
at("find").onclick = () => attempt(find);
at("download-all").onclick = downloadAll;
at("token-form").onsubmit = event => {
  event.preventDefault();
  token = at("token").value;
  sessionStorage.setItem("token", token);
  say("");
  attempt(refresh);
};
showClasses();
choose("brush");
attempt(refresh);
