"""A run as one page of HTML that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from .claims import Finding, Verdict
from .table import html_number

if TYPE_CHECKING:
    from .run import Run

escape = html.escape

UNFINISHED = '<p class="unfinished">This run is not finished: rows are missing.</p>'


def make_report(run: Run, pictures: Mapping[str, bytes]) -> str:
    """The page: claims first, then figures, tables, and how to run it again.

    Args:
        run: The run.
        pictures: PNG files by figure name.
    """
    paper = run.paper
    style = files("dlaccel.experiment").joinpath("report.css").read_text()
    sections = "\n".join(
        [
            _section("claims", "Claims", _claims(run)),
            _section("figures", "Figures", "\n".join(_figure(*item) for item in pictures.items())),
            _section("tables", "Tables", "\n".join(_tables(run))),
            _section("setting", "Setting", _setting(run)),
        ]
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(paper.key)}, {escape(run.header["profile"])}</title>
<style>
{style}</style>
</head>
<body>
<main>
{_head(run)}
{sections}
</main>
</body>
</html>
"""


def _head(run: Run) -> str:
    paper, header = run.paper, run.header
    seeds, threads = header["seeds"], header["threads"]
    facts = [
        f"profile <b>{escape(header['profile'])}</b>",
        f"<b>{seeds}</b> seed{'s' * (seeds != 1)}",
        f"{escape(header['device_name'])}, {threads} thread{'s' * (threads != 1)}",
        escape(header["started"][:10]),
    ]
    arxiv = escape(paper.arxiv)
    warning = "" if run.complete else UNFINISHED
    return f"""<header>
<p class="source"><a href="https://arxiv.org/abs/{arxiv}">arXiv {arxiv}</a> · {paper.year}</p>
<h1>{escape(paper.title)}</h1>
<p class="authors">{escape(paper.by)}</p>
<p class="facts">{" · ".join(facts)}</p>
{warning}
<ul class="tally">{"".join(_tally(run))}</ul>
<pre class="command"><code>{escape(run.command)}</code></pre>
</header>"""


def _tally(run: Run) -> Iterable[str]:
    for verdict in Verdict:
        count = sum(finding.verdict is verdict for finding in run.claims)
        if count:
            yield f'<li class="{_class(verdict)}"><b>{count}</b> {verdict.value}</li>'


def _class(verdict: Verdict) -> str:
    return verdict.value.replace(" ", "-")


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}">\n<h2>{title}</h2>\n{body}\n</section>' if body else ""


def _claims(run: Run) -> str:
    rows = "\n".join(_claim(finding) for finding in run.claims)
    return f"""<p class="note">A margin above 0 supports its claim. An exact claim is held when
every seed supports it; a statistical one is judged by the 95&nbsp;% Student interval of its mean
margin over seeds, and is inconclusive while that interval holds 0 or there are fewer than two
seeds.</p>
<div class="scroll whole"><table>
<thead><tr><th></th><th>Claim</th><th>Where</th><th class="number">Margin</th>
<th class="number">Seeds</th><th>Verdict</th></tr></thead>
<tbody>
{rows}
</tbody>
</table></div>"""


def _claim(finding: Finding) -> str:
    claim, verdict = finding.claim, finding.verdict
    kind = " <small>statistical</small>" if claim.statistical else ""
    margin = html_number(finding.margin_text)
    return (
        f"<tr><td><b>{escape(claim.key)}</b></td><td>{escape(claim.statement)}{kind}</td>"
        f'<td>{escape(claim.where)}</td><td class="number">{margin}</td>'
        f'<td class="number">{len(finding.margins)}</td>'
        f'<td><span class="verdict {_class(verdict)}">{verdict.value}</span></td></tr>'
    )


def _figure(name: str, picture: bytes) -> str:
    title = escape(_words(name))
    source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    return f'<figure><img src="{source}" alt="{title}"><figcaption>{title}</figcaption></figure>'


def _tables(run: Run) -> Iterable[str]:
    measured = set(run.records.names())
    if run.header["seeds"] > 1:
        yield '<p class="note">Means over seeds ± the sample standard deviation.</p>'
    for name in run.paper.experiment.TABLES:
        if name not in measured:
            yield f'<h3>{escape(_words(name))}</h3>\n<p class="note">Not measured yet.</p>'
            continue
        table = run.table(name)
        yield f'<h3>{escape(_words(name))}</h3>\n<div class="scroll">{table.to_html()}</div>'


def _setting(run: Run) -> str:
    header = run.header
    versions = header["versions"]
    environment = {**versions, "commit": header["commit"] or "unknown"}
    config = {name: _listed(value) for name, value in header["config"].items()}
    resumed = "".join(
        f'<p class="note">Resumed {escape(part["started"])} with another environment: '
        f"{escape(json.dumps({k: v for k, v in part.items() if k != 'started'}))}</p>"
        for part in header.get("resumed", [])
    )
    return (
        f'<div class="pair"><div><h3>Config</h3>{_definitions(config)}</div>'
        f"<div><h3>Software</h3>{_definitions(environment)}</div></div>{resumed}"
    )


def _definitions(items: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(v))}</td></tr>" for name, v in items.items()
    )
    return f'<div class="scroll"><table class="definitions">{rows}</table></div>'


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
