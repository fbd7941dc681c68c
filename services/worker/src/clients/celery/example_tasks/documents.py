"""The documents folder: the only place that example tasks read files from.

An id is one plain name. It is opened relative to the folder's own descriptor and without following links,
so that neither the id nor a link planted in the folder leads outside, whatever happens between a check and
the opening.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clients.celery.example_tasks.errors import (
    DocumentError,
    DocumentNotFound,
    DocumentTooLarge,
    InvalidDocumentId,
    UnsupportedDocument,
)

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".csv", ".log")
PDF_SUFFIXES = (".pdf",)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")

# A worker runs several tasks side by side; each holds its document in memory.
MAX_DOCUMENT_BYTES = 128 * 1024 * 1024
# Most file systems allow 255 bytes a name; some of it is the suffix.
MAX_ID_BYTES = 240


@dataclass(frozen=True)
class Document:
    """One open file of the folder."""

    document_id: str
    name: str
    suffix: str
    size: int
    file: BinaryIO

    def read(self) -> bytes:
        """The whole content; `DocumentTooLarge` above `MAX_DOCUMENT_BYTES`, even of a file that grows."""
        content = self.file.read(MAX_DOCUMENT_BYTES + 1)
        if len(content) > MAX_DOCUMENT_BYTES:
            raise DocumentTooLarge(
                f"{self.name} is larger than the {MAX_DOCUMENT_BYTES:,} bytes that a task may read: split it."
            )
        return content


def checked_id(document_id: object) -> str:
    """The id, if it is one plain file name; `InvalidDocumentId` otherwise."""
    if not isinstance(document_id, str) or not document_id.strip():
        raise InvalidDocumentId(f"document_id must be a file's name such as 'doc-123', not {document_id!r}.")
    if document_id.startswith(".") or any(char in document_id for char in "/\\"):
        raise InvalidDocumentId(
            f"document_id {document_id!r} is not allowed: name a file in the documents folder itself, "
            "without a path and without a leading dot."
        )
    if not document_id.isprintable():
        raise InvalidDocumentId(f"document_id {document_id!r} contains characters that no file name may have.")
    if len(document_id.encode()) > MAX_ID_BYTES:
        raise InvalidDocumentId(f"document_id is too long: at most {MAX_ID_BYTES} bytes, not {len(document_id)}.")
    return document_id


@contextmanager
def open_document(folder: Path, document_id: str, suffixes: tuple[str, ...]) -> Iterator[Document]:
    """Find `<id><suffix>` in `folder`, the first suffix first, and open it for reading.

    An id that already ends in one of the suffixes is that file. Raises `InvalidDocumentId`,
    `DocumentNotFound` (also when the folder itself is missing) or `UnsupportedDocument` (a link or no
    regular file).
    """
    names = _candidates(checked_id(document_id), suffixes)
    folder_fd = _open_folder(folder)
    try:
        name, fd = _first_present(folder_fd, folder, names)
    finally:
        os.close(folder_fd)
    information = os.fstat(fd)
    if not stat.S_ISREG(information.st_mode):
        os.close(fd)
        raise UnsupportedDocument(f"{name} in {folder} is not a regular file.")
    with os.fdopen(fd, "rb") as file:
        yield Document(document_id, name, Path(name).suffix.lower(), information.st_size, file)


def _candidates(document_id: str, suffixes: tuple[str, ...]) -> list[str]:
    exact = [document_id] if document_id.lower().endswith(suffixes) else []
    return exact + [document_id + form for suffix in suffixes for form in (suffix, suffix.upper())]


def _open_folder(folder: Path) -> int:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DocumentNotFound(
            f"The documents folder {folder} cannot be opened ({error.strerror}): set LEDGERQ_DOCUMENTS to a "
            "folder that the worker may read."
        ) from error


def _first_present(folder_fd: int, folder: Path, names: list[str]) -> tuple[str, int]:
    # O_NONBLOCK: opening a FIFO would otherwise wait for its writer for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    for name in names:
        try:
            return name, os.open(name, flags, dir_fd=folder_fd)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _refusal(error, name, folder) from error
    looked_for = ", ".join(name for name in names if not Path(name).suffix.isupper())
    raise DocumentNotFound(
        f"There is no document {names[-1].rpartition('.')[0]!r} in {folder} (looked for {looked_for}): "
        "put the file there, or set LEDGERQ_DOCUMENTS to the folder that has it."
    )


def _refusal(error: OSError, name: str, folder: Path) -> DocumentError:
    if error.errno == errno.ELOOP:
        return UnsupportedDocument(f"{name} in {folder} is a symbolic link, which is never followed: copy the file.")
    return UnsupportedDocument(f"{name} in {folder} cannot be opened: {error.strerror}.")
