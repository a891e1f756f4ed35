// What changed since the last report in the same folder.

const changed = new Map(Object.entries(read("changed")).map(([number, change]) => [Number(number), change]));
const CHANGE_FILTERS = {
  any: () => true,
  new: ([kind]) => kind === "new",
  redone: ([kind]) => kind === "redone",
  worse: (change) => change[2] === "worse",
  better: (change) => change[2] === "better",
  fewer: (change, row) => change[5] !== null && row[KEPT] < change[5],
  more: (change, row) => change[5] !== null && row[KEPT] > change[5],
};

/** Whether an image changed in this way: a filter's name, or "status:EARLIER:NOW". */
function hasChanged(number, filter) {
  const change = changed.get(number);
  if (!change) return false;
  if (Object.hasOwn(CHANGE_FILTERS, filter)) return CHANGE_FILTERS[filter](change, rows[number]);
  const [, before, now] = filter.split(":");
  return STATUSES[change[3]] === before && STATUSES[rows[number][STATUS]] === now;
}

/** What an image was before, in words; "" if it did not change. */
function describeChange(number) {
  const change = changed.get(number);
  if (!change) return "";
  const [kind, reasons, verdict, status, doubt, kept] = change;
  if (kind === "new") return t("change_new");
  const before = [t(STATUSES[status]), STATUSES[status] === "done" || STATUSES[status] === "empty" ? `${t("doubt")} ${Math.round(100 * doubt)}` : "",
    kept ? many(kept, "masks_n", "mask_1") : ""].filter(Boolean).join(", ");
  return [verdict && t(`change_${verdict}`), `${t("change_redone")}: ${reasons.map((name) => t(`reason_${name}`)).join(", ")}`, t("before", before)]
    .filter(Boolean).join(" · ");
}

function changesCard() {
  const found = data.changes;
  if (!found) return "";
  const chip = (text, count, filter, kind) => {
    const content = [text, el("b", {}, whole(count))];
    return el("li", {}, filter ? el("button", {type: "button", class: `chip ${kind || ""}`, on: {click: () => filterBy({changed: filter})}}, content)
      : el("span", {class: `chip ${kind || ""}`}, content));
  };
  const counts = found.counts, counted = (name, filter, kind) => counts[name] ? [chip(t(`change_${name}`), counts[name], filter, kind)] : [];
  const list = (name, chips) => chips.length ? [el("div", {}, el("dt", {}, t(name)), el("dd", {}, el("ul", {class: "chips"}, chips)))] : [];
  const statuses = found.statuses.map(([before, now, count]) => chip(`${t(before)} → ${t(now)}`, count, `status:${before}:${now}`));
  const removed = found.removed.length ? [el("details", {class: "help"}, el("summary", {}, t("removed_names")),
    el("ul", {class: "keys"}, found.removed.map((key) => el("li", {}, plain(key)))))] : [];
  const since = found.since ? new Date(found.since).toLocaleString(language, {dateStyle: "long", timeStyle: "short"}) : t("unknown");
  return el("article", {class: "card wide", id: "changes"}, el("h3", {}, t("changes")), el("p", {class: "sub"}, t("changes_sub", since)),
    el("dl", {class: "groups"},
      list("images", [...counted("new", "new"), ...counted("redone", "redone"), ...counted("removed"), ...counted("same")]),
      list("reasons", Object.entries(found.reasons).map(([name, count]) => chip(t(`reason_${name}`), count))),
      list("outcome", [...counted("worse", "worse", "worse"), ...counted("better", "better", "better"), ...statuses]),
      list("masks", [...counted("more", "more"), ...counted("fewer", "fewer")]),
      list("doubt", [...counted("doubt_up"), ...counted("doubt_down")])),
    removed);
}
