// Paint or outline objects in one image. Masks have the size of the image; one canvas per class.

export const COLOURS = ["#e4572e", "#2e86de", "#27ae60", "#f2b705", "#8e44ad", "#00a8a8", "#d6336c", "#7f5539"];
const ALPHA = 0.55;
const MOST_UNDO = 20;

export class MarkedImage {
  constructor(name, bitmap, bytes) {
    this.name = name;
    this.bitmap = bitmap;
    this.bytes = bytes; // data URI of the file
    this.masks = new Map(); // class -> canvas of the image's size, opaque where it is marked
  }

  mask(name) {
    if (!this.masks.has(name)) {
      const canvas = document.createElement("canvas");
      canvas.width = this.bitmap.width;
      canvas.height = this.bitmap.height;
      this.masks.set(name, canvas);
    }
    return this.masks.get(name);
  }

  // The class's mask as a data URI of a PNG with 0 and 255 alone, or null if nothing is marked.
  png(name) {
    const canvas = this.masks.get(name);
    if (!canvas) return null;
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let any = false;
    for (let at = 0; at < data.data.length; at += 4) {
      const inside = data.data[at + 3] >= 128;
      any = any || inside;
      data.data[at] = data.data[at + 1] = data.data[at + 2] = inside ? 255 : 0;
      data.data[at + 3] = 255;
    }
    if (!any) return null;
    const out = document.createElement("canvas");
    out.width = canvas.width;
    out.height = canvas.height;
    out.getContext("2d").putImageData(data, 0, 0);
    return out.toDataURL("image/png");
  }
}

