// The gallery: only the cards in view exist, and only their thumbnails are taken out of the page's blocks.

const GAP = 12, PRINTED = 24;
const UNFILTERED = {search: "", status: "", label: "", changed: "", sort: "doubt", image: ""};
const state = {...UNFILTERED};
const cards = new Map();  // place in `order` → its element
let order = rows.map((_, n) => n);

const numberOf = new Map(rows.map((row, n) => [row[KEY], n]));
const blocks = new Map();  // the last few used, decoded

/** The line of an image in its block: the thumbnail, and what is drawn over the photo; null while the page loads. */
function readLine(number) {
  const block = Math.floor(number / data.block);
  let lines = blocks.get(block);
  if (!lines) {
    const script = $(`t${block}`);
    // while the page still loads, its last block may be cut off
    if (!script || (document.readyState === "loading" && !script.nextElementSibling)) return null;
    lines = script.textContent.split("\n");
    if (blocks.size >= 12) blocks.delete(blocks.keys().next().value);
    blocks.set(block, lines);
  }
  return lines[number % data.block].split("\t");
}

function thumbnail(number) {
  const line = readLine(number);
  return line && line[0];
}

const layersOf = (number) => JSON.parse(readLine(number)?.[1] || "{}");

function picture(number) {
  const row = rows[number], found = thumbnail(number);
  if (found) return el("img", {src: `data:image/webp;base64,${found}`, alt: "", decoding: "async", draggable: "false"});
  const text = row[STATUS] > 1 ? withoutPath(row) : t(found === null ? "loading" : "no_thumbnail");
  return el("span", {class: "placeholder"}, plain(text.slice(0, 160)));
}

/** The reason of a failure without the path before it, which the card names anyway. */
function withoutPath(row) {
  const after = row[TEXT].split(`${row[KEY]}: `)[1];
  return after || row[TEXT];
}

function why(row) {
  if (row[WHY] === "failed") return "";
  if (row[WHY] === "doubts") return row[CODES].join(", ");
  if (!row[WHY] && row[STATUS] === 1) return t("why_empty");
  const number = row[FIGURE];
  return t(`why_${row[WHY]}`, number === null ? "" : Number.isInteger(number) && row[WHY].startsWith("dropped") ? whole(number) : figure(number));
}

const level = (value) => value >= 0.5 ? "high" : value >= 0.2 ? "middle" : "low";

function badge(row) {
  if (row[STATUS] > 1) return "";
  return el("span", {class: `doubt ${level(row[DOUBT])}`, title: t("doubt")}, whole(Math.round(100 * row[DOUBT])));
}

function cardButton(number, attributes) {
  const row = rows[number], key = plain(row[KEY]), status = STATUSES[row[STATUS]];
  const masks = row[KEPT] ? many(row[KEPT], "masks_n", "mask_1") : "";
  const lines = [el("span", {class: "name", title: key}, key.slice(key.lastIndexOf("/") + 1)),
    el("span", {class: "line"}, el("span", {}, [status === "done" ? "" : t(status), masks, why(row)].filter(Boolean).join(" · ")))];
  return el("button", {type: "button", class: status, ...attributes,
    "aria-label": `${key}: ${[t(status), masks, why(row), row[STATUS] > 1 ? "" : `${t("doubt")} ${Math.round(100 * row[DOUBT])}`].filter(Boolean).join(", ")}`},
  el("span", {class: "thumb"}, picture(number)), badge(row), lines);
}

function makeCard(place) {
  const button = cardButton(order[place], {"data-place": place});
  return el("div", {role: "listitem", class: "item", "aria-setsize": order.length, "aria-posinset": place + 1}, button);
}

function layout() {
  const width = $("grid").clientWidth, small = width < 600;
  const columns = Math.max(1, Math.floor((width + GAP) / ((small ? 150 : 186) + GAP)));
  const cardWidth = (width - GAP * (columns - 1)) / columns;
  return {columns, cardWidth, cardHeight: Math.round(cardWidth * 0.78) + 58};
}

