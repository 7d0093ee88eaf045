"""Formulas as MathML, which browsers draw themselves: the pages need no script, no fonts and no network for them."""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

# Bars around a value are as high as a letter and have no space within; a function's name has some space behind it, but
# for a bracket.
BAR = re.compile(r'<mo(?: stretchy="false"| class="mathopen")?>([|‖])</mo>')
AFTER_NAME = re.compile(r"<mo>&ApplyFunction;</mo>(?!\s*(?:<mrow>\s*)?<mo[^>]*>[(\[{|‖])")


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{_mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def _mathml(node: nodes.Element, as_block: bool) -> str:
    try:
        drawn = str(tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        logging.getLogger(__name__).warning("%s in %s", error, node.astext(), location=node)
        return ""
    drawn = AFTER_NAME.sub('<mspace width="0.17em"></mspace>', drawn)
    return BAR.sub(r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', drawn)


def setup(app: Sphinx) -> dict[str, bool]:
    """Makes it a renderer of formulas; a command of LaTeX that it does not know is a warning."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
