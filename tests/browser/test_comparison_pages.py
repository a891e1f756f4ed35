"""The pages of `evaluate` and `compare` in Chromium."""

from maskmill_plugins.evaluation.report.pages import Table, render_page


def test_wide_tables_and_long_names_do_not_widen_the_page(chromium, tmp_path):
    table = Table(["class", *(f"IoU of step {n}" for n in range(12))], [["车辆", *["0.123"] * 12]])
    file = tmp_path / "index.html"
    file.write_text(render_page("t" * 90, ["only in a: " + "照片/" + "x" * 200], [table], []), encoding="utf-8")
    context = chromium.new_context(viewport={"width": 400, "height": 800})
    opened = context.new_page()
    opened.goto(file.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    assert opened.locator("div").evaluate("box => box.scrollWidth > box.clientWidth")  # there it can be scrolled
    context.close()