function place(item, index, {columns, cardWidth, cardHeight}) {
  item.style.width = `${cardWidth}px`;
  item.style.height = `${cardHeight}px`;
  item.style.transform = `translate(${(index % columns) * (cardWidth + GAP)}px, ${Math.floor(index / columns) * (cardHeight + GAP)}px)`;
}

function draw(fresh) {
  if ($("grid").classList.contains("printed")) return;
  const grid = $("grid"), sizes = layout(), pitch = sizes.cardHeight + GAP;
  if (fresh) {
    cards.clear();
    grid.replaceChildren();
  }
  grid.style.height = `${Math.max(0, Math.ceil(order.length / sizes.columns) * pitch - GAP)}px`;
  const above = -grid.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(above / pitch) - 1) * sizes.columns;
  const last = Math.min(order.length, (Math.ceil((above + innerHeight) / pitch) + 1) * sizes.columns);
  for (const [index, item] of cards) {
    if ((index < first || index >= last) && !item.contains(document.activeElement)) {
      item.remove();
      cards.delete(index);
    }
  }
  for (let index = first; index < last; index++) {
    let item = cards.get(index);
    if (!item) {
      item = makeCard(index);
      const after = cards.get(index - 1);  // the order of the elements is that of the tab key
      if (after) after.after(item);
      else grid.prepend(item);
      cards.set(index, item);
    }
    place(item, index, sizes);
  }
}

