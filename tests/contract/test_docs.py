"""What the documents say is what the code says."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ledgerq_shared.task_errors import TaskError
from tests.support.scripts import script

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCES = [
    *ROOT.glob("shared/src/**/*.py"),
    *ROOT.glob("services/*/src/**/*.py"),
    *ROOT.glob("launcher/*.py"),
]
#: Says which launch a process belongs to: nobody sets it.
INTERNAL_VARIABLES = {"LEDGERQ_LAUNCH"}
VARIABLE = re.compile(r"LEDGERQ_[A-Z_]*[A-Z](?![A-Z_])")
READMES = ("README.md", "README.zh-CN.md")
#: Folders in whose place of the code map each module is named, beside their packages.
CODE = {
    "shared/src/ledgerq_shared": (),
    "services/api/src/ledgerq_api": (),
    "services/worker/src/ledgerq_worker": ("node", "drain", "celery", "catalogue", "maintenance"),
    "services/worker/src/ledgerq_testing": (),
    "services/monitor/src/ledgerq_monitor": (),
    "launcher": (),
}
#: What nobody looks for in a map.
PLAIN = {"__init__", "__main__", "chinese"}
SITE = script("make_site")
#: Pages that need no Chinese: the calls and what was measured, and what is read beside the code.
ENGLISH = ("docs/reference/http.md", "docs/reference/performance.md", "docs/adr/", "docs/model/")
#: Pages that are still without Chinese. This list only shrinks: take a page out when it is translated.
WITHOUT_CHINESE = {
    "CHANGELOG.md", "deploy/helm/ledgerq/README.md", "deploy/helm/ledgerq/UPGRADING.md",
}  # fmt: skip
_PAGES = list(SITE.documents())
TRANSLATED = sorted(name for name in _PAGES if name.endswith(".zh.md"))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The headings as GitHub links to them; a translated heading says the id of the English one: `## 提交 {#submit}`."""
    headings = re.findall(r"^#+ (.+?)(?: \{#([\w-]+)\})?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {said or re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading, said in headings}


def test_the_reference_is_what_the_code_says():
    done = subprocess.run(
        [sys.executable, "scripts/make_reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_text_of_the_reference_without_chinese_is_named(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    make = script("make_reference")
    monkeypatch.delitem(sys.modules["reference.chinese"].TEXTS, "It was cancelled or expired.")
    with pytest.raises(make.NoChinese, match=r"chinese\.py for:\nIt was cancelled or expired\.$"):
        make.translated(make.PAGES["events.md"]())
    assert "至少 2，至多 3600" in make.translated(make.PAGES["settings.md"]())


def test_every_variable_that_the_code_names_is_in_the_reference():
    reference = text_of("docs/reference/settings.md")
    named = {name for path in SOURCES for name in VARIABLE.findall(path.read_text("utf-8"))}
    assert len(named) > 10
    assert not {name for name in named - INTERNAL_VARIABLES if f"`{name}`" not in reference}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_variable_that_a_document_names_exists(path):
    reference = text_of("docs/reference/settings.md")
    for name in VARIABLE.findall(path.read_text(encoding="utf-8")):
        assert f"`{name}`" in reference, name


def test_every_error_that_the_reference_says_we_write_is_in_the_code():
    code = "\n".join(path.read_text("utf-8") for path in SOURCES if path.name != "task_errors.py")
    section = text_of("docs/reference/errors.md").partition("## Errors of tasks")[2]
    types = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert {"WorkerLost", "TaskQuarantined", "TimeLimitExceeded"} < set(types)
    ours = {str(kind): f"TaskError.{kind.name}" for kind in TaskError}
    assert set(ours) < set(types)
    assert not [name for name in types if name not in code and ours.get(name, name) not in code]


def test_nothing_that_the_reference_names_is_there_for_later():
    assert "Reserved" not in text_of("docs/reference/events.md")


def test_every_error_stands_in_a_tree_or_is_said_to_stand_in_none():
    """A reader who looks for an error finds it in the first lines of a module that is called so."""
    drawn = {
        word
        for path in SOURCES
        if path.name == "errors.py"
        for word in re.findall(r"\w+", ast.get_docstring(tree(path)))
    }
    bases = {"BaseException", "Exception", "EncodeError", "SoftTimeLimitExceeded"}
    found, news = set(), bases
    while news:
        news = {
            node.name
            for path in SOURCES
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ClassDef) and {base.id for base in node.bases if isinstance(base, ast.Name)} & news
        }
        found |= news
    assert len(found) > 50
    assert not {name for name in found - drawn if not name.startswith("_")}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(path):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        found = (path.parent / target) if target else path
        assert found.exists(), link
        if anchor:
            assert anchor in anchors(found), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_test_and_file_that_a_document_names_exists(path):
    text = path.read_text(encoding="utf-8")
    tests = {
        name
        for file in ROOT.glob("tests/**/*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)
    }
    for name in re.findall(r"`(?:tests/[\w/.]+::)?(test_[a-z0-9_]+)`", text):
        assert name in tests, name
    for name in re.findall(r"`((?:tests|docs|scripts|services|shared|launcher)/[\w/.-]*\w)(?:::\w+)?`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_make_target_that_a_document_names_exists(path):
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for target in re.findall(r"`make ([a-z-]+)[^`]*`", path.read_text(encoding="utf-8")):
        assert target in targets, target


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_python_in_documents_is_python(path):
    for block in blocks(path.read_text(encoding="utf-8"), "python"):
        ast.parse(block)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_a_command_leaves_the_lines_that_were_pasted_behind_it(path):
    """`docker compose run` reads them, unless it is told not to."""
    commands = re.findall(r"\$\(docker compose run .*", path.read_text(encoding="utf-8"))
    assert not [command for command in commands if "--interactive=false" not in command]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_documents_name_no_machine(path):
    assert not re.search(r"/(?:work|home|root|tmp)/\w", path.read_text(encoding="utf-8"))


def test_every_flag_of_the_launcher_is_in_the_guide():
    shown = subprocess.run(
        [sys.executable, "main.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    flags = set(re.findall(r"--[a-z]+(?:-[a-z]+)*", shown))
    assert len(flags) >= 12
    guide = text_of("docs/guides/configuration.md")
    assert not {flag for flag in flags if f"`{flag}" not in guide}
    for name in READMES:
        text = text_of(name).replace(".zh.md", ".md")
        assert "python main.py --help" in text
        assert "(docs/guides/configuration.md#the-command-line)" in text


@pytest.mark.parametrize("name", READMES)
def test_a_readme_can_be_read_in_one_go(name):
    assert len(text_of(name).splitlines()) <= 150


def test_make_alone_lists_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607
    listed = set(re.findall(r"^  make ([a-z-]+) ", shown, re.MULTILINE))
    assert listed == set(re.findall(r"^([a-z][a-z-]+):", text_of("Makefile"), re.MULTILINE))


def test_the_users_example_is_in_both_readmes_and_is_the_one_that_is_tested():
    from tests.integration.worker.tasks_under_test import CUSTOM

    tested = re.sub(r"    result_data = .*", "    ...", CUSTOM).strip()
    for name in READMES:
        # The last line makes the example run as it is pasted.
        assert [block.strip() for block in blocks(text_of(name), "python")] == [f"{tested}\nresult_data = [1, 2]"]


def test_both_readmes_have_the_same_commands_examples_and_proofs():
    english, chinese = (text_of(name).replace(".zh.md", ".md") for name in READMES)
    for language in ("sh", "ini", "json", "python"):
        assert blocks(english, language) == blocks(chinese, language)
    for pattern in (r"^## ", r"\]\((?:docs|tests)/[^)]+\)", r"`test_\w+`", r"`(?:GET|POST) [^`]+`", r"`make [a-z-]+"):
        found = [sorted(re.findall(pattern, text, re.MULTILINE)) for text in (english, chinese)]
        assert found[0] == found[1], pattern


def test_every_page_is_there_in_chinese_but_for_those_that_are_listed():
    originals = {name for name in _PAGES if not name.endswith(".zh.md")}
    missing = {name for name in originals if name.replace(".md", ".zh.md") not in TRANSLATED}
    missing = {name for name in missing if not name.startswith(ENGLISH)}
    assert missing == WITHOUT_CHINESE
    assert {name.replace(".zh.md", ".md") for name in TRANSLATED} <= originals


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translation_has_the_headings_of_its_original_and_names_their_anchors(name):
    translation, original = SITE.text_of(name), SITE.text_of(name.replace(".zh.md", ".md"))
    assert levels(translation) == levels(original)
    assert SITE.headings(translation) == SITE.headings(original)


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translation_has_the_commands_and_examples_of_its_original(name):
    assert code(SITE.text_of(name)) == code(SITE.text_of(name.replace(".zh.md", ".md")))


def test_both_architectures_name_the_same_code():
    """The code map is wrong in neither language: a module that is renamed is renamed in both."""
    texts = [SITE.FENCE.sub("", text_of(name)) for name in ("ARCHITECTURE.md", "ARCHITECTURE.zh.md")]
    english, chinese = (
        set(
            re.findall(
                r"`([^`\n]+)`", re.sub(r"\n## [^\n]*(?:Glossary|#glossary).*?(?=\n## )", "", text, flags=re.DOTALL)
            )
        )
        for text in texts
    )
    assert len(english) > 200
    assert english == chinese


def test_every_module_and_metric_that_a_document_names_exists():
    metrics = set(re.findall(r"^\| `(ledgerq_\w+)`", text_of("docs/reference/metrics.md"), re.MULTILINE))
    for path in DOCUMENTS:
        for name in re.findall(r"`(ledgerq_\w+(?:\.\w+)*)`", path.read_text(encoding="utf-8")):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in metrics or _is_in_code(name), f"{path.name}: {name}"


def test_every_module_of_the_code_map_exists():
    for folder, text in code_map().items():
        for name in names_in(text):
            assert [*(ROOT / folder).rglob(name), *(ROOT / folder).rglob(f"{name}.py")], f"{folder}: {name}"


@pytest.mark.parametrize("folder", CODE)
def test_every_package_and_every_module_on_top_is_in_the_code_map(folder):
    named = names_in(code_map()[folder])
    base = ROOT / folder
    packages = {path.parent.name for path in base.rglob("__init__.py") if path.parent != base}
    modules = {path.stem for part in ("", *CODE[folder]) for path in (base / part).glob("*.py")}
    assert not (packages | modules) - named - PLAIN


def test_every_folder_of_the_tree_is_in_the_code_map():
    text = text_of("ARCHITECTURE.md").partition("## Code map")[2].partition("## Tables")[0]
    tests = names_in(code_map()["tests"])
    assert not {path.name for path in (ROOT / "tests").iterdir() if [*path.glob("*.py")]} - tests
    for top in ("benchmarks", "deploy/compose", "deploy/helm/ledgerq", "launcher", "scripts", "tests"):
        assert f"`{top}`" in text or f"`{top}/`" in text, top
    assert {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("services/*/src/ledgerq_*/__init__.py")} < {
        *CODE
    }


def test_every_table_is_in_the_architecture():
    from ledgerq_shared.models import tables

    section = text_of("ARCHITECTURE.md").partition("## Tables")[2].partition("## Invariants")[0]
    assert not [name for name in tables().tables if f"`{name}`" not in section]


def test_every_decision_says_when_a_change_violates_it():
    records = decisions()
    numbers = [int(path.name[:4]) for path in records]
    assert len(set(numbers)) == len(numbers)
    for number, path in zip(numbers, records, strict=True):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. "), path.name
        for part in ("Context.", "Decision.", "Consequences.", "Evidence.", "A change violates this decision when"):
            assert f"**{part}" in text, f"{path.name}: {part}"


def test_every_decision_is_in_the_index_and_the_numbers_that_are_missing_are_explained():
    index = text_of("docs/adr/README.md")
    for path in decisions():
        number, title = re.fullmatch(r"# (\d+)\. (.+)", path.read_text(encoding="utf-8").splitlines()[0]).groups()
        assert f"| {number} | [{title}]({path.name}) |" in index, (
            f"{path.name}: its line is missing in docs/adr/README.md"
        )
    numbers = {int(path.name[:4]) for path in decisions()}
    missing = sorted({*range(1, max(numbers) + 1)} - numbers)
    assert re.findall(r"Numbers (\d+) to (\d+) were never used", index) == [(str(missing[0]), str(missing[-1]))]
    assert missing == [*range(missing[0], missing[-1] + 1)]


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def code_map() -> dict[str, str]:
    """The paragraphs of ARCHITECTURE's code map by the folder that each begins with."""
    text = text_of("ARCHITECTURE.md").partition("## Code map")[2].partition("## Tables")[0]
    parts = re.split(r"^\*\*`(\S+?)/?`\*\*", text, flags=re.MULTILINE)
    return {folder: text.partition("\n\n")[0] for folder, text in zip(parts[1::2], parts[2::2], strict=True)}


def names_in(text: str) -> set[str]:
    """Modules and folders that a paragraph of the code map names."""
    return {name.rstrip("/") for name in re.findall(r"`([a-z0-9_]+/?)`", text)}


def levels(text: str) -> list[str]:
    return re.findall(r"^(#+) ", SITE.FENCE.sub("", text), re.MULTILINE)


def code(text: str) -> list[str]:
    """The code of a document, without its comments."""
    fences = [found[0] for found in SITE.FENCE.finditer(text)]
    return [re.sub(r"[ \t]*(?:#|--) [^\n]*", "", fence).replace("\n\n", "\n") for fence in fences]


def decisions() -> list[Path]:
    return sorted(ROOT.glob("docs/adr/[0-9]*.md"))


def _is_in_code(name: str) -> bool:
    """A module, or a name in one."""
    service = name.split(".", maxsplit=1)[0].removeprefix("ledgerq_")
    base = ROOT / ("shared" if service == "shared" else f"services/{service}") / "src"
    path = base / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module, _, attribute = name.rpartition(".")
    holder = (base / module.replace(".", "/")).with_suffix(".py")
    return holder.exists() and attribute in holder.read_text("utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_shown_as_yaml_or_json_or_shell_can_be_read(document: Path):
    for language, text in re.findall(r"```(yaml|json|sh)\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
        if language == "sh":
            done = subprocess.run(["/bin/bash", "-n"], input=text, text=True, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
        else:  # JSON is YAML
            assert list(yaml.safe_load_all(text)) != [None]
