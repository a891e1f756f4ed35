// The gallery: only the cards in view exist, and only their thumbnails are taken out of the page's blocks.

const [KEY, STATUS, DOUBT, WHY, FIGURE, SIZE, KEPT, DROPPED, SCORE, SECONDS, ATTEMPTS, LABELS, TEXT, MASKS, OVERLAY, CODES] =
  Array.from({length: 16}, (_, n) => n);
const GAP = 12, PRINTED = 24;
const UNFILTERED = {search: "", status: "", label: "", sort: "doubt"};
const state = {...UNFILTERED};
const cards = new Map();  // place in `order` → its element
let order = rows.map((_, n) => n);

const numberOf = new Map(rows.map((row, n) => [row[KEY], n]));
const blocks = new Map();  // the last few used, decoded

function thumbnail(number) {
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
  return lines[number % data.block];
}

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

/** The filter as a part of the address, so that a link or a reload shows the same images; labels by name. */
function writeAddress() {
  const chosen = Object.entries(state).filter(([name, value]) => value !== UNFILTERED[name])
    .map(([name, value]) => [name, name === "label" ? data.label_names[value] ?? "" : value]);
  if (!chosen.length && !location.hash.startsWith("#gallery?")) return;
  const query = new URLSearchParams(chosen).toString();
  try { history.replaceState(null, "", query ? `#gallery?${query}` : "#gallery"); } catch { /* too many in a short time */ }
}

/** Take the filter of the address; false if it has none. What the report does not know is left out. */
function readAddress() {
  if (!location.hash.startsWith("#gallery?")) return false;
  const given = new URLSearchParams(location.hash.slice("#gallery?".length));
  const label = given.has("label") ? data.label_names.indexOf(given.get("label") || null) : -1;
  Object.assign(state, UNFILTERED, {search: given.get("search") ?? "", label: label < 0 ? "" : String(label)});
  if (STATUSES.includes(given.get("status"))) state.status = given.get("status");
  if (Object.hasOwn(SORTS, given.get("sort") ?? "")) state.sort = given.get("sort");
  return true;
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
  Object.assign(state, {search: "", status: "", label: ""}, values);
  showTools();
  choose();
  $("gallery").scrollIntoView();
}

function selector(name, options) {
  const select = el("select", {id: `by-${name}`, on: {change: (event) => { state[name] = event.target.value; choose(); }}},
    options.map(([value, text]) => el("option", {value, selected: state[name] === value}, plain(text))));
  return el("label", {}, el("span", {}, t(name)), select);
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
    el("button", {type: "button", on: {click: () => filterBy({})}}, t("clear")),
    el("details", {class: "help"}, el("summary", {}, t("what_doubt")), el("p", {}, t("doubt_text"))));
}

// ---- one image ----

function maskTable(row) {
  const head = ["label", "score", "stability", "area", "fate"].map((name) => el("th", {scope: "col"}, t(name)));
  const line = ([label, score, stability, area, filter, reason]) => el("tr", {class: filter ? "gone" : ""}, el("th", {scope: "row"}, plain(labelName(label))),
    el("td", {}, figure(score)), el("td", {}, figure(stability)), el("td", {}, percent(area)),
    el("td", {class: "name"}, filter ? plain([t("dropped_by", filter), reason].filter(Boolean).join(": ")) : t("kept_one")));
  const total = row[KEPT] + row[DROPPED];
  return [el("div", {class: "scroll"}, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, row[MASKS].map(line)))),
    total > row[MASKS].length ? el("p", {class: "sub"}, t("masks_more", whole(row[MASKS].length), whole(total))) : ""];
}

function showDetail(number) {
  const row = rows[number], dialog = $("detail"), where = order.indexOf(number);
  const fact = (name, value) => value ? [el("dt", {}, t(name)), el("dd", {}, value)] : [];
  const step = (by, name) => el("button", {type: "button", id: `go-${name}`, disabled: where < 0 || !(where + by in order),
    on: {click: () => showDetail(order[where + by])}}, t(name));
  const focused = dialog.contains(document.activeElement) ? document.activeElement.id : "";
  dialog.setAttribute("aria-label", row[KEY]);
  dialog.replaceChildren(
    el("div", {class: "head"}, el("h2", {}, plain(row[KEY])), step(-1, "previous"), step(1, "next"),
      el("button", {type: "button", id: "go-close", on: {click: () => dialog.close()}}, t("close"))),
    el("div", {class: "body"},
      el("div", {class: "large"}, picture(number), row[OVERLAY] ? el("a", {href: row[OVERLAY], target: "_blank", rel: "noopener"}, t("open_overlay")) : ""),
      el("div", {},
        el("p", {class: "verdict"}, badge(row), el("span", {class: `status ${STATUSES[row[STATUS]]}`}, t(STATUSES[row[STATUS]])), why(row)),
        el("dl", {class: "facts"}, fact("reason", plain(row[TEXT])), fact("size", row[SIZE] && row[SIZE].join(" × ")),
          fact("seconds", row[SECONDS] !== null && digits(row[SECONDS], 3)), fact("attempts", row[ATTEMPTS] > 1 && whole(row[ATTEMPTS]))),
        row[MASKS].length ? maskTable(row) : "")));
  if (!dialog.open) dialog.showModal();
  const target = focused && $(focused) && !$(focused).disabled ? $(focused) : $("go-close");
  target.focus();  // the buttons are new ones: without this the keys would go nowhere
}

function openKey(key) {
  const number = numberOf.get(key);
  if (number !== undefined) showDetail(number);
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
  document.addEventListener("DOMContentLoaded", () => { draw(true); showDoubtful(); });
  addEventListener("hashchange", () => {
    if (!readAddress()) return;
    showTools();
    choose();
    $("gallery").scrollIntoView();
  });
  $("grid").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) showDetail(order[Number(button.dataset.place)]);
  });
  $("grid").addEventListener("keydown", (event) => {
    const by = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: layout().columns, ArrowUp: -layout().columns}[event.key];
    const button = event.target.closest("button");
    if (!by || !button) return;
    event.preventDefault();
    moveFocus(Number(button.dataset.place), by);
  });
  $("detail").addEventListener("keydown", (event) => {
    const button = {ArrowRight: $("go-next"), ArrowLeft: $("go-previous")}[event.key];
    if (button && !button.disabled) button.click();
  });
  $("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
  addEventListener("beforeprint", () => {
    $("grid").classList.add("printed");
    cards.clear();
    $("grid").replaceChildren(...order.slice(0, PRINTED).map((_, index) => makeCard(index)));
  });
  addEventListener("afterprint", () => { $("grid").classList.remove("printed"); draw(true); });
  $("language").addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    try { localStorage.setItem("maskmill-language", language); } catch { /* not kept, then */ }
    showAll();
  });
}

function showAll() {
  showHeader();
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
if (filtered) $("gallery").scrollIntoView();
