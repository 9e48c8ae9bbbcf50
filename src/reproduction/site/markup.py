"""Captions and tables, which the stages wrote as Markdown, as HTML. Raw HTML in them is shown, not obeyed."""

import re
from typing import NamedTuple

__all__ = ["Cell", "Table", "code", "key", "split", "text"]

SUBSCRIPT = re.compile(r"(?<![\w`])([^\W\d_][\u0300-\u036f]?)_(?:\{([^}]+)\}|([^\W_]+))")
NUMBER = re.compile(r"(?:(?:L1|JSD)\s)?([−+-]?\d[\d,]*(?:\.\d+)?(?:e[−+-]?\d+)?)")


class Cell(NamedTuple):
    """``html``: Markup; ``key``: what it sorts by, a number or lower-case text; None sorts last."""

    html: object
    key: float | str | None
    repeated: bool = False


class Table(NamedTuple):
    """``numeric`` [columns]: whether a column holds numbers, which are set to the right."""

    head: list
    rows: list
    numeric: list


def parser():
    """CommonMark with tables, a line a line; HTML is text."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table")
    markdown.add_render_rule("text", lambda renderer, tokens, k, options, env: text(tokens[k].content))
    return markdown


def text(plain):
    """Escaped text as Markup, in which `x_t` and `x_{t−1}` have a subscript."""
    from markupsafe import Markup, escape

    return Markup(SUBSCRIPT.sub(r"\1<sub>\2\3</sub>", str(escape(plain))))


def code(plain):
    """Text with `code` between backticks, the rest as ``text`` has it."""
    from markupsafe import Markup

    parts = plain.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if k % 2 else text(part) for k, part in enumerate(parts)
    )


def split(text):
    """(paragraphs, [Table]) of a Markdown text: its prose as Markup, and its tables in their order."""
    from markupsafe import Markup

    markdown, prose, tables = parser(), [], []
    tokens = markdown.parse(text)
    k = 0
    while k < len(tokens):
        if tokens[k].type == "table_open":
            end = next(n for n in range(k, len(tokens)) if tokens[n].type == "table_close")
            tables.append(_table(markdown, tokens[k:end]))
            k = end
        elif tokens[k].type == "inline" and tokens[k - 1].type == "paragraph_open":
            prose.append(_inline(markdown, tokens[k]))
        k += 1
    return [Markup(html) for html in prose if html], tables


def _inline(markdown, token):
    """An inline token's HTML, without images and links: on this page their targets are elsewhere."""
    token.children = [
        child for child in token.children if child.type not in ("image", "link_open", "link_close")
    ]
    return markdown.renderer.render([token], markdown.options, {}).strip()


def _table(markdown, tokens):
    from markupsafe import Markup

    rows, texts = [], []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
            texts.append([])
        elif token.type == "inline":
            rows[-1].append(Markup(_inline(markdown, token)))
            texts[-1].append("".join(child.content for child in token.children))
    head, body = rows[0], rows[1:]
    numeric = [_numeric([row[k] for row in texts[1:]]) for k in range(len(head))]
    above, cells = [None] * len(head), []
    for row, text in zip(body, texts[1:]):
        # What a group of rows has in common stands in its first row; sorted, each row needs it.
        first = next((k for k, content in enumerate(text) if content), 0)
        cells.append(
            [
                Cell(above[k].html, above[k].key, True)
                if k < first and above[k]
                else Cell(html, key(content, numeric[k]))
                for k, (html, content) in enumerate(zip(row, text))
            ]
        )
        above = cells[-1]
    return Table(head, cells, numeric)


def _numeric(column):
    """Whether most of what stands in a column starts with a number."""
    filled = [text for text in column if text.strip(" –-—")]
    return bool(filled) and 2 * sum(NUMBER.match(text) is not None for text in filled) > len(filled)


def key(text, numeric):
    """What a cell sorts by."""
    if not numeric:
        return text.lower() or None
    match = NUMBER.match(text)
    return float(match[1].replace(",", "").replace("−", "-")) if match else None
