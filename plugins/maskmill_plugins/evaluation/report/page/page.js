// The filter of pictures and objects, and the table of objects.

const rows = read("rows");
const UNFILTERED = {search: "", label: "", sort: "iou", image: ""};
const state = {...UNFILTERED};
/** Pictures shown before somebody asks for more. */
const FIRST = 12;
let order = pictures.map((_, number) => number), isAll = false;

const lightbox = new Lightbox({list: () => order, view: viewOf, moved: (number) => {
  state.image = number === null ? "" : pictures[number].key;
  writeAddress();
}});

const labels = [...new Set([...(isEvaluation ? Object.keys(about.by_class) : []), ...rows.flatMap(([, ...object]) => labelsOf(object))])].sort();
// Names of the columns in the address; "-" before one means the other direction.
const SORTS = ["image", ...(isEvaluation ? ["label", "size", "prompt", "matched", "iou", "boundary", "score"] : ["label_a", "label_b", "paired", "iou", "score_a", "score_b"])];

function writeAddress() {
  writeAddressValues("objects", Object.entries(state).filter(([name, value]) => value !== UNFILTERED[name]));
}

function readAddress() {
  const given = addressValues("objects");
  if (!given) return false;
  Object.assign(state, UNFILTERED, {search: given.get("search") ?? ""});
  if (labels.includes(given.get("label"))) state.label = given.get("label");
  if (SORTS.includes((given.get("sort") ?? "").replace(/^-/, ""))) state.sort = given.get("sort");
  if (pictureOf.has(given.get("image"))) state.image = given.get("image");
  return true;
}

/** Whether an object of an image fits the filter. */
function fits(key, object) {
  if (state.label && !labelsOf(object).includes(state.label)) return false;
  const text = `${key}\n${labelsOf(object).map(labelName).join("\n")}`.toLowerCase();
  return state.search.toLowerCase().split(/\s+/).every((each) => text.includes(each));
}

function choose() {
  writeAddress();
  order = pictures.map((_, number) => number).filter((number) => pictures[number].objects.some((object) => fits(pictures[number].key, object)));
  const shown = isAll ? order : order.slice(0, FIRST);
  $("grid").replaceChildren(...shown.map(pictureCard));
  $("more").replaceChildren(...(shown.length < order.length ? [el("button", {type: "button", on: {click: () => {
    isAll = true;
    choose();
    $("grid").children[FIRST].firstChild.focus();
  }}}, t("show_all", whole(order.length)))] : []));
  $("shown").textContent = !pictures.length ? t("no_pictures") : order.length ? t("n_pictures", whole(order.length)) : t("nothing");
  showObjects();
}

function showObjects() {
  const found = rows.filter(([key, ...object]) => fits(key, object));
  const image = {title: t("image"), text: true, value: ([key]) => key, show: ([key]) => {
    const number = pictureOf.get(key);
    return number === undefined ? plain(key) : el("button", {type: "button", class: "link", on: {click: () => lightbox.open(number)}}, plain(key));
  }};
  const columns = [image, ...objectColumns().map((column) => ({...column, value: ([, ...object]) => column.value(object), show: ([, ...object]) => column.show(object)}))];
  const direction = state.sort.startsWith("-") ? -1 : 1;
  const table = sortableTable(t("objects_title"), columns, found, [SORTS.indexOf(state.sort.replace(/^-/, "")), direction], ([number, way]) => {
    state.sort = `${way < 0 ? "-" : ""}${SORTS[number]}`;
    writeAddress();
  });
  const limit = rows.length < data.total ? t("objects_limited", whole(rows.length), whole(data.total)) : "";
  $("objects").replaceChildren(el("h2", {}, t(isEvaluation ? "objects_title" : "pairs_title")),
    el("p", {class: "sub", role: "status"}, [t(isEvaluation ? "n_rows" : "n_pairs", whole(found.length)), limit].filter(Boolean).join(" ")),
    el("div", {class: "card"}, table));
}

function filterBy(values) {
  Object.assign(state, {search: "", label: ""}, values);
  showTools();
  choose();
  $("pictures").scrollIntoView();
}

function showTools() {
  $("pictures-title").textContent = t(isEvaluation ? "worst_images" : "different_images");
  const search = el("input", {type: "search", id: "by-search", placeholder: t("search_images"), "aria-label": t("search_images"), value: state.search,
    on: {input: (event) => { state.search = event.target.value; choose(); }}});
  const select = el("select", {id: "by-label", on: {change: (event) => { state.label = event.target.value; choose(); }}},
    ["", ...labels.filter(Boolean)].map((label) => el("option", {value: label, selected: state.label === label}, label ? plain(label) : t("all"))));
  $("tools").replaceChildren(search, el("label", {}, el("span", {}, t("label")), select),
    el("button", {type: "button", on: {click: () => filterBy({})}}, t("clear")), legend());
}

/** Show what the address names: the filtered pictures, and the image if it names one. */
function followAddress(image) {
  showTools();
  choose();
  $("pictures").scrollIntoView();
  if (image) lightbox.open(pictureOf.get(image));
}

function showAll() {
  showHeader(data.title, data.title, ["overview", "pictures", "figures", "objects"]);
  showOverview();
  showTools();
  choose();
}

const isFiltered = readAddress(), named = state.image;
showAll();
followLanguage(showAll);
addEventListener("hashchange", () => { if (readAddress()) followAddress(state.image); });
if (isFiltered) followAddress(named);
