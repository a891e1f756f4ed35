// A table whose columns sort it.

const ROWS_AT_ONCE = 100;

/**
 * A table of `rows`. Columns: {title, value: of a row (a number, a text or null, which comes last),
 * show: of a row, what stands in the cell; text: whether it is one}. `sorted`: [number of the column, 1 up or -1 down].
 * `change(sorted)` is called when it is sorted otherwise.
 */
function sortableTable(caption, columns, rows, sorted, change) {
  let shown = ROWS_AT_ONCE;
  const order = new Intl.Collator(language, {numeric: true});
  const compare = (one, other) => {
    const [number, direction] = sorted, a = columns[number].value(one), b = columns[number].value(other);
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (typeof a === "number" ? a - b : order.compare(a, b));
  };
  const head = el("tr"), body = el("tbody"), more = el("div", {class: "more"});
  const draw = () => {
    const focused = head.contains(document.activeElement) ? document.activeElement.dataset.column : null;
    head.replaceChildren(...columns.map(({title, text}, number) => {
      const direction = sorted[0] === number ? sorted[1] : 0;
      return el("th", {scope: "col", class: text ? "name" : "", "aria-sort": direction > 0 ? "ascending" : direction < 0 ? "descending" : "none"},
        el("button", {type: "button", class: "sort", "data-column": String(number), on: {click: () => {
          sorted = [number, direction ? -direction : 1];
          if (change) change(sorted);
          draw();
        }}}, title, el("span", {"aria-hidden": "true"}, direction > 0 ? " ▲" : direction < 0 ? " ▼" : "")));
    }));
    if (focused !== null) head.querySelector(`[data-column="${focused}"]`).focus();
    const ordered = rows.map((row, n) => [row, n]).sort((a, b) => compare(a[0], b[0]) || a[1] - b[1]).slice(0, shown);
    body.replaceChildren(...ordered.map(([row]) => el("tr", {}, columns.map(({show, text}, number) =>
      el(number ? "td" : "th", {scope: number ? null : "row", class: text ? "name" : ""}, show(row))))));
    more.replaceChildren(...(rows.length > shown ? [el("button", {type: "button", on: {click: () => {
      shown += ROWS_AT_ONCE * 5;
      draw();
    }}}, t("more_rows", whole(rows.length - shown)))] : []));
  };
  draw();
  return [el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": caption},
    el("table", {}, el("thead", {}, head), body)), more];
}