function fits(row, words) {
  if (state.status && row[STATUS] !== STATUSES.indexOf(state.status)) return false;
  if (state.label && !row[LABELS].includes(Number(state.label))) return false;
  if (state.changed && !hasChanged(numberOf.get(row[KEY]), state.changed)) return false;
  if (!words.length) return true;
  const text = `${row[KEY]}\n${row[TEXT]}\n${row[LABELS].map(labelName).join("\n")}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

const SORTS = {
  doubt: (a, b) => rows[b][DOUBT] - rows[a][DOUBT] || rows[a][STATUS] - rows[b][STATUS],
  key: () => 0,
  score: (a, b) => (rows[a][SCORE] ?? 2) - (rows[b][SCORE] ?? 2),
  masks: (a, b) => rows[b][KEPT] - rows[a][KEPT],
  seconds: (a, b) => (rows[b][SECONDS] ?? -1) - (rows[a][SECONDS] ?? -1),
};

/** The filter and the open image as a part of the address, so that a link or a reload shows the same; labels by name. */
function writeAddress() {
  writeAddressValues("gallery", Object.entries(state).filter(([name, value]) => value !== UNFILTERED[name])
    .map(([name, value]) => [name, name === "label" ? data.label_names[value] ?? "" : value]));
}

/** Take the filter of the address; false if it has none. What the report does not know is left out. */
function readAddress() {
  const given = addressValues("gallery");
  if (!given) return false;
  const label = given.has("label") ? data.label_names.indexOf(given.get("label") || null) : -1;
  Object.assign(state, UNFILTERED, {search: given.get("search") ?? "", label: label < 0 ? "" : String(label)});
  if (STATUSES.includes(given.get("status"))) state.status = given.get("status");
  if (Object.hasOwn(SORTS, given.get("sort") ?? "")) state.sort = given.get("sort");
  if (/^(status:\w+:\w+|any|new|redone|worse|better|fewer|more)$/.test(given.get("changed") ?? "")) state.changed = given.get("changed");
  if (numberOf.has(given.get("image"))) state.image = given.get("image");
  return true;
}

/** Show what the address names: the filtered gallery, and the image if it names one. */
function followAddress() {
  $("gallery").scrollIntoView();
  if (state.image) openKey(state.image);
}

function choose() {
  writeAddress();
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  order = rows.map((_, n) => n).filter((n) => fits(rows[n], words)).sort((a, b) => SORTS[state.sort](a, b) || a - b);
  const {shown, total} = data.gallery;
  const text = !order.length ? t("nothing")
    : order.length === rows.length ? many(order.length, "images_n", "image_1") : t("n_of_m", whole(order.length), whole(rows.length));
  $("shown").textContent = shown < total ? `${text} ${t("limited", whole(shown), whole(total))}` : text;
  draw(true);
}

function filterBy(values) {
  Object.assign(state, {search: "", status: "", label: "", changed: ""}, values);
  showTools();
  choose();
  $("gallery").scrollIntoView();
}

function selector(name, options) {
  const select = el("select", {id: `by-${name}`, on: {change: (event) => { state[name] = event.target.value; choose(); }}},
    options.map(([value, text]) => el("option", {value, selected: state[name] === value}, plain(text))));
  return el("label", {}, el("span", {}, t(name)), select);
}

function changeOptions() {
  const named = Object.keys(CHANGE_FILTERS).map((name) => [name, t(`change_${name}`)]);
  const statuses = data.changes.statuses.map(([before, now]) => [`status:${before}:${now}`, `${t(before)} → ${t(now)}`]);
  return [["", t("all")], ...named, ...statuses].filter(([name]) => !name || rows.some((_, number) => hasChanged(number, name)));
}

function showTools() {
  const search = el("input", {type: "search", id: "by-search", placeholder: t("search"), "aria-label": t("search"), value: state.search,
    on: {input: (event) => { state.search = event.target.value; choose(); }}});
  const statuses = STATUSES.filter((name) => data.statuses[name]).map((name) => [name, `${t(name)} (${whole(data.statuses[name])})`]);
  const labels = data.labels.slice(0, 500).map(([number, kept, dropped]) => [String(number), `${labelName(number)} (${whole(kept + dropped)})`]);
  $("gallery-title").textContent = t("gallery");
  $("tools").replaceChildren(search, selector("sort", Object.keys(SORTS).map((name) => [name, t(`sort_${name}`)])),
    selector("status", [["", t("all")], ...statuses]),
    labels.length ? selector("label", [["", t("all")], ...labels]) : "",
    changed.size ? selector("changed", changeOptions()) : "",
    el("button", {type: "button", on: {click: () => filterBy({})}}, t("clear")),
    el("details", {class: "help"}, el("summary", {}, t("what_doubt")), el("p", {}, t("doubt_text"))));
}

function moveFocus(from, by) {
  const index = Math.min(Math.max(from + by, 0), order.length - 1), sizes = layout(), pitch = sizes.cardHeight + GAP;
  const top = $("grid").getBoundingClientRect().top + Math.floor(index / sizes.columns) * pitch;
  const head = $("top").offsetHeight + GAP;
  if (top < head) scrollBy(0, top - head);
  else if (top + pitch > innerHeight) scrollBy(0, top + pitch - innerHeight);
  draw(false);
  cards.get(index)?.firstChild.focus({preventScroll: true});
}

function listen() {
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(false); });
  };
  addEventListener("scroll", soon, {passive: true});
  addEventListener("resize", soon);
  document.addEventListener("DOMContentLoaded", () => {  // now all thumbnails are there
    draw(true);
    showDoubtful();
    if (lightbox.number !== null) lightbox.open(lightbox.number);
  });
  addEventListener("hashchange", () => {
    if (!readAddress()) return;
    const {image} = state;
    showTools();
    choose();
    state.image = image;
    followAddress();
  });
  $("grid").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) lightbox.open(order[Number(button.dataset.place)]);
  });
  $("grid").addEventListener("keydown", (event) => {
    const by = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: layout().columns, ArrowUp: -layout().columns}[event.key];
    const button = event.target.closest("button");
    if (!by || !button) return;
    event.preventDefault();
    moveFocus(Number(button.dataset.place), by);
  });
  addEventListener("beforeprint", () => {
    $("grid").classList.add("printed");
    cards.clear();
    $("grid").replaceChildren(...order.slice(0, PRINTED).map((_, index) => makeCard(index)));
  });
  addEventListener("afterprint", () => { $("grid").classList.remove("printed"); draw(true); });
  followLanguage(showAll);
}

function showAll() {
  showHeader(t("title", data.about.name), data.about.name, ["overview", ...(data.about.team ? ["team"] : []), "failures", "provenance", "gallery"]);
  showOverview();
  showTeam();
  showFailures();
  showProvenance();
  showTools();
  choose();
}

const filtered = readAddress();
showAll();
listen();
if (filtered) followAddress();
