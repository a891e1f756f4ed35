// Histograms as SVG, bars as rows of a list.

/** A step that makes about `count` round ticks up to `top`. */
function roundStep(top, count) {
  const raw = Math.max(1, top / count), power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
}

/**
 * Kept masks with dropped ones stacked on them. `ticks`: [place 0..1, text]; `range(n)`: the text of bin n; `what`: the
 * name of what is counted as kept.
 */
function histogram(name, counts, ticks, range, what = "kept") {
  const width = 440, height = 190, left = 44, right = 20, top = 8, bottom = 26;
  const plotWidth = width - left - right, plotHeight = height - top - bottom, bins = counts.kept.length;
  const highest = Math.max(1, ...counts.kept.map((kept, n) => kept + counts.dropped[n]));
  const step = roundStep(highest, 4), ceiling = Math.ceil(highest / step) * step;
  const y = (value) => top + plotHeight * (1 - value / ceiling);
  const kept = counts.kept.reduce((a, b) => a + b, 0), dropped = counts.dropped.reduce((a, b) => a + b, 0);
  const say = (one, other) => [`${whole(one)} ${t(what)}`, dropped ? `${whole(other)} ${t("dropped")}` : ""].filter(Boolean).join(", ");
  const chart = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${t(name)}: ${say(kept, dropped)}`});
  for (let value = 0; value <= ceiling; value += step) {
    chart.append(svg("line", {class: value ? "grid" : "axis", x1: left, x2: width - right, y1: y(value), y2: y(value)}),
      svg("text", {x: left - 6, y: y(value) + 4, "text-anchor": "end"}, value.toLocaleString(language, {notation: "compact"})));
  }
  for (const [place, text] of ticks) {
    const x = left + place * plotWidth;
    chart.append(svg("line", {class: "axis", x1: x, x2: x, y1: top + plotHeight, y2: top + plotHeight + 4}),
      svg("text", {x, y: height - 8, "text-anchor": "middle"}, text));
  }
  const slot = plotWidth / bins;
  for (let n = 0; n < bins; n++) {
    const bar = (kind, from, to) => to > from && chart.append(svg("rect", {class: kind, x: left + n * slot + 0.5,
      width: Math.max(1, slot - 1), y: Math.min(y(to), y(from) - 1), height: Math.max(1, y(from) - y(to))}));
    bar("kept", 0, counts.kept[n]);
    bar("dropped", counts.kept[n], counts.kept[n] + counts.dropped[n]);
    const text = `${range(n)}: ${say(counts.kept[n], counts.dropped[n])}`;
    chart.append(svg("rect", {class: "slot", x: left + n * slot, width: slot, y: top, height: plotHeight, on: tipped(text)},
      svg("title", {}, text)));
  }
  const key = (kind, text, count) => el("span", {class: `key ${kind}`}, `${text} ${whole(count)}`);
  return el("figure", {}, chart, el("figcaption", {}, key("kept", t(what), kept), dropped ? key("dropped", t("dropped"), dropped) : ""));
}

function unitHistogram(name, counts, what) {
  const bins = counts.kept.length;
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1].map((place) => [place, digits(place, 1)]);
  return histogram(name, counts, ticks, (n) => `${digits(n / bins, 2)} – ${digits((n + 1) / bins, 2)}`, what);
}

function areaHistogram(counts) {
  const bins = counts.kept.length, decades = 6;
  const part = (place) => percent(10 ** (decades * (place - 1)));
  const ticks = [0, 1, 2, 3, 4, 5, 6].map((n) => [n / decades, n ? part(n / decades) : `≤${part(0)}`]);
  return histogram("areas", counts, ticks, (n) => `${part(n / bins)} – ${part((n + 1) / bins)}`);
}

/** Rows with a bar each: {text, title, value, shown, action}. */
function bars(items) {
  const highest = Math.max(1e-9, ...items.map((item) => item.value));
  return el("ul", {class: "bars"}, items.map((item) => {
    const bar = el("span", {class: `fill ${item.kind || ""}`});
    bar.style.width = `${100 * item.value / highest}%`;
    const name = item.action ? el("button", {type: "button", class: "link", title: item.text, on: {click: item.action}}, item.text)
      : el("span", {title: item.text}, item.text);
    return el("li", {}, el("span", {class: "what"}, item.tag ? el("b", {}, item.tag) : "", name),
      el("span", {class: "value"}, item.shown), el("span", {class: "track", "aria-hidden": "true"}, bar));
  }));
}
