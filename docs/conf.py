"""How Sphinx builds the documentation.

Its source folder is the root of the repository: README and CONTRIBUTING are pages as those of this folder are, and
links between all of them hold here as they do in the repository.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ziamath
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

project = "lightning_tailindex"
copyright = "the lightning_tailindex authors, Apache-2.0"
root_doc = "README"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/RESULTS.md",
    "docs/**.md",
    "examples/papers/README.md",
]
exclude_patterns = [".*", "build", "dist", "lightning_logs", "runs", "site"]

extensions = ["mathml", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = ">>> "

autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 88

# A name in the docstrings that leads nowhere is a warning, and so an error. What others document is not looked up,
# because that would take a network, nor what only types speak of.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(torch|torchmetrics|numpy|matplotlib|lightning|pytorch_lightning)\..*"),
    ("py:.*", r"(abc|collections|os|pathlib|typing)\..*"),
    ("py:.*", r".*\b(ModuleT|ReportT|NameT)"),
]

html_theme = "furo"
html_title = "lightning_tailindex"
html_math_renderer = "mathml"
# Formulas are MathML, which needs a font that knows mathematics: many readers have none, ziamath brings one.
html_static_path = ["_static", str(Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf")]
html_css_files = ["pages.css"]
html_copy_source = False
html_additional_pages = {"index": "start.html"}
templates_path = ["_templates"]

CONTENTS = """

```{toctree}
:hidden:
:caption: Use

Start <self>
docs/cli
docs/dashboard
docs/figures
docs/trust
docs/other_tails
docs/least_squares
docs/cost
```

```{toctree}
:hidden:
:caption: Understand

docs/methods
docs/papers
examples/papers/README
Measurements <benchmarks/RESULTS>
```

```{toctree}
:hidden:
:caption: Look up

docs/api/callbacks
docs/api/without_a_trainer
docs/api/functional
docs/api/records
docs/api/figures
docs/api/report
docs/api/laws
```

```{toctree}
:hidden:
:caption: Take part

docs/extending
docs/api/extension
CONTRIBUTING
CHANGELOG
```
"""


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Appends the list of all pages to the first, which shows in the repository too, where there is no such list."""
    if page == root_doc:
        source[0] += CONTENTS


def setup(app: Sphinx) -> None:
    """Connects it."""
    app.connect("source-read", add_contents)
