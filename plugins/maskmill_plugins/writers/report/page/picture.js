// One image large: its photo with masks and prompts, and what is known about it.

const lightbox = new Lightbox({list: () => order, view: viewOf, moved: (number, last) => {
  state.image = number === null ? "" : rows[number][KEY];
  writeAddress();
  if (number === null) focusCard(last);
}});

function viewOf(number) {
  const row = rows[number], {masks = [], boxes = [], points = [], photos = []} = layersOf(number);
  const shape = (n, [outline, color]) => ({outline, color, row: n, text: row[MASKS][n] ? labelName(row[MASKS][n][0]) : "", filled: !row[MASKS][n]?.[4],
    dashed: Boolean(row[MASKS][n]?.[4])});
  const shapes = masks.map((mask, n) => shape(n, mask)), thumb = thumbnail(number);
  const layers = [{name: "layer_masks", key: "M", shapes: shapes.filter(({dashed}) => !dashed)}];
  if (shapes.some(({dashed, outline}) => dashed && outline)) layers.push({name: "layer_dropped", key: "D", shapes: shapes.filter(({dashed}) => dashed), off: row[KEPT] > 0});
  if (boxes.length || points.length) layers.push({name: "layer_prompts", key: "P", prompts: {boxes, points}});
  return {title: row[KEY], size: thumb ? row[SIZE] : null, photos, preview: thumb ? `data:image/webp;base64,${thumb}` : "",
    message: thumb ? "" : row[STATUS] > 1 ? withoutPath(row) : t(thumb === null ? "loading" : "no_thumbnail"), layers,
    instead: row[OVERLAY] || "", note: t("no_photo"), side: describeImage(number, masks)};
}

function describeImage(number, masks) {
  const row = rows[number], fact = (name, value) => value ? [el("dt", {}, t(name)), el("dd", {}, value)] : [];
  return [
    el("p", {class: "verdict"}, badge(row), el("span", {class: `status ${STATUSES[row[STATUS]]}`}, t(STATUSES[row[STATUS]])), why(row)),
    el("dl", {class: "facts"}, fact("changed", describeChange(number)), fact("reason", plain(row[TEXT])), fact("size", row[SIZE] && row[SIZE].join(" × ")),
      fact("seconds", row[SECONDS] !== null && digits(row[SECONDS], 3)), fact("attempts", row[ATTEMPTS] > 1 && whole(row[ATTEMPTS]))),
    row[MASKS].length ? maskTable(row, masks) : "",
    row[OVERLAY] ? el("a", {href: row[OVERLAY], target: "_blank", rel: "noopener"}, t("open_overlay")) : "",
  ];
}

function maskTable(row, masks) {
  const isStable = row[MASKS].some(([, , stability]) => stability !== null);  // only models of the SAM family have it
  const head = ["label", "score", ...(isStable ? ["stability"] : []), "area"].map((name) => el("th", {scope: "col"}, t(name)));
  const line = ([label, score, stability, area, filter, reason], n) => {
    const [outline, color] = masks[n] || ["", ""], swatch = el("span", {class: "swatch", "aria-hidden": "true"});
    swatch.style.setProperty("--tone", color || "transparent");
    const fate = filter ? el("span", {class: "sub"}, plain(` ${[t("dropped_by", filter), reason].filter(Boolean).join(": ")}`)) : "";
    return el("tr", {class: filter ? "gone" : "", "data-row": String(n)},
      el("th", {scope: "row"}, swatch, lightbox.objectButton(n, labelName(label), outline), fate),
      el("td", {}, figure(score)), isStable ? el("td", {}, figure(stability)) : "", el("td", {}, percent(area)));
  };
  const total = row[KEPT] + row[DROPPED];
  return el("div", {}, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, row[MASKS].map(line))),
    total > row[MASKS].length ? el("p", {class: "sub"}, t("masks_more", whole(row[MASKS].length), whole(total))) : "");
}

function openKey(key) {
  const number = numberOf.get(key);
  if (number !== undefined) lightbox.open(number);
}

/** After the lightbox: the card of the last picture, if the focus was on a card. */
function focusCard(number) {
  const at = order.indexOf(number);
  if (at >= 0 && $("grid").contains(document.activeElement)) moveFocus(at, 0);
}
