// The worst images: small pictures with their errors, and the same large.

const about = data.about, isEvaluation = data.kind === "evaluate";
const pictures = read("pictures_data");
const pictureOf = new Map(pictures.map(({key}, number) => [key, number]));

// The fields of an object, as `evaluation.py` and `comparison.py` write them.
const [IOU, HOW] = isEvaluation ? [4, 3] : [3, 2];
const labelsOf = (object) => isEvaluation ? [object[0]] : [object[0], object[1]].filter((label) => label !== null);
const labelName = (label) => label || t("no_label");
const word = (text) => text && (strings[language][`word_${text}`] ?? text);

/** Columns of the table of objects: their fields, and how they are shown. */
function objectColumns() {
  const text = (title, field, show) => ({title, text: true, value: (object) => object[field] === null ? null : show(object[field]),
    show: (object) => object[field] === null ? "–" : plain(show(object[field]))});
  const number = (title, field) => ({title, value: (object) => object[field], show: (object) => figure(object[field])});
  if (isEvaluation) {
    const matched = (object) => object[7] === null ? word(object[3]) : t("found_as", word(object[3]), plain(labelName(object[7])));
    return [text(t("label"), 0, labelName), text(t("object_size"), 1, word), text(t("prompt"), 2, word),
      {title: t("matched"), text: true, value: matched, show: matched},
      number(t("iou"), 4), number(t("boundary"), 5), number(t("score"), 6)];
  }
  const [a, b] = [plain(about.a.name), plain(about.b.name)];
  return [text(t("label_of", a), 0, labelName), text(t("label_of", b), 1, labelName), text(t("paired"), 2, word), number(t("iou"), 3),
    number(t("score_of", a), 4), number(t("score_of", b), 5)];
}

const level = (value) => value < 0.5 ? "high" : value < 0.8 ? "middle" : "low";
const measure = () => t(isEvaluation ? "mean_iou" : "agreement");

function pictureCard(number) {
  const {key, value, small, objects} = pictures[number], name = plain(key);
  const counted = ["missed", "extra", "only_a", "only_b"].map((how) => [how, objects.filter((object) => object[HOW] === how).length]);
  const found = counted.filter(([, count]) => count).map(([how, count]) => `${word(how)}: ${whole(count)}`).join(", ");
  const line = [many(objects.filter((object) => object[HOW] !== "extra").length, "n_objects", "object_1"), found].filter(Boolean).join(" · ");
  return el("li", {class: "pick"}, el("button", {type: "button", on: {click: () => lightbox.open(number)},
    "aria-label": `${name}: ${measure()} ${figure(value)}, ${line}`},
  el("span", {class: "thumb"}, el("img", {src: `data:image/webp;base64,${small}`, alt: "", loading: "lazy", draggable: "false"})),
  el("span", {class: `doubt ${level(value)}`, title: measure()}, figure(value)),
  el("span", {class: "name", title: name}, name.slice(name.lastIndexOf("/") + 1)), el("span", {class: "line", title: line}, line)));
}

function legend() {
  const tone = (color, text) => {
    const swatch = el("span", {class: "swatch", "aria-hidden": "true"});
    swatch.style.setProperty("--tone", color);
    return el("span", {}, swatch, text);
  };
  return el("p", {class: "legend"}, tone("#e22020", isEvaluation ? t("extra_pixels") : t("only_in", plain(about.b.name))),
    tone("#185cff", isEvaluation ? t("missing_pixels") : t("only_in", plain(about.a.name))),
    tone("#a528c8", t("both_pixels")));
}

function viewOf(number) {
  const {key, value, size, sets, boxes, points, objects, photo, errors, small, note} = pictures[number];
  const shapes = (set, dashed) => set.map(([row, outline, color, label]) => ({row, outline, color, text: dashed ? "" : labelName(label), dashed}));
  const names = isEvaluation ? [t("layer_truth"), t("layer_masks")] : [plain(about.a.name), plain(about.b.name)];
  const keys = isEvaluation ? ["T", "M"] : ["A", "B"];
  const layers = [{name: "layer_errors", key: "E", picture: errors},
    ...sets.map((set, side) => ({name: `set_${side}`, text: names[side], key: keys[side], shapes: shapes(set, side === 0)}))];
  if (boxes.length || points.length) layers.push({name: "layer_prompts", key: "P", prompts: {boxes, points}, off: true});
  const swatch = new Map(sets.flat().map(([row, outline, color]) => [row, {outline, color}]));
  const order = objects.map((object, row) => [object, row]).sort(([a], [b]) => (a[IOU] ?? -1) - (b[IOU] ?? -1));
  const columns = objectColumns().filter(({title}) => ![t("object_size"), t("prompt"), t("boundary")].includes(title));
  const line = ([object, row]) => el("tr", {"data-row": String(row)}, columns.map(({show, text}, n) => {
    if (n) return el("td", {class: text ? "name" : ""}, show(object));
    const tone = el("span", {class: "swatch", "aria-hidden": "true"});
    tone.style.setProperty("--tone", swatch.get(row)?.color ?? "transparent");
    return el("th", {scope: "row"}, tone, lightbox.objectButton(row, show(object), swatch.get(row)?.outline));
  }));
  const side = [el("p", {class: "verdict"}, el("span", {class: `doubt ${level(value)}`}, figure(value)), measure()), legend(),
    note ? el("p", {class: "sub"}, t(`photo_${note}`)) : "",
    el("div", {class: "scroll"}, el("table", {}, el("thead", {}, el("tr", {}, columns.map(({title, text}) =>
      el("th", {scope: "col", class: text ? "name" : ""}, title)))), el("tbody", {}, order.map(line))))];
  return {title: key, size, photos: photo ? [photo] : [], preview: `data:image/webp;base64,${small}`, layers, side: side.filter(Boolean)};
}
