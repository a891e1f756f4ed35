// One picture large: the photo, sharp layers over it that can be switched off, and what is known about it beside it.

const MOST_ZOOM = 40, ZOOM_STEP = 1.4, SWIPE = 60, TAGS_SHOWN = 40;

/** An outline of `outlines.py`: {path: for SVG, box: [left, top, right, bottom]} in pixels of the image. */
function decodeOutline(text) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  const path = text.split(" ").map((line) => {
    let at = 0, x = 0, y = 0, drawn = "";
    const next = () => {
      let value = 0, shift = 0, bits;
      do {
        bits = line.charCodeAt(at++) - 63;
        value |= (bits & 31) << shift;
        shift += 5;
      } while (bits >= 32);
      return (value & 1 ? ~(value >> 1) : value >> 1) / 2;
    };
    while (at < line.length) {
      x += next();
      y += next();
      drawn += `${drawn ? "L" : "M"}${x} ${y}`;
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    }
    return `${drawn}Z`;
  }).join("");
  return {path, box};
}

/** A layer of masks: shapes {outline, color, text, row, filled, dashed}; `row` is the number of its line in the table. */
function drawShapes(shapes) {
  const drawn = shapes.filter((shape) => shape.outline).map((shape) => ({...shape, ...decodeOutline(shape.outline)}));
  const paths = drawn.flatMap(({path, color, row, filled, dashed}) => {
    const halo = svg("path", {class: "halo", d: path});
    const line = svg("path", {class: `outline ${filled ? "filled" : ""} ${dashed ? "dashed" : ""}`, d: path, "data-row": row});
    line.style.setProperty("--tone", color);
    return [halo, line];
  });
  const tags = drawn.length > TAGS_SHOWN ? [] : drawn.filter(({text}) => text).map(({box, text}) =>
    svg("text", {class: "tag", x: box[0], y: box[1], dy: "-.3em"}, plain(text)));
  return [...paths, ...tags];
}

/** A layer of prompts: boxes [left, top, right, bottom] and points [x, y, 1 on the object or 0 outside it]. */
function drawPrompts({boxes, points}) {
  const rectangle = ([left, top, right, bottom]) => ["halo", "box"].map((kind) =>
    svg("rect", {class: kind, x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top)}));
  const disc = ([x, y, on]) => [svg("circle", {class: on ? "on" : "off", cx: x, cy: y}),
    svg("text", {class: "sign", x, y, dy: ".35em"}, on ? "+" : "−")];
  return [...boxes.flatMap(rectangle), ...points.flatMap(disc)];
}

/**
 * Opens pictures. What it shows of one is a view: {title, size: [width, height] or null, photos: addresses, the first
 * that loads and has the right proportions is taken, preview: address of a small picture or "", message: instead of a
 * picture, layers: [{name, text, key, shapes or prompts or picture, off: whether it begins hidden}], side: elements}.
 * If there is no photo: instead, the address of a picture that replaces the preview, and note, a text.
 */
class Lightbox {
  /** `list()`: the numbers of all pictures in their order, `view(number)`, `moved(number or null)` when another one is shown. */
  constructor({list, view, moved}) {
    Object.assign(this, {list, view, moved, dialog: $("lightbox"), number: null, switched: new Map(), pointers: new Map()});
    this.dialog.addEventListener("keydown", (event) => this.press(event));
    this.dialog.addEventListener("close", () => {
      const last = this.number;
      this.number = null;
      this.moved(null, last);
    });
    addEventListener("resize", () => { if (this.dialog.open) this.fit(); });
  }

  open(number) {
    if (!this.dialog.open) this.build();
    this.number = number;
    this.shown = this.view(number);
    this.show();
    if (!this.dialog.open) {
      this.dialog.showModal();
      this.close.focus();
    }
    this.fit();
    this.moved(number, null);
  }

