// Overview, failures, provenance.

const rows = read("rows");
const STATUSES = ["done", "empty", "rejected", "failed", "quarantined"];
// The fields of a row, as `gallery.py` writes them.
const [KEY, STATUS, DOUBT, WHY, FIGURE, SIZE, KEPT, DROPPED, SCORE, SECONDS, ATTEMPTS, LABELS, TEXT, MASKS, OVERLAY, CODES] =
  Array.from({length: 16}, (_, n) => n);

const PICTURES = 6, LABELS_SHOWN = 12, DROPS_SHOWN = 10, SLOWEST_SHOWN = 10, KEYS_SHOWN = 60;

function labelName(number) {
  return data.label_names[number] ?? t("no_label");
}

function tiles() {
  const total = data.gallery.total, masks = data.masks, seconds = data.about.stages.reduce((sum, [, value]) => sum + value, 0);
  const status = (name) => {
    const count = data.statuses[name];
    return tile(name, whole(count), total ? t("share", percent(count / total)) : "", count ? name : "none");
  };
  const made = masks.kept + masks.dropped;
  return el("dl", {class: "tiles"}, tile("images", whole(total)), STATUSES.map((name) => !["rejected", "quarantined"].includes(name) || data.statuses[name] ? status(name) : ""),
    tile("masks", whole(masks.kept), total ? t("per_image", digits(masks.kept / total, 1)) : ""),
    tile("masks_dropped", whole(masks.dropped), made ? percent(masks.dropped / made) : ""),
    seconds ? tile("work", duration(seconds), total ? t("per_second", duration(seconds / total)) : "") : "");
}

/** When the report was written, and of which images. */
function headline() {
  const written = data.about.written && new Date(data.about.written).toLocaleString(language, {dateStyle: "long", timeStyle: "short"});
  const folders = data.about.dataset.map((path) => path.split(/[\\/]/).filter(Boolean).at(-1) ?? path);
  return el("p", {class: "sub headline", title: plain(data.about.dataset.join("\n"))}, [written, folders.length && plain(t("of_dataset", folders.join(", "))),
    data.about.backend].filter(Boolean).join(" · "));
}

/** The most doubtful pictures, on the first screen. */
function showDoubtful() {
  const worst = rows.map((_, n) => n).filter((n) => rows[n][STATUS] < 2 && rows[n][DOUBT] > 0).sort(SORTS.doubt).slice(0, PICTURES);
  $("doubtful").hidden = !worst.length;
  $("doubtful").replaceChildren(el("h3", {}, t("most_doubtful")), el("ul", {class: "strip"},
    worst.map((number) => el("li", {class: "pick"}, cardButton(number, {on: {click: () => lightbox.open(number)}})))));
}

function limited(items, shown) {
  const rest = items.length - shown;
  return [bars(items.slice(0, shown)), rest > 0 ? el("p", {class: "sub"}, t("more", whole(rest))) : ""];
}

function formatsTable() {
  const row = ([name, mean, lowest, count, key]) => el("tr", {}, el("th", {scope: "row"}, name), el("td", {}, digits(mean, 4)),
    el("td", {}, digits(lowest, 4)), el("td", {}, whole(count)), el("td", {class: "name"}, keyButton(key)));
  return el("div", {class: "scroll"}, el("table", {},
    el("thead", {}, el("tr", {}, ["format", "mean", "lowest", "masks", "worst"].map((name) => el("th", {scope: "col"}, t(name))))),
    el("tbody", {}, data.formats.map(row))));
}

