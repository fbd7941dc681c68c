"""Tasks to try a queue with: real work on the documents folder, on images, URLs and numbers.

Each is a complete example of a task: type hints and the doc string become its entry in the catalogue, and
`self` reports progress and asks whether the task was cancelled.
"""

import time
from typing import Annotated, Any

from celery import shared_task
from pydantic import Field

from clients.celery.base_tasks import DatabaseAwareTask
from clients.celery.example_tasks import fetch, primes
from clients.celery.example_tasks.checksums import Algorithm, checksum
from clients.celery.example_tasks.documents import (
    IMAGE_SUFFIXES,
    PDF_SUFFIXES,
    TEXT_SUFFIXES,
    open_document,
)
from clients.celery.example_tasks.errors import TransientFailure
from clients.celery.example_tasks.images import MAX_SIDE, ImageFormat, resized
from clients.celery.example_tasks.options import DocumentOptions, checked_options
from clients.celery.example_tasks.pdf import read_pdf
from clients.celery.example_tasks.settings import ExampleTaskSettings
from clients.celery.example_tasks.text import decoded, most_common_words, pages_of, read_text
from ledgerq_shared.settings import load

__all__ = [
    "checksum_file",
    "fail_on_purpose",
    "fetch_url",
    "flaky",
    "long_running",
    "process_document",
    "resize_image",
    "word_count",
]

DocumentId = Annotated[
    str,
    Field(
        description="Name of a file in the documents folder, with or without its suffix.",
        examples=["doc-123"],
    ),
]


@shared_task(bind=True, base=DatabaseAwareTask)
def process_document(
    self: DatabaseAwareTask, document_id: DocumentId, options: DocumentOptions | None = None
) -> dict[str, Any]:
    """Read a PDF or text document page by page and return what `options` ask for.

    `format` is `text` (the text of each page), `pdf` (a report: size, characters, words and ink of each page,
    title and metadata) or `png` (a thumbnail of each page). `quality` is `low`, `medium` or `high`. Pages
    that would make the result larger than a result may be are left out, and `truncated` is true.
    """
    started = time.perf_counter()
    wanted, quality = checked_options(options)
    self.update_progress(0, "opening the document")
    folder = load(ExampleTaskSettings).documents
    with open_document(folder, document_id, PDF_SUFFIXES + TEXT_SUFFIXES) as document:
        read = read_pdf if document.suffix in PDF_SUFFIXES else read_text
        outcome = read(document.read(), document.name, wanted, quality, self)
    self.update_progress(100, f"{outcome['pages_processed']} pages processed")
    return {
        "document_id": document_id,
        "status": "success",
        "format": wanted,
        "quality": quality,
        "source": document.name,
        "source_bytes": document.size,
        "processing_time": round(time.perf_counter() - started, 3),
    } | outcome


@shared_task(bind=True, base=DatabaseAwareTask)
def word_count(
    self: DatabaseAwareTask, document_id: DocumentId, top: Annotated[int, Field(ge=0, le=1000)] = 10
) -> dict[str, Any]:
    """Count the words of a text document and list the `top` most frequent ones."""
    with open_document(load(ExampleTaskSettings).documents, document_id, TEXT_SUFFIXES) as document:
        pages = pages_of(decoded(document.read(), document.name))
    counted = most_common_words(pages, min(max(top, 0), 1000), self)
    self.update_progress(100, f"{counted['words']:,} words")
    return {"document_id": document_id} | counted


@shared_task(bind=True, base=DatabaseAwareTask)
def checksum_file(self: DatabaseAwareTask, document_id: DocumentId, algorithm: Algorithm = "sha256") -> dict[str, Any]:
    """Compute the checksum of a document of any size."""
    suffixes = PDF_SUFFIXES + TEXT_SUFFIXES + IMAGE_SUFFIXES
    with open_document(load(ExampleTaskSettings).documents, document_id, suffixes) as document:
        digest, size = checksum(document, algorithm, self)
    return {"document_id": document_id, "algorithm": algorithm, "digest": digest, "bytes": size}


@shared_task(bind=True, base=DatabaseAwareTask)
def resize_image(
    self: DatabaseAwareTask,
    document_id: DocumentId,
    width: Annotated[int, Field(ge=1, le=MAX_SIDE)],
    height: Annotated[int, Field(ge=1, le=MAX_SIDE)] | None = None,
    format: ImageFormat = "png",  # noqa: A002 - the name that callers see
) -> dict[str, Any]:
    """Scale an image of the documents folder; without `height` its proportions are kept.

    The new image is in the result, encoded as base64.
    """
    with open_document(load(ExampleTaskSettings).documents, document_id, IMAGE_SUFFIXES) as document:
        self.update_progress(10, f"reading {document.name}")
        image = resized(document.read(), document.name, width, height, format)
    self.update_progress(100, f"{image['width']} x {image['height']} pixels")
    return {"document_id": document_id} | image


@shared_task(bind=True, base=DatabaseAwareTask)
def fetch_url(
    self: DatabaseAwareTask,
    url: Annotated[str, Field(max_length=2000, examples=["https://example.com/"])],
    max_bytes: Annotated[int, Field(ge=1, le=fetch.MAX_BYTES)] = 1_000_000,
    timeout: Annotated[float, Field(gt=0, le=fetch.MAX_SECONDS)] = 10.0,
) -> dict[str, Any]:
    """Fetch an http or https URL and return its status, checksum and the beginning of its text.

    `timeout` is in seconds and covers everything. Addresses inside the worker's own network are refused
    unless the operator sets LEDGERQ_FETCH_ALLOW_PRIVATE.
    """
    limits = fetch.Limits(max_bytes, timeout, load(ExampleTaskSettings).fetch_allow_private)
    return fetch.fetched(url, limits, self)


@shared_task(bind=True, base=DatabaseAwareTask)
def fail_on_purpose(self: DatabaseAwareTask, message: str = "failed on purpose") -> None:
    """Fail with a ValueError that has this message, to see how a failure looks."""
    self.update_progress(50, "about to fail")
    raise ValueError(message)


@shared_task(
    bind=True,
    base=DatabaseAwareTask,
    autoretry_for=(TransientFailure,),
    retry_backoff=1,
    retry_backoff_max=30,
    retry_jitter=False,
    max_retries=10,
)
def flaky(self: DatabaseAwareTask, failures: Annotated[int, Field(ge=0, le=20)] = 2) -> dict[str, Any]:
    """Fail `failures` times, then succeed: it is tried again after 1, 2, 4, 8… seconds, at most 10 times."""
    retries = self.request.retries
    if retries < failures:
        raise TransientFailure(f"Failure {retries + 1} of {failures}: the next try may do better.")
    return {"status": "success", "tries": retries + 1}


@shared_task(bind=True, base=DatabaseAwareTask)
def long_running(
    self: DatabaseAwareTask, limit: Annotated[int, Field(ge=0, le=primes.MAX_LIMIT)] = 5_000_000_000
) -> dict[str, Any]:
    """Count the primes up to `limit`: seconds to hours of work that reports progress and can be cancelled."""
    started = time.perf_counter()
    count, largest = primes.count_primes(limit, self)
    self.update_progress(100, f"{count:,} primes")
    return {
        "limit": limit,
        "primes": count,
        "largest": largest,
        "processing_time": round(time.perf_counter() - started, 3),
    }
