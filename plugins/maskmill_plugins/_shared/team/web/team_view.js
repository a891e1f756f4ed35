// The figures of a team as elements, for the review page and the report: of `describe_team`, in English and Chinese.

const TEAM_TEXTS = {
  decided: ["Decided", "已审核"], of_images: ["{0} of {1}", "{0} / {1}"],
  accepted: ["Accepted", "已通过"], fixed: ["Fixed", "已修正"], rejected: ["Rejected", "已弃用"],
  questions: ["Open questions", "待解答"], disagreements: ["Disagreements", "意见不一"],
  stop_title: ["May the review stop?", "可以停止审核吗？"],
  stop_sub: [
    "Images accepted unchanged, by doubt at that time. The line marks what is certain: with 95% confidence, the share of all such images is at least that high.",
    "按审核时的可疑程度统计未改动即通过的图片。竖线为可信下限：有 95% 的把握认为同类图片的实际比例不低于此值。",
  ],
  done: ["Every image is decided.", "所有图片都已审核。"],
  stop: [
    "Below doubt {0}, {1} of {2} images were accepted unchanged; with 95% confidence, at least {3} of all are right. You may stop here: of the {4} images left below it, at most {5} are likely to need a change.",
    "可疑程度低于 {0} 的 {2} 张图片中，{1} 未改动即通过；有 95% 的把握认为至少 {3} 正确。可以停在这里：其余 {4} 张中可能需要修改的最多约 {5} 张。",
  ],
  stop_above: ["First look at the {0} images left with a higher doubt.", "请先看完更可疑的 {0} 张。"],
  go_on: [
    "Go on: in no band of doubt were so many images accepted unchanged that the others can be trusted (at least 90% with 95% confidence).",
    "请继续：还没有哪个区间的通过率足够高（95% 的把握不低于 90%），其余图片还不能放心。",
  ],
  sample: [
    "Too early to say: it takes {0} decided images in one band of doubt. A random sample of the queue (“Sample of”) shows it soonest.",
    "现在还不能判断：同一区间至少要审核 {0} 张图片。在队列中“随机抽样”最快得到结论。",
  ],
  doubt: ["Doubt", "可疑程度"], images: ["Images", "图片"], unchanged: ["Accepted unchanged", "未改动即通过"],
  at_least: ["at least", "至少"], left: ["Left", "剩余"],
  people: ["People", "人员"], name: ["Name", "姓名"], no_name: ["(no name)", "（未署名）"], second: ["Second opinions", "复核"],
  asked: ["Questions", "提问"], pace: ["An hour", "每小时"], median: ["Median", "中位用时"], iou_run: ["IoU with the run", "与批处理 IoU"],
  last: ["Last", "最近"],
  people_sub: [
    "An hour: images per hour of work, without pauses of more than ten minutes. IoU with the run: how little the masks were changed.",
    "每小时：每工作小时审核的图片数，不计超过十分钟的停顿。与批处理 IoU：数值越高，改动越少。",
  ],
  agreement: ["Agreement", "一致程度"], between: ["Between", "对象"],
  pair: ["With two names: images that both decided about without seeing the other's decision.", "两个姓名：两人在互不知情的情况下审核同一张图片。"],
  same: ["The same", "结论一致"], mean_iou: ["Mean IoU", "平均 IoU"], machine: ["The run and people", "批处理与人"],
  changes: ["Objects that people added: {0}, removed: {1}, relabelled: {2}.", "人工增加 {0} 个、删除 {1} 个、改类别 {2} 个目标。"],
  not_known: ["not known of {0} images, decided with an earlier version", "另有 {0} 张由旧版本记录，未知"],
  no_pairs: ["No image was decided by two people: start with --overlap 5%.", "还没有图片由两人审核：启动时加 --overlap 5%。"],
  days: ["Images a day", "每日图片数"], reasons: ["Why images were rejected", "弃用原因"], no_reason: ["no reason given", "未说明"],
  no_comment: ["no comment", "没有留言"], by: ["{0} by {1}", "{1}：{0}"], more: ["and {0} more", "另有 {0} 项"],
  nobody: ["Nobody has decided about an image yet.", "还没有人审核过图片。"],
};

/**
 * @param {any} team  the figures
 * @param {{el: (tag: string, attributes?: any, ...children: any[]) => any, language: string,
 *   link?: (key: string) => string, heading?: string}} page  makes elements; `link` gives the address of an image
 * @returns {HTMLElement}
 */
