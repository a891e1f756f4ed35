// What was compared, and the figures of all objects.

const share = (part) => part === null || part === undefined ? "–" : percent(part);

function tiles() {
  const count = (name, value, below, kind) => tile(name, whole(value), below, value ? kind : "none");
  if (!isEvaluation) {
    return [count("images", about.images), count("identical_images", about.identical_images), count("pairs", about.pairs),
      tile("agreement", figure(about.mean_agreement)), tile("mean_iou", figure(about.mean_iou)), tile("median_iou", figure(about.median_iou))];
  }
  const {objects, mean_iou: mean, mean_boundary_f: boundary, iou_50: good, matched_by: ways, extra_masks: extra} = about.all;
  return [count("images", about.images), count("objects", objects), tile("mean_iou", figure(mean)), boundary === null ? "" : tile("boundary", figure(boundary)),
    tile("iou_50", whole(good), objects ? share(good / objects) : ""), about.coco.AP === null || about.coco.AP === undefined ? "" : tile("ap", figure(about.coco.AP)),
    count("missed", ways.missed, "", "failed"), count("extra_masks", extra, "", "failed")];
}

/** A line for names that were left out, with the first of them. */
function namesLine(name, {count, names}, ...values) {
  if (!count) return "";
  return el("li", {}, el("details", {class: "help"}, el("summary", {}, `${t(name, ...values)}: ${whole(count)}`),
    el("ul", {class: "keys"}, names.slice(0, 100).map((each) => el("li", {}, plain(each))))));
}

function facts() {
  const line = (name, ...values) => el("li", {}, t(name, ...values));
  if (!isEvaluation) {
    const {a, b} = about, other = about.statuses.filter((each) => each.a !== each.b);
    return [line("pairs_made", whole(about.pairs_by_prompt), whole(about.pairs - about.pairs_by_prompt), whole(about.identical_pairs)),
      ...other.map((each) => line("other_status", t(each.a), plain(a.name), t(each.b), plain(b.name), whole(each.images))),
      namesLine("only_in_run", about.only_in_a, plain(a.name)), namesLine("only_in_run", about.only_in_b, plain(b.name)),
      namesLine("not_compared", about.troubles)];
  }
  const {truth, all} = about, ways = all.matched_by;
  const unknown = Object.entries(about.unknown_labels);
  return [line("matches", whole(ways.id), whole(ways.overlap), whole(ways.missed)), line(about.classes_compared ? "by_class_fact" : "one_class"),
    all.objects ? "" : line("no_objects"), truth.kind === "box" ? line("only_boxes") : "",
    truth.merged_classes ? line("merged_classes", whole(truth.merged_classes)) : "", ...truth.warnings.map((text) => el("li", {}, plain(text))),
    namesLine("failed_images", about.failed), namesLine("not_evaluated", about.troubles), namesLine("without_truth", about.only_in_run),
    namesLine("not_in_run", about.only_in_truth),
    unknown.length ? el("li", {}, `${t("unknown_labels")}: ${plain(unknown.map(([label, count]) => `${label || t("no_label")} (${whole(count)})`).join(", "))}`) : ""];
}

/** The figures of each class, size or kind of prompt. */
function groupTable(group) {
  const rows = Object.entries(about[`by_${group}`]).map(([name, values]) => ({name, ...values, ap: about.coco[`AP ${name}`] ?? null}));
  if (!rows.length) return "";
  const shown = (name) => group === "class" ? labelName(name) : word(name);
  const number = (title, field, show) => ({title: t(title), value: (row) => row[field], show: (row) => show(row[field])});
  const name = ({name: each}) => group === "class" ? el("button", {type: "button", class: "link", on: {click: () => filterBy({label: each})}}, plain(shown(each)))
    : plain(shown(each));
  const columns = [{title: t(`group_${group}`), text: true, value: (row) => shown(row.name), show: name}, number("objects", "objects", whole),
    number("answered", "answered", whole), number("iou_50", "iou_50", whole), number("mean_iou", "mean_iou", figure), number("boundary", "mean_boundary_f", figure),
    ...(group === "class" && about.classes_compared ? [number("ap", "ap", figure)] : [])];
  return card(`by_${group}`, group === "class" ? "by_class_sub" : "by_group_sub", el("div", {}, sortableTable(t(`by_${group}`), columns, rows, [4, 1])), group === "class");
}

/** Objects that only a mask of another class covers. */
function confusionTable() {
  const columns = [["truth", "truth_label"], ["mask", "mask_label"]].map(([field, title]) => ({title: t(title), text: true, value: (row) => labelName(row[field]),
    show: (row) => plain(labelName(row[field]))}));
  columns.push({title: t("objects"), value: (row) => row.objects, show: (row) => whole(row.objects)});
  return about.confusions.length ? card("confusions", "confusions_sub", el("div", {}, sortableTable(t("confusions"), columns, about.confusions, [2, -1]))) : "";
}

function cocoTable() {
  const named = Object.entries(about.coco).filter(([name, value]) => value !== null && !name.includes(" "));
  return named.length ? card("coco", "coco_sub", plainTable(named.map(([name, value]) => [name, figure(value)]))) : "";
}

const plainTable = (rows, head) => el("div", {class: "scroll"}, el("table", {},
  head ? el("thead", {}, el("tr", {}, head.map((text, n) => el("th", {scope: "col", class: n ? "" : "name"}, text)))) : "",
  el("tbody", {}, rows.map(([first, ...rest]) => el("tr", {}, el("th", {scope: "row"}, first), rest.map((text) => el("td", {}, text)))))));

function runTables() {
  const seconds = (value) => value === null ? "–" : duration(value);
  const runs = [about.a, about.b].map((run) => [plain(run.name), whole(run.masks), whole(run.masks_without_partner),
    seconds(run.seconds_per_image.mean), seconds(run.seconds_per_image.median)]);
  const steps = Object.entries(about.share_of_pairs_from_iou).map(([step, part]) => [`IoU ≥ ${step}`, share(part)]);
  return [card("runs", "runs_sub", plainTable(runs, ["run", "masks", "without_partner", "seconds_mean", "seconds_median"].map((name) => t(name)))),
    card("steps", "steps_sub", plainTable(steps))];
}

function showOverview() {
  const links = data.links.map(([name, address]) => el("li", {}, el("a", {class: "chip", href: address}, plain(name))));
  const models = isEvaluation ? plain(t("truth_of", about.truth.source)) : plain([about.a, about.b].filter(({model}) => model).map(({name, model}) =>
    `${name}: ${model.slice(0, 24)}`).join(" · "));
  $("overview").replaceChildren(el("h2", {class: "quiet"}, t("overview")), el("p", {class: "sub headline"}, models),
    links.length ? el("nav", {class: "headline", "aria-label": t("other_pages")}, el("ul", {class: "chips"}, el("li", {class: "sub"}, t("other_pages")), links)) : "",
    el("dl", {class: "tiles"}, tiles()),
    el("article", {class: "card"}, el("h3", {}, t("facts")), el("ul", {class: "lines"}, facts().filter(Boolean))));
  const bins = {kept: about.iou_histogram, dropped: about.iou_histogram.map(() => 0)}, counted = isEvaluation ? "counted_objects" : "counted_pairs";
  $("figures").replaceChildren(el("h2", {}, t("figures")), el("div", {class: "cards"},
    card("ious", isEvaluation ? "ious_sub" : "ious_pairs_sub", unitHistogram("ious", bins, counted)),
    isEvaluation ? [cocoTable(), groupTable("class"), groupTable("size"), groupTable("prompt"), confusionTable()] : runTables()));
}
