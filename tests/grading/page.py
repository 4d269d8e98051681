"""The page of all results: one file that needs nothing from elsewhere."""

import html
from collections.abc import Iterable

from tests.grading.grade import LabResult
from tests.grading.reports import LOST, STATUS, explain, labs_of, number, plain

STYLE = """
body { font: 16px/1.4 system-ui, sans-serif; color: #222; }
body { margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35em .7em; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { cursor: pointer; user-select: none; background: #f4f4f4; position: sticky; top: 0; }
tr.row { cursor: pointer; } tr.row:hover { background: #f0f6ff; }
tr.report { display: none; } tr.report.open { display: table-row; }
tr.report > td { text-align: left; background: #fafafa; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3em 0 .8em 1em; }
pre { font: 13px/1.4 ui-monospace, monospace; }
.good { color: #176b2c; } .bad { color: #a11; } .odd { color: #8a5a00; }
h3 { margin: .8em 0 .2em; font-size: 1em; }
ul { margin: .2em 0; padding-left: 1.2em; }
"""
SCRIPT = """
const body = document.querySelector("tbody");
const toggle = row => { const open = row.nextElementSibling.classList.toggle("open");
  row.setAttribute("aria-expanded", open); };
document.querySelectorAll("tr.row").forEach(row => {
  row.onclick = () => toggle(row);
  row.onkeydown = event => { if (event.key === "Enter") toggle(row); };
});
document.querySelectorAll("th").forEach((head, column) => {
  let up = column > 0;
  head.onclick = () => {
    up = !up;
    const value = row => row.cells[column].dataset.value;
    const rows = [...document.querySelectorAll("tr.row")].map(row => [row, row.nextElementSibling]);
    const order = (a, b) => column ? value(a) - value(b) : value(a).localeCompare(value(b));
    rows.sort(([a], [b]) => order(a, b) * (up ? 1 : -1));
    rows.forEach(pair => body.append(...pair));
  };
});
"""


def page(graded: dict[str, list[LabResult]]) -> str:
    """Return the table of all submissions as one page that needs nothing else."""
    labs = labs_of(graded)
    heads = "".join(
        f"<th>{head}</th>" for head in ["submission", *(f"lab {lab}" for lab in labs), "points"]
    )
    rows = "".join(_row(name, results, labs) for name, results in sorted(graded.items()))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Grades</title>'
        f"<style>{STYLE}</style></head><body><h1>{len(graded)} submissions</h1>"
        "<p>A click on a head sorts, a click on a row opens its report.</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table><script>{SCRIPT}</script></body></html>\n"
    )


def safe(text: str) -> str:
    """Return a stranger's text for a page: shown, not obeyed."""
    return html.escape(plain(text))


def _row(name: str, results: list[LabResult], labs: Iterable[int]) -> str:
    scores = {lab.lab: lab.score for lab in results}
    total = sum(scores.values())
    cells = [(scores[lab], number(scores[lab])) if lab in scores else (-1, "") for lab in labs]
    tds = "".join(
        f'<td data-value="{value}">{shown}</td>'
        for value, shown in [*cells, (total, number(total))]
    )
    report = "".join(_lab(lab) for lab in results)
    return (
        '<tr class="row" tabindex="0" aria-expanded="false">'
        f'<td data-value="{safe(name)}">{safe(name)}</td>{tds}</tr>'
        f'<tr class="report"><td colspan="{len(cells) + 2}">{report}</td></tr>'
    )


def _lab(lab: LabResult) -> str:
    head = f"<h3>Lab {lab.lab}: {number(lab.score)} of {number(lab.most)} points</h3>"
    head += f"<p>{safe(lab.found)}</p>"
    if lab.fault:
        return f"{head}<p class=bad>Nothing else was tried:</p><pre>{safe(lab.fault)}</pre>"
    items = []
    for result in lab.results:
        kind = {"passed": "good", "unsteady": "odd", "unjudged": "odd"}.get(result.status, "bad")
        detail = f"<pre>{safe(explain(result))}</pre>" if result.status in LOST else ""
        points = f"{number(result.score)} of {number(result.test.points)}"
        line = f"{points}: {safe(result.test.name)}: {STATUS[result.status]}"
        items.append(f"<li class={kind}>{line}{detail}</li>")
    return f"{head}<ul>{''.join(items)}</ul>"
