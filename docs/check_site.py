"""Check a built site: every link inside it leads somewhere, and no page loads anything from elsewhere.

    python docs/check_site.py docs/_build/html

Prints what is wrong, and the links that lead out of the site, which nothing here asks for.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

LOADED = {("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("audio", "src"), ("link", "href")}
"""Attributes by which a page loads something, by tag."""
NOT_LOADED = {"canonical", "author", "license", "next", "prev", "search", "index", "alternate", "edit"}
"""Relations of a `link` that is only a link."""


class Page(HTMLParser):
    """The names that a page gives to places in it, what it loads and where it leads."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        relations = set((found.get("rel") or "").split())
        for name, value in found.items():
            if (tag, name) in LOADED and value and not relations & NOT_LOADED:
                self.loaded.append(value)
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])


def outside(address: str) -> bool:
    """Return whether an address leads out of the site."""
    return address.startswith(("http:", "https:", "//"))


def check(site: Path) -> tuple[list[str], set[str]]:
    """Return what is wrong with a site, and the addresses outside it that it links to."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    problems, external = [], set()
    for path, page in pages.items():
        here = path.relative_to(site)
        problems += [f"{here}: loads {address}" for address in page.loaded if outside(address)]
        for address in [*page.links, *page.loaded]:
            if outside(address):
                external.add(address)
                continue
            if address.startswith(("mailto:", "data:", "javascript:")):
                continue
            file, anchor = urldefrag(address)
            target = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                problems.append(f"{here}: {address} leads nowhere")
            elif anchor and target in pages and unquote(anchor) not in pages[target].ids:
                problems.append(f"{here}: {address} names no place of that page")
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        problems += [
            f"{path.relative_to(site)}: loads {part}"
            for part in ("@import url(http", "url(http", "url(//")
            if part in text
        ]
    return problems, external


def main() -> int:
    """Check the site that the command line names."""
    problems, external = check(Path(sys.argv[1]).resolve())
    for address in sorted(external):
        print(f"leads out: {address}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