  build() {
    const button = (name, sign, key, act) => el("button", {type: "button", class: `go-${name}`, "aria-keyshortcuts": key, "aria-label": t(name),
      title: `${t(name)} (${key})`, on: {click: act}}, sign);
    this.close = button("close", "✕", "Escape", () => this.dialog.close());
    this.back = button("previous", "←", "ArrowLeft", () => this.step(-1));
    this.forth = button("next", "→", "ArrowRight", () => this.step(1));
    this.title = el("h2", {id: "lightbox-title"});
    this.place = el("span", {class: "sub", role: "status"});
    this.switches = el("div", {class: "switches", role: "group", "aria-label": t("layers")});
    this.plane = el("div", {class: "plane"});
    this.message = el("p", {class: "placeholder"});
    this.stage = el("div", {class: "stage"}, this.plane, this.message);
    this.side = el("div", {class: "side", tabindex: "0", role: "region", "aria-label": t("about_picture")});
    const zoom = el("div", {class: "switches"}, [["zoom_out", "-", 1 / ZOOM_STEP], ["zoom_in", "+", ZOOM_STEP]].map(([name, key, by]) =>
      el("button", {type: "button", "aria-label": t(name), title: `${t(name)} (${key})`, on: {click: () => this.zoom(by)}}, key === "-" ? "−" : key)),
    el("button", {type: "button", title: `${t("fit")} (0)`, on: {click: () => this.fit()}}, t("fit")),
    el("button", {type: "button", title: `${t("real_size")} (1)`, on: {click: () => this.zoom(1 / this.scale)}}, "1:1"));
    this.dialog.setAttribute("aria-labelledby", "lightbox-title");
    this.dialog.replaceChildren(el("div", {class: "head"}, this.title, this.place, this.switches, zoom, el("div", {class: "switches"}, this.back, this.forth, this.close)),
      el("div", {class: "body"}, this.stage, this.side));
    this.listenToPointers();
  }

  isOn(layer) {
    return this.switched.get(layer.name) ?? !layer.off;
  }

  toggle(layer) {
    this.switched.set(layer.name, !this.isOn(layer));
    this.showSwitches();
  }

  showSwitches() {
    const focused = this.switches.contains(document.activeElement) ? document.activeElement.dataset.name : "";
    this.switches.replaceChildren(...this.shown.layers.map((layer) => el("button", {type: "button", "data-name": layer.name,
      "aria-pressed": String(this.isOn(layer)), "aria-keyshortcuts": layer.key, title: `${layer.text || t(layer.name)} (${layer.key})`,
      on: {click: () => this.toggle(layer)}}, layer.text || t(layer.name), el("kbd", {"aria-hidden": "true"}, layer.key))));
    if (focused) this.switches.querySelector(`[data-name="${focused}"]`)?.focus();
    for (const layer of this.shown.layers) {
      const drawn = this.plane.querySelector(`[data-layer="${layer.name}"]`);
      if (drawn) drawn.style.display = this.isOn(layer) ? "" : "none";
    }
  }

  show() {
    const {title, size, layers, side, preview, message} = this.shown, list = this.list(), at = list.indexOf(this.number);
    this.title.textContent = plain(title);
    this.place.textContent = at < 0 ? "" : t("place_of", whole(at + 1), whole(list.length));
    this.back.setAttribute("aria-disabled", String(!(at > 0)));
    this.forth.setAttribute("aria-disabled", String(at < 0 || at + 1 >= list.length));
    this.side.replaceChildren(...side);
    this.side.scrollTop = 0;
    this.message.textContent = plain(message || "");
    this.plane.replaceChildren();
    if (!size) return;
    const over = svg("svg", {viewBox: `0 0 ${size[0]} ${size[1]}`, preserveAspectRatio: "none", role: "img", "aria-label": plain(title)},
      layers.filter((layer) => !layer.picture).map((layer) => svg("g", {"data-layer": layer.name},
        layer.shapes ? drawShapes(layer.shapes) : drawPrompts(layer.prompts))));
    const image = (address, attributes) => el("img", {src: address, alt: "", draggable: "false", ...attributes});
    this.plane.append(...(preview ? [image(preview, {class: "preview"})] : []),
      ...layers.filter((layer) => layer.picture).map((layer) => image(layer.picture, {class: "pixels", "data-layer": layer.name})), over);
    this.showSwitches();
    this.loadPhoto(this.number, [...this.shown.photos]);
  }

  /** Put the first photo that loads under the layers, if the same picture is still shown then. */
  loadPhoto(number, addresses) {
    if (!addresses.length) {
      const {instead, note} = this.shown, preview = this.plane.querySelector(".preview");
      if (instead && preview) {
        const loaded = new Image();
        loaded.addEventListener("load", () => { preview.src = instead; });
        loaded.src = instead;
      }
      if (note) this.side.append(el("p", {class: "sub photo-note"}, note));
      return;
    }
    const photo = el("img", {alt: "", class: "photo", draggable: "false", decoding: "async"}), [width, height] = this.shown.size;
    const next = () => { if (this.number === number) this.loadPhoto(number, addresses.slice(1)); };
    photo.addEventListener("error", next);
    photo.addEventListener("load", () => {
      if (this.number !== number) return;
      if (Math.abs(photo.naturalWidth / photo.naturalHeight / (width / height) - 1) > 0.02) next();  // not the photo of these masks
      else {
        this.plane.querySelector(".preview")?.remove();
        this.plane.prepend(photo);
      }
    });
    photo.src = addresses[0];
  }

