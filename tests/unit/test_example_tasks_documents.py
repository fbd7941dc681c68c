"""No id and nothing planted in the folder leads a task outside of the documents folder."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clients.celery.example_tasks import documents
from clients.celery.example_tasks.documents import Document, open_document
from clients.celery.example_tasks.errors import (
    DocumentError,
    DocumentNotFound,
    DocumentTooLarge,
    InvalidDocumentId,
    UnsupportedDocument,
)

SUFFIXES = (".pdf", ".txt")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `documents` with files, links out of it and a secret next to it."""
    root = tmp_path_factory.mktemp("tree")
    folder = root / "documents"
    folder.mkdir()
    (root / "secret.txt").write_text("secret")
    (folder / "note.txt").write_text("a note")
    (folder / "both.txt").write_text("text")
    (folder / "both.pdf").write_text("pdf")
    (folder / ".hidden.txt").write_text("hidden")
    (folder / "link.txt").symlink_to(root / "secret.txt")
    (folder / "inner.txt").symlink_to(folder / "note.txt")
    (folder / "up").symlink_to(root)
    (folder / "folder.txt").mkdir()
    os.mkfifo(folder / "pipe.txt")
    return folder


def content(folder: Path, document_id: str) -> bytes:
    with open_document(folder, document_id, SUFFIXES) as document:
        return document.read()


def test_the_first_suffix_wins(tree: Path):
    assert content(tree, "both") == b"pdf"
    assert content(tree, "both.txt") == b"text"


def test_a_document_knows_its_file(tree: Path):
    with open_document(tree, "note", SUFFIXES) as document:
        assert isinstance(document, Document)
        assert (document.name, document.suffix, document.size) == ("note.txt", ".txt", 6)


@pytest.mark.parametrize(
    "document_id",
    [
        "",
        " ",
        ".",
        "..",
        "../secret",
        "../secret.txt",
        "up/secret",
        "/etc/passwd",
        "..\\secret",
        "C:\\secret",
        ".hidden",
        "note.txt\x00",
        "note\x00",
        "note\n",
        "\ud800",
        "x" * 300,
        None,
        7,
        ["note"],
    ],
)
def test_an_id_that_is_not_a_plain_name_is_refused(tree: Path, document_id: object):
    with pytest.raises(InvalidDocumentId):
        content(tree, document_id)  # type: ignore[arg-type]


@pytest.mark.parametrize("document_id", ["link", "inner", "link.txt", "folder", "pipe"])
def test_links_folders_and_pipes_are_never_read(tree: Path, document_id: str):
    with pytest.raises(UnsupportedDocument):
        content(tree, document_id)


def test_an_absent_document_is_not_found(tree: Path):
    with pytest.raises(DocumentNotFound, match=r"absent\.pdf, absent\.txt"):
        content(tree, "absent")


def test_a_file_in_the_place_of_the_folder_is_an_error(tree: Path):
    with pytest.raises(DocumentNotFound, match="LEDGERQ_DOCUMENTS"):
        content(tree / "note.txt", "note")


def test_a_file_above_the_limit_is_not_read(tree: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 5)
    with pytest.raises(DocumentTooLarge):
        content(tree, "note")


def _paths() -> st.SearchStrategy[str]:
    pieces = st.sampled_from(["..", ".", "/", "\\", "secret", ".txt", "up", "note", "\x00", "%2e", " "])
    return st.lists(pieces, max_size=8).map("".join) | st.text(max_size=30)


@given(document_id=_paths())
@example("up/secret.txt")
@example("../documents/../secret.txt")
def test_no_id_reaches_a_file_outside_of_the_folder(tree: Path, document_id: str):
    before = _open_descriptors()
    try:
        found = content(tree, document_id)
    except DocumentError:
        found = b""
    assert found in {b"", b"a note", b"text", b"pdf"}
    assert _open_descriptors() == before


def _open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())
