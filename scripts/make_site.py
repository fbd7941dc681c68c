"""Build the documentation site from the repository's Markdown (``make docs``).

The documents are written to be read where they lie, by people and by a repository's web page. This script lays a copy of
them into a folder as MkDocs wants them, and builds that:

- a link to a document becomes a link to its page, in the reader's language; a link to code becomes the code's path;
- a heading has the same anchor in every language, so that a link to it holds in all of them;
- the glossary's page is ARCHITECTURE's section; the states' diagram is drawn, because Mermaid would come from a network.

Run it with the Python of ``.venv-docs``. It needs no network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
#: Documents beside docs/, and where their pages are.
BESIDE = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "deploy/helm/ledgerq/README.md": "project/chart.md",
    "deploy/helm/ledgerq/UPGRADING.md": "project/chart-upgrading.md",
}
#: The README says in short what the site says at length.
STANDS_FOR = {
    "README.md": "docs/index.md",
    "README.zh-CN.md": "docs/index.md",
    "docs/reference": "docs/reference/http.md",
}
LANGUAGES = ("zh",)
#: What stands on a page that there is only in English.
UNTRANSLATED = {"zh": "*（本页只有英文。）*"}
#: Parts of the navigation whose pages are all those of a folder.
LISTED = {"Runbooks": "runbooks", "Decisions": "adr"}
#: It is a section of ARCHITECTURE.md.
GLOSSARY = "docs/glossary.md"

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:)([^)\s]+)\)")
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
#: A translated heading may say the original's anchor: `## 提交 {#submit}`.
_HEADING = re.compile(r"^(#+) (.+?)(?: \{#([\w-]+)\})?[ \t]*$", re.MULTILINE)
#: What a page must not load: anything from elsewhere.
_FOREIGN = re.compile(r"<(?:script|img|iframe|link|source)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


def documents() -> dict[str, str]:
    """Every document and where its page's source is, relative to the repository and to the site's source."""
    found = {
        path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix()
        for path in ROOT.glob("docs/**/*.md")
    }
    found[GLOSSARY] = "glossary.md"
    for name, page in BESIDE.items():
        for language in ("", *LANGUAGES):
            if (ROOT / _in_language(name, language)).exists():
                found[_in_language(name, language)] = _in_language(page, language)
    return found


def headings(text: str) -> list[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found: list[str] = []
    for _, title, said in _HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title)
        anchor = said or re.sub(r"[^\w -]", "", plain.lower()).replace(" ", "-")
        number = sum(1 for other in found if re.sub(r"-\d+$", "", other) == anchor or other == anchor)
        found.append(f"{anchor}-{number}" if number and anchor in found else anchor)
    return found


class Source:
    """The site's source, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.documents = documents()

    def write(self) -> None:
        """Lay every document and drawing into the folder."""
        for name, page in self.documents.items():
            target = self.folder / page
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.page(name), encoding="utf-8")
            for language in LANGUAGES:
                if _plain(name) == name and _in_language(name, language) not in self.documents:
                    translated = self.folder / _in_language(page, language)
                    translated.write_text(_announced(self.page(name), language), encoding="utf-8")
        shutil.copytree(ROOT / "docs/drawings", self.folder / "drawings")
        shutil.copytree(ROOT / "scripts/site/assets", self.folder / "assets")

    def page(self, name: str) -> str:
        """A document as the site's page."""
        text = re.sub(r"\A<!--.*?-->\s*", "", text_of(name))  # MkDocs takes a title from the first line only
        text = re.sub(r"```mermaid\nstateDiagram.*?```", "![](../drawings/states.svg)", text, flags=re.DOTALL)
        anchors = headings(self._original(name))
        own = headings(text)
        if len(anchors) != len(own):  # a translation that is behind; a test says so
            anchors = own
        return _outside_of_fences(text, lambda part: self._linked(part, name), _anchored(anchors))

    def _original(self, name: str) -> str:
        return text_of(_plain(name))

    def _linked(self, text: str, name: str) -> str:
        return _LINK.sub(lambda found: self._link(found, name), text)

    def _link(self, found: re.Match[str], name: str) -> str:
        sign, text, link = found.groups()
        path, _, anchor = link.partition("#")
        if not path:
            return f"{sign}[{text}](#{self._anchor(name, anchor)})"
        target = os.path.normpath(Path(name).parent / path)
        target = STANDS_FOR.get(target, target)
        if (ROOT / target).is_dir() and (ROOT / target / "README.md").exists():
            target += "/README.md"
        page = self.documents.get(_plain(target))
        if page is None and target.startswith("docs/") and target.endswith(".svg"):
            page = _plain(target).removeprefix("docs/")
        if page is None and not (ROOT / target).exists():
            return found[0]  # MkDocs says that it leads nowhere
        if page is None:
            return text if path.rsplit("/", 1)[-1] in text else f"{text} (`{target}`)"
        address = os.path.relpath(page, Path(self.documents[name]).parent)
        if anchor and _plain(target) in self.documents:
            address += "#" + self._anchor(target, anchor)
        return f"{sign}[{text}]({address})"

    def _anchor(self, name: str, anchor: str) -> str:
        """The anchor that every language has for this one."""
        own = headings(text_of(name))
        originals = headings(self._original(name))
        if anchor in own and len(own) == len(originals):
            return originals[own.index(anchor)]
        return anchor


