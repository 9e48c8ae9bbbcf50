"""The report as one HTML file: template, styles, scripts, figures and charts all inside it."""

import json
from importlib.resources import files

from mlegfn.artifacts import write_text
from mlegfn.errors import UserError
from reproduction.site import markup
from reproduction.site.gather import gather

__all__ = ["OUT", "as_json", "build", "render", "vega"]

OUT = "report/index.html"
SCRIPTS = ("page.js", "tables.js", "records.js", "slider.js")


def build(out=OUT):
    """Write the page of the checkout in the current folder to ``out``; returns the exit code 0.

    What a scale has not measured is named on the page with the command that measures it. Broken settings or
    metrics raise UserError, and then nothing is written.
    """
    page = render(gather())
    try:
        write_text(out, page)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); name a file with --out") from None
    print(f"{out}: {len(page.encode()) / 1e6:.1f} MB, open it in any browser")
    return 0


def render(site):
    """The page of what ``gather`` returns, as text; equal input gives equal text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("reproduction.site"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tojson_plain"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["script_json"] = lambda value: Markup(as_json(value))
    environment.filters["subscripts"] = markup.text
    static = files("reproduction.site") / "static"

    def ours(name):
        return Markup((static / name).read_text(encoding="utf-8"))

    return environment.get_template("page.html").render(
        site=site,
        style=ours("page.css"),
        theme=ours("theme.js"),
        scripts=[ours(name) for name in SCRIPTS],
        drawing=ours("charts.js") if site["charts"] else None,
        vega=Markup(vega()) if site["charts"] else None,
    )


def as_json(value):
    """JSON that may stand in a script element: no `<` in it ends it."""
    return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")


def vega():
    """Vega, Vega-Lite and Vega-Embed as one script that makes the name ``vegaEmbed``, out of the package."""
    import altair
    import vl_convert

    version = altair.SCHEMA_VERSION.rsplit(".", 1)[0]  # "v6.4.1": charts and script must be of one version
    script = vl_convert.javascript_bundle(vl_version=version)
    assert "</script" not in script and "<!--" not in script  # else it would end before its end
    return f"(()=>{{{script}\n}})();"
