#!/usr/bin/env python3
"""Prints what CHANGELOG.md says about the version of a tag: `.ci/release_notes.py v0.2.0`.

Fails where the tag is not the package's version, or the changelog has no section of it.
"""

import re
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
tag = sys.argv[1]
version = re.search(r'^__version__ = "(.+)"$', (root / "joint_st/__init__.py").read_text(), re.MULTILINE)[1]
if tag != f"v{version}":
    sys.exit(f"the tag is {tag}, but joint_st/__init__.py says {version}; change one of them")
sections = re.split(r"^## ", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
notes = [section for section in sections if section.startswith(f"[{version}]")]
if not notes:
    sys.exit(f"CHANGELOG.md has no section '## [{version}]'; rename 'Unreleased' to it")
print(notes[0].partition("\n")[2].strip())