export class Editor {
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed; // called after each change
    this.image = null;
    this.tool = "brush";
    this.size = 36;
    this.classes = ["object"];
    this.current = "object";
    this.corners = [];
    this.cursor = null;
    this.drawing = false;
    this.undos = [];
    canvas.addEventListener("pointerdown", event => this.down(event));
    canvas.addEventListener("pointermove", event => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.up());
    canvas.addEventListener("pointerleave", () => { if (!this.drawing) { this.cursor = null; this.show(); } });
    canvas.addEventListener("dblclick", () => this.close());
    canvas.addEventListener("keydown", event => this.key(event));
    canvas.addEventListener("blur", () => { this.cursor = null; this.show(); });
    new ResizeObserver(() => this.show()).observe(canvas);
  }

  open(image) {
    this.image = image;
    this.corners = [];
    this.undos = [];
    this.cursor = null;
    this.show();
  }

  choose(tool) {
    this.close();
    this.tool = tool;
    this.show();
  }

  // ---------------------------------------------------------------- pointer and keys

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.image.bitmap.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  down(event) {
    if (!this.image || event.button > 0) return;
    this.canvas.focus();
    this.cursor = this.place(event);
    if (this.tool === "polygon") return this.corner(this.cursor);
    this.canvas.setPointerCapture(event.pointerId);
    this.remember();
    this.drawing = true;
    this.stroke(this.cursor, this.cursor);
  }

  move(event) {
    if (!this.image) return;
    const before = this.cursor;
    this.cursor = this.place(event);
    if (this.drawing && before) this.stroke(before, this.cursor);
    this.show();
  }

  up() {
    if (!this.drawing) return;
    this.drawing = false;
    this.changed();
  }

  key(event) {
    if (!this.image) return;
    const { width, height } = this.image.bitmap;
    const step = (event.shiftKey ? 0.1 : 0.02) * Math.max(width, height);
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const before = this.cursor || [width / 2, height / 2];
    if (moves[event.key]) {
      const [x, y] = moves[event.key];
      this.cursor = [
        Math.min(width, Math.max(0, before[0] + x * step)),
        Math.min(height, Math.max(0, before[1] + y * step)),
      ];
    } else if (event.key === " " && this.tool !== "polygon") {
      this.cursor = before;
      this.remember();
      this.stroke(before, before);
      this.changed();
    } else if (event.key === "Enter" || event.key === " ") {
      this.cursor = before;
      if (this.tool === "polygon") this.corner(before);
    } else if (event.key === "Escape") this.close();
    else if (event.key === "z" || event.key === "Z") this.undo();
    else return;
    event.preventDefault();
    this.show();
  }

  // ---------------------------------------------------------------- change the mask

  remember() {
    const canvas = this.image.mask(this.current);
    const copy = document.createElement("canvas");
    copy.width = canvas.width;
    copy.height = canvas.height;
    copy.getContext("2d").drawImage(canvas, 0, 0);
    this.undos.push([this.current, copy]);
    if (this.undos.length > MOST_UNDO) this.undos.shift();
  }

  undo() {
    if (this.corners.length) this.corners.pop();
    else if (this.undos.length) {
      const [name, canvas] = this.undos.pop();
      this.image.masks.set(name, canvas);
      this.changed();
    }
    this.show();
  }

  clear() {
    this.remember();
    const canvas = this.image.mask(this.current);
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    this.corners = [];
    this.changed();
    this.show();
  }

  stroke(from, to) {
    const pen = this.image.mask(this.current).getContext("2d");
    pen.globalCompositeOperation = this.tool === "eraser" ? "destination-out" : "source-over";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = this.size * this.image.bitmap.width / 800;
    pen.strokeStyle = "#fff";
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(to[0] + 0.01, to[1]);
    pen.stroke();
    this.show();
  }

  corner(place) {
    const first = this.corners[0];
    const near = 0.02 * this.image.bitmap.width;
    if (this.corners.length > 2 && Math.hypot(first[0] - place[0], first[1] - place[1]) < near) return this.close();
    this.corners.push(place);
    this.show();
  }

  close() {
    if (this.corners.length > 2) {
      this.remember();
      const pen = this.image.mask(this.current).getContext("2d");
      pen.globalCompositeOperation = "source-over";
      pen.fillStyle = "#fff";
      pen.beginPath();
      this.corners.forEach(corner => pen.lineTo(...corner));
      pen.fill();
      this.corners = [];
      this.changed();
    }
    this.corners = [];
    this.show();
  }

  // ---------------------------------------------------------------- show

  show() {
    if (!this.image) return;
    const { bitmap } = this.image;
    const width = Math.min(bitmap.width, 1600);
    this.canvas.width = width;
    this.canvas.height = Math.round(bitmap.height * width / bitmap.width);
    this.canvas.style.width = `min(100%, ${65 * bitmap.width / bitmap.height}vh)`;
    const pen = this.canvas.getContext("2d");
    const scale = width / bitmap.width;
    pen.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
    this.classes.forEach((name, place) => {
      const mask = this.image.masks.get(name);
      if (mask) pen.drawImage(tinted(mask, COLOURS[place % COLOURS.length], width, this.canvas.height), 0, 0);
    });
    const unit = this.canvas.width / Math.max(1, this.canvas.clientWidth);
    pen.lineWidth = 2 * unit;
    if (this.corners.length) this.showCorners(pen, scale, unit);
    if (this.cursor) this.showCursor(pen, scale, unit);
  }

  showCorners(pen, scale, unit) {
    const points = this.corners.map(([x, y]) => [x * scale, y * scale]);
    if (this.cursor) points.push(this.cursor.map(value => value * scale));
    for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width * unit;
      pen.beginPath();
      points.forEach(point => pen.lineTo(...point));
      pen.stroke();
    }
    pen.fillStyle = "#fff";
    for (const [x, y] of points) {
      pen.beginPath();
      pen.arc(x, y, 4 * unit, 0, 2 * Math.PI);
      pen.fill();
      pen.stroke();
    }
  }

  showCursor(pen, scale, unit) {
    const radius = this.tool === "polygon" ? 6 * unit : this.size * this.canvas.width / 1600;
    for (const [colour, width] of [["#000", 3], ["#fff", 1.5]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width * unit;
      pen.beginPath();
      pen.arc(this.cursor[0] * scale, this.cursor[1] * scale, radius, 0, 2 * Math.PI);
      pen.stroke();
    }
  }
}

// A mask in one colour, half transparent, scaled.
export function tinted(mask, colour, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.drawImage(mask, 0, 0, width, height);
  pen.globalCompositeOperation = "source-in";
  pen.globalAlpha = ALPHA;
  pen.fillStyle = colour;
  pen.fillRect(0, 0, width, height);
  return canvas;
}