export function teamView(team, { el, language, link, heading = "h2" }) {
  const t = (name, ...values) => TEAM_TEXTS[name][language === "zh" ? 1 : 0].replace(/\{(\d)\}/g, (_, n) => values[n]);
  const whole = (number) => number.toLocaleString(language);
  const percent = (part) => part.toLocaleString(language, { style: "percent", maximumFractionDigits: part > 0.99 && part < 1 ? 1 : 0 });
  const figure = (number, places = 3) => (number === null ? "–" : number.toLocaleString(language, { minimumFractionDigits: places, maximumFractionDigits: places }));
  const seconds = (number) => (number === null ? "–" : number.toLocaleString(language, { style: "unit", unit: "second", unitDisplay: "narrow", maximumFractionDigits: 1 }));
  const day = (time) => (time === null ? "–" : new Date(1000 * time).toLocaleString(language, { dateStyle: "short", timeStyle: "short" }));
  const who = (name) => name || t("no_name");
  const card = (title, ...content) => el("section", { class: "team-card" }, el(heading, {}, t(title)), ...content);
  const wide = (title, ...content) => el("section", { class: "team-card team-wide" }, el(heading, {}, t(title)), ...content);

  /** A bar; `low` is the place of a mark. */
  function bar(part, low = null) {
    const fill = el("span", { class: "team-fill" });
    fill.style.width = `${100 * part}%`;
    const mark = low === null ? "" : el("span", { class: "team-low" });
    if (mark) mark.style.left = `${100 * low}%`;
    return el("span", { class: "team-track" }, fill, mark);
  }

  /** @param {[string, any[]][]} rows  each with the cells */
  function table(head, rows, label) {
    const cells = rows.map(([first, ...rest]) => el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((cell) => el("td", {}, cell))));
    return el("div", { class: "team-scroll", tabindex: "0", role: "group", "aria-label": t(label) }, el(
      "table", {}, el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, ...cells),
    ));
  }

  function barList(items) {
    const highest = Math.max(1, ...items.map((item) => item.value));
    return el("ul", { class: "team-bars" }, ...items.map((item) => el(
      "li", {}, el("span", { class: "team-what", title: item.text }, item.text), el("span", { class: "team-number" }, whole(item.value)), bar(item.value / highest),
    )));
  }

  const tile = (name, value, below = "") => el("div", { class: "team-tile" }, el("dt", {}, t(name)), el("dd", {}, value), el("dd", { class: "team-below" }, below));
  const image = (key) => (link ? el("a", { href: link(key) }, key) : key);

  function advice() {
    const { stop } = team;
    if (stop.advice === "stop") {
      const text = t("stop", stop.below, percent(stop.share), whole(stop.images), percent(stop.low), whole(stop.left), whole(stop.wrong));
      return stop.above ? `${text} ${t("stop_above", whole(stop.above))}` : text;
    }
    return stop.advice === "sample" ? t("sample", stop.needed) : t(stop.advice);
  }

  function stopCard() {
    const rows = team.bands.filter((band) => band.images || band.left).map((band) => [
      `${band.from} – ${band.to}`, whole(band.images), band.images ? el("span", { class: "team-share" }, bar(band.share, band.low), percent(band.share)) : "–",
      band.images ? percent(band.low) : "–", whole(band.left),
    ]);
    const text = el("p", { class: "team-advice" }, advice());
    text.dataset.advice = team.stop.advice;
    const head = [t("doubt"), t("images"), t("unchanged"), t("at_least"), t("left")];
    return wide("stop_title", text, el("p", { class: "team-sub" }, t("stop_sub")), rows.length ? table(head, rows, "stop_title") : "");
  }

  function peopleCard() {
    const rows = team.people.map((one) => [
      who(one.name), whole(one.images), whole(one.accepted), whole(one.fixed), whole(one.rejected), whole(one.question), whole(one.second),
      one.pace === null ? "–" : whole(Math.round(one.pace)), seconds(one.median_seconds), figure(one.iou), day(one.last),
    ]);
    const head = ["name", "images", "accepted", "fixed", "rejected", "asked", "second", "pace", "median", "iou_run", "last"].map((name) => t(name));
    return wide("people", el("p", { class: "team-sub" }, t("people_sub")), table(head, rows, "people"));
  }

  function agreementCard() {
    const { machine } = team;
    const unknown = machine.not_known ? `; ${t("not_known", whole(machine.not_known))}` : "";
    const changes = `${t("changes", whole(machine.added), whole(machine.removed), whole(machine.relabelled))}${unknown}`;
    const rows = [[t("machine"), whole(machine.images), "–", figure(machine.iou)]];
    for (const pair of team.pairs) rows.push([pair.names.map(who).join(" · "), whole(pair.images), `${whole(pair.agree)} (${percent(pair.agree / pair.images)})`, figure(pair.iou)]);
    const below = team.pairs.length ? t("pair") : t("no_pairs");
    return card("agreement", table([t("between"), t("images"), t("same"), t("mean_iou")], rows, "agreement"), el("p", { class: "team-sub" }, changes), el("p", { class: "team-sub" }, below));
  }

  function listCard(name, { items, more }, text) {
    const rows = items.map((one) => el("li", {}, el("strong", {}, image(one.key)), el("span", {}, text(one))));
    return card(name, el("ul", { class: "team-list" }, ...rows), more ? el("p", { class: "team-sub" }, t("more", whole(more))) : "");
  }

  const { verdicts, questions, disagreements } = team;
  const asked = (one) => `${who(one.reviewer)}: ${one.comment || t("no_comment")}`;
  const both = (one) => one.versions.map((each) => t("by", t(each.verdict), who(each.reviewer))).join(" · ");
  const part = team.images ? team.decided / team.images : 0;
  const tiles = el(
    "dl", { class: "team-tiles" }, tile("decided", t("of_images", whole(team.decided), whole(team.images)), bar(part)),
    ...["accepted", "fixed", "rejected"].map((name) => tile(name, whole(verdicts[name]), team.decided ? percent(verdicts[name] / team.decided) : "")),
    tile("questions", whole(verdicts.question)), tile("disagreements", whole(disagreements.items.length + disagreements.more)),
  );
  const lists = [
    team.people.length ? agreementCard() : "",
    questions.items.length ? listCard("questions", questions, asked) : "",
    disagreements.items.length ? listCard("disagreements", disagreements, both) : "",
    team.rejections.length ? card("reasons", barList(team.rejections.map((one) => ({ text: one.reason || t("no_reason"), value: one.images })))) : "",
    team.days.length ? card("days", barList(team.days.slice(-14).map((one) => ({ text: one.day, value: one.images })))) : "",
  ].filter(Boolean);
  const parts = team.people.length ? [stopCard(), peopleCard()] : [el("div", { class: "team-card team-wide" }, t("nobody"))];
  return el("div", { class: "team" }, tiles, el("div", { class: "team-cards" }, ...parts, ...lists));
}