def _in_language(name: str, language: str) -> str:
    return f"{name.removesuffix('.md')}.{language}.md" if language else name


def _announced(text: str, language: str) -> str:
    """A page that is not translated, with a note about that below its title."""
    title, end, rest = text.partition("\n")
    return f"{title}{end}\n{UNTRANSLATED[language]}\n{rest}"


def _plain(name: str) -> str:
    """The original of a translation."""
    for language in LANGUAGES:
        name = re.sub(rf"\.{language}(\.\w+)$", r"\1", name)
    return name


def text_of(name: str) -> str:
    """A document's text; the glossary's is ARCHITECTURE's section."""
    if name != GLOSSARY:
        return (ROOT / name).read_text(encoding="utf-8")
    section = text_of("ARCHITECTURE.md").partition("\n## Glossary\n")[2]
    return f"# Glossary\n{section.partition(chr(10) + '## ')[0]}\n"


def _anchored(anchors: list[str]) -> Callable[[str], str]:
    left = iter(anchors)
    return lambda part: _HEADING.sub(lambda found: f"{found[1]} {found[2]} {{ #{next(left)} }}", part)


def _outside_of_fences(text: str, *changes: Callable[[str], str]) -> str:
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [(text[end : fence.start()], True), (fence[0], False)]
        end = fence.end()
    parts.append((text[end:], True))
    for change in changes:
        parts = [(change(part) if is_prose else part, is_prose) for part, is_prose in parts]
    return "".join(part for part, _ in parts)


def inline_search(site: Path) -> None:
    """Let the script that the search reads from a file have every language: MkDocs' plugin writes that of the last."""
    index = (site / "search/search_index.json").read_text(encoding="utf-8")
    (site / "search/search_index.js").write_text(f"var __index = {index}", encoding="utf-8")


def foreign(site: Path) -> list[str]:
    """What the site's pages would load from another server."""
    return sorted(
        {
            f"{page.relative_to(site)}: {tag}"
            for page in site.rglob("*.html")
            for tag in _FOREIGN.findall(page.read_text("utf-8"))
        }
    )


def configuration() -> str:
    """MkDocs' configuration, with the pages of the folders in which there are many."""
    text = (ROOT / "scripts/site/mkdocs.yml").read_text(encoding="utf-8")
    for title, folder in LISTED.items():
        names = [path.name for path in (ROOT / "docs" / folder).glob("*.md") if _plain(path.name) == path.name]
        names.sort(key=lambda name: (name != "README.md", name))
        before, after = text.split(f"- {title}: []")
        indent = " " * (len(before) - len(before.rstrip(" ")) + 4)
        text = f"{before}- {title}:" + "".join(f"\n{indent}- {folder}/{name}" for name in names) + after
    return text


def main() -> int:
    """Build the site into ``site/``; 1 if a link or an anchor leads nowhere, or a page would load from elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        Source(Path(folder) / "docs").write()
        (Path(folder) / "mkdocs.yml").write_text(configuration(), encoding="utf-8")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(SITE)]
        environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "TMPDIR": folder}  # for jieba's cache
        done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
            return 1
    inline_search(SITE)
    if found := foreign(SITE):
        sys.stderr.write("\n".join([*found, "These pages would load something from another server.\n"]))
        return 1
    sys.stdout.write("The site is in site/: open site/index.html.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
