"""The site, built by Sphinx: `.ci/docs`.

Everything that a page loads lies in the site: Furo brings its own scripts and styles and uses the system's fonts, and
formulas become MathML here, so that it reads without a network.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generate
import results
import run_notebooks

import joint_st

project = "joint_st"
copyright = "the authors of joint_st; Apache-2.0"
version = release = joint_st.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.githubpages", "sphinx_copybutton", "mathml"]
exclude_patterns = ["_build", "_executed"]
templates_path = []

html_theme = "furo"
html_title = "joint_st"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = [str(run_notebooks.REPORT.parent)] if run_notebooks.REPORT.exists() else []
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {**results.values(), **generate.tables()}

nb_execution_mode = "off"  # `.ci/notebooks` executes them
nb_merge_streams = True

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

autodoc_typehints = "none"  # shapes and units are in the docstrings
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "ignore-module-all": True}  # each name where it is defined
# Types in signatures and bases of classes are those of JAX, Flax and NumPy, whose sites are not asked here.
nitpick_ignore_regex = [(r"py:.*", r".*")]


def show_notebook(app, name, source):
    """Put the outputs of its execution, if any, and a note on how to open it into a notebook that Sphinx has read."""
    folder, _, notebook = name.partition("/")
    if folder == "notebooks":
        source[0] = run_notebooks.shown(notebook, source[0])


def setup(app):
    """Write the pages that are made from the package and from `benchmarks/results/` before Sphinx looks for pages."""
    app.connect("source-read", show_notebook)
    app.connect("builder-inited", lambda app: generate.write_pages(Path(app.srcdir) / "generated"))
    app.connect("autodoc-process-docstring", generate.as_rst)