function showOverview() {
  const labels = data.labels.map(([number, kept]) => ({text: plain(labelName(number)), value: kept, shown: whole(kept),
    action: () => filterBy({label: String(number)})}));
  const drops = data.drops.map(([filter, reason, count]) => ({tag: filter, text: plain(reason || t("no_reason")), value: count,
    shown: whole(count), kind: "dropped"}));
  const empties = data.empty.map(([reason, count]) => ({text: plain(reason || t("no_reason")), value: count, shown: whole(count), kind: "empty"}));
  const doubts = data.doubts.map(([code, meaning, count]) => ({tag: code, text: meaning, value: count, shown: whole(count), kind: "dropped",
    action: () => filterBy({search: code})}));
  const stages = data.about.stages.map(([name, seconds]) => ({text: name, value: seconds, shown: duration(seconds)}));
  const slowest = data.slowest.map(([key, seconds]) => ({text: plain(key), value: seconds, shown: duration(seconds),
    action: numberOf.has(key) ? () => openKey(key) : null}));
  $("overview").replaceChildren(el("h2", {class: "quiet"}, t("overview")), headline(), tiles(), el("div", {id: "doubtful"}), el("div", {class: "cards"},
    changesCard(),
    data.score ? card("scores", data.about.scores_are_iou ? "scores_iou" : "scores_sub", unitHistogram("scores", data.score)) : "",
    data.area ? card("areas", "areas_sub", areaHistogram(data.area)) : "",
    data.stability ? card("stabilities", "stabilities_sub", unitHistogram("stabilities", data.stability)) : "",
    labels.length ? card("labels", "labels_sub", limited(labels, LABELS_SHOWN)) : "",
    card("drops", "drops_sub", drops.length ? limited(drops, DROPS_SHOWN) : el("p", {}, t("no_drops"))),
    doubts.length ? card("doubts", "doubts_sub", bars(doubts)) : "",
    empties.length ? card("empties", "empties_sub", limited(empties, DROPS_SHOWN)) : "",
    stages.length ? card("stages", "stages_sub", bars(stages)) : "",
    slowest.length ? card("slowest", "slowest_sub", bars(slowest.slice(0, SLOWEST_SHOWN))) : "",
    data.formats.length ? card("formats", "formats_sub", formatsTable(), true) : ""));
  showDoubtful();
}

function keyButton(key) {
  if (!numberOf.has(key)) return plain(key);  // not among the images shown
  return el("button", {type: "button", class: "link", title: key, on: {click: () => openKey(key)}}, plain(key));
}

function showFailures() {
  const one = (group, number) => el("details", {class: "card failure", open: number < 3},
    el("summary", {}, el("strong", {}, many(group.count, "images_n", "image_1")),
      el("span", {class: "at"}, t("failure_at", [group.stage, group.plugin].filter(Boolean).join(" · "))),
      el("span", {class: "message"}, plain(`${group.type}: ${group.message}`))),
    el("ul", {class: "keys"}, group.keys.slice(0, KEYS_SHOWN).map((key) => el("li", {}, keyButton(key))),
      group.count > KEYS_SHOWN ? el("li", {class: "sub"}, t("keys_more", whole(group.count - Math.min(KEYS_SHOWN, group.keys.length)))) : ""));
  $("failures").replaceChildren(el("h2", {}, t("failures")),
    ...(data.failures.length ? data.failures.map(one) : [el("p", {class: "card"}, t("no_failures"))]));
}

function showProvenance() {
  const about = data.about, machine = about.machine;
  const line = (name, value) => value ? [el("dt", {}, t(name)), el("dd", {}, plain(value))] : [];
  const software = [["maskmill", about.maskmill], ["python", machine.python], ...Object.entries(about.versions)];
  const seen = new Set();
  const versions = software.filter(([name, version]) => version && !seen.has(name) && seen.add(name)).map((pair) => pair.join(" ")).join(" · ");
  const hardware = [machine.system, machine.processor, machine.cores && t("cores", machine.cores), machine.memory_gib && `${machine.memory_gib} GiB`];
  const hosts = about.hosts.map(([name, images, lost]) => `${name}: ${many(images, "images_n", "image_1")}${lost ? `, ${t("host_lost")}` : ""}`);
  const dropIns = Object.entries(about.drop_ins).map(([path, sha]) => `${path} (sha256 ${String(sha).slice(0, 12)})`).join("\n");
  $("provenance").replaceChildren(el("h2", {}, t("provenance")), el("div", {class: "cards"},
    el("article", {class: "card"}, el("dl", {class: "facts"}, line("command", about.command), line("backend", about.backend),
      line("model", about.model), line("software", versions), line("machine", hardware.filter(Boolean).join(" · ")),
      line("hosts", hosts.join("\n")), line("jobs", about.jobs && String(about.jobs)), line("threads", machine.threads_per_worker && String(machine.threads_per_worker)),
      line("drop_ins", dropIns))),
    card("pipeline", "pipeline_sub", el("pre", {tabindex: "0"}, about.pipeline ? plain(about.pipeline) : t("unknown")))));
}
