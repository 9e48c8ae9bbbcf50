"""The page of `mlegfn compare --html`: one file, readable without a network, in light and dark."""

import base64

from mlegfn.pipeline.compare import change, shown

TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ found.scale }}: two revisions</title>
<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, CanvasText 25%, Canvas); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: auto; padding: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; }
td.n { text-align: right; white-space: nowrap; }
.wide { overflow-x: auto; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } img { max-width: 100%; height: auto; background: white; }
summary, code { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>results/{{ found.scale }}: two revisions</h1>
<dl><dt>from</dt><dd>{{ found.one.title }}</dd><dt>to</dt><dd>{{ found.other.title }}</dd></dl>
<p>{{ found.same }} files are equal.</p>
<h2>Verdicts</h2>
{% if found.verdicts %}<div class="wide"><table>
<thead><tr><th>claim</th><th>from</th><th>to</th></tr></thead><tbody>
{% for row in found.verdicts %}<tr><td>{{ row.claim }}<br><code>{{ row.id }}</code></td>
{% for i in (0, 1) %}<td>{% if row.verdict[0] != row.verdict[1] %}<strong>{{ row.verdict[i] }}</strong>
{%- else %}{{ row.verdict[i] }}{% endif %}<br>{{ row.text[i] }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% else %}<p>None changed.</p>{% endif %}
<h2>Figures</h2>
{% for stem, pair in images.items() %}<h3>{{ stem }}</h3>
<div class="pair">{% for source in pair %}{% set which = found.one.title if loop.first else found.other.title %}
<figure>{% if source %}<img src="{{ source }}" alt="{{ stem }}, {{ which }}">{% else %}<p>not there</p>{% endif %}
<figcaption>{{ which }}</figcaption></figure>{% endfor %}</div>
{% else %}<p>None changed.</p>{% endfor %}
{% for title, files in (("Metrics", found.metrics), ("Tables", found.tables)) %}<h2>{{ title }}</h2>
{% for path, rows in files.items() %}<details{{ " open" if files | length < 6 }}>
<summary>{{ path }}: {{ rows | length }} value(s)</summary><div class="wide"><table>
<thead><tr><th>value</th><th>from</th><th>to</th><th>difference</th></tr></thead><tbody>
{% for key, before, after, by in rows %}<tr><td>{{ key }}</td><td class="n">{{ shown(before) }}</td>
<td class="n">{{ shown(after) }}</td><td class="n">{{ change(by) | trim }}</td></tr>
{% endfor %}</tbody></table></div></details>
{% else %}<p>None changed.</p>{% endfor %}{% endfor %}
{% for title, paths in (("Only in the second", found.added), ("Only in the first", found.removed)) %}{% if paths %}
<h2>{{ title }}</h2><ul>{% for path in paths %}<li>{{ path }}</li>{% endfor %}</ul>{% endif %}{% endfor %}
</body>
</html>
"""


def page(found):
    """The HTML of a ``compare.Comparison``, with both images of each figure that changed."""
    from jinja2 import Environment, StrictUndefined

    pairs = found.figures.values()
    before = found.one.read([one for one, _ in pairs if one])
    after = found.other.read([other for _, other in pairs if other])
    images = {
        stem: (source(before.get(one)), source(after.get(other)))
        for stem, (one, other) in found.figures.items()
    }
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE)
    return template.render(found=found, images=images, shown=shown, change=change)


def source(content):
    """A PNG's bytes as a data URI, None if there are none."""
    return None if content is None else f"data:image/png;base64,{base64.b64encode(content).decode()}"