  step(by) {
    const list = this.list(), at = list.indexOf(this.number);
    if (at >= 0 && at + by in list) this.open(list[at + by]);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const layer = this.shown.layers.find(({key}) => event.key.toUpperCase() === key || event.code === `Key${key}`);
    const action = layer ? () => this.toggle(layer) : {ArrowRight: () => this.step(1), ArrowLeft: () => this.step(-1), "+": () => this.zoom(ZOOM_STEP),
      "=": () => this.zoom(ZOOM_STEP), "-": () => this.zoom(1 / ZOOM_STEP), 0: () => this.fit(), 1: () => this.zoom(1 / this.scale)}[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  // ---- where the picture is ----

  fit(box) {
    const {size} = this.shown, {clientWidth: width, clientHeight: height} = this.stage;
    if (!size) return;
    const [left, top, right, bottom] = box || [0, 0, ...size];
    const wanted = Math.min(width / Math.max(1, right - left), height / Math.max(1, bottom - top)) * (box ? 0.6 : 1);
    this.scale = Math.min(wanted, box ? MOST_ZOOM / 4 : 8);
    this.isFitted = !box;
    this.x = width / 2 - this.scale * (left + right) / 2;
    this.y = height / 2 - this.scale * (top + bottom) / 2;
    this.put();
  }

  zoom(by, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    if (!this.shown.size) return;
    const scale = Math.min(MOST_ZOOM, Math.max(0.02, this.scale * by)), factor = scale / this.scale;
    Object.assign(this, {scale, x: x - factor * (x - this.x), y: y - factor * (y - this.y), isFitted: false});
    this.put();
  }

  put() {
    const [width, height] = this.shown.size, margin = 40;
    this.x = Math.min(this.stage.clientWidth - margin, Math.max(margin - width * this.scale, this.x));
    this.y = Math.min(this.stage.clientHeight - margin, Math.max(margin - height * this.scale, this.y));
    Object.assign(this.plane.style, {width: `${width * this.scale}px`, height: `${height * this.scale}px`, transform: `translate(${this.x}px, ${this.y}px)`});
    this.plane.style.setProperty("--unit", `${1 / this.scale}px`);  // one pixel of the screen, for points and texts
    this.plane.classList.toggle("coarse", this.scale >= 3);
  }

  listenToPointers() {
    const {stage, pointers} = this, where = (event) => {
      const bounds = stage.getBoundingClientRect();
      return [event.clientX - bounds.left, event.clientY - bounds.top];
    };
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-Math.sign(event.deltaY) * Math.min(60, Math.abs(event.deltaY)) / 300), ...where(event));
    }, {passive: false});
    stage.addEventListener("dblclick", (event) => this.isFitted ? this.zoom(Math.max(2, 1 / this.scale), ...where(event)) : this.fit());
    stage.addEventListener("pointerdown", (event) => {
      pointers.set(event.pointerId, where(event));
      this.begun = {at: where(event), fitted: this.isFitted, single: pointers.size === 1, row: event.target.dataset?.row};
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId), now = where(event);
      if (!before || !this.shown.size) return;
      const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      pointers.set(event.pointerId, now);
      if (other) {
        const far = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
        this.begun.single = false;
        this.zoom(far(now) / Math.max(1, far(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      } else if (!this.begun.fitted) {
        this.x += now[0] - before[0];
        this.y += now[1] - before[1];
        this.put();
      }
    });
    const end = (event) => {
      if (!pointers.delete(event.pointerId) || pointers.size || event.type === "pointercancel") return;
      const moved = where(event)[0] - this.begun.at[0], sunk = where(event)[1] - this.begun.at[1];
      if (this.begun.fitted && this.begun.single && Math.abs(moved) > SWIPE && Math.abs(moved) > 2 * Math.abs(sunk)) this.step(moved < 0 ? 1 : -1);
      else if (Math.hypot(moved, sunk) < 5 && this.begun.row !== undefined) this.light(this.begun.row, true);
    };
    stage.addEventListener("pointerup", end);
    stage.addEventListener("pointercancel", end);
    this.dialog.querySelector(".body").addEventListener("pointerover", (event) => this.light(event.target.closest("[data-row]")?.dataset.row));
  }

  /** Mark an object, in the picture and in the table. */
  light(row, scroll) {
    for (const part of this.dialog.querySelectorAll("[data-row]")) part.classList.toggle("lit", part.dataset.row === row);
    if (scroll) this.side.querySelector(`[data-row="${row}"]`)?.scrollIntoView({block: "nearest"});
  }

  /** A button with the name of an object, which shows it large. */
  objectButton(row, text, outline) {
    if (!outline) return plain(text);
    return el("button", {type: "button", class: "link", title: t("show_object"), on: {click: () => {
      this.fit(decodeOutline(outline).box);
      this.light(String(row));
    }}}, plain(text));
  }
}
