"""Reading PDF documents with PDFium."""

import base64
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pypdfium2
import pypdfium2.raw

from clients.celery.example_tasks.budget import Budget, storable
from clients.celery.example_tasks.errors import BrokenDocument, EncryptedDocument
from clients.celery.example_tasks.options import Format, Quality
from clients.celery.example_tasks.progress import Reporter, step

# PDFium may not be entered by two threads at once, and the threads pool would. Held per page, so that
# documents that are processed side by side take turns.
_PDFIUM = threading.RLock()

_EXCERPT = 500  # characters of a page's text at low quality
_THUMBNAIL = {"low": 96, "medium": 192, "high": 320}  # pixels of the longer side
_PROOF_DPI = {"low": 0, "medium": 72, "high": 300}  # resolution at which a page is drawn to measure its ink
_MAX_SIDE = 5000  # pixels; a page may claim to be 5 m wide

_PageReader = Callable[[pypdfium2.PdfPage, Quality], dict[str, Any]]


def read_pdf(content: bytes, name: str, wanted: Format, quality: Quality, reporter: Reporter) -> dict[str, Any]:
    """Every page of the document as `wanted`, with progress; `BrokenDocument` or `EncryptedDocument`."""
    pages = Budget()
    with _opened(content, name) as pdf:
        with _PDFIUM:
            total = len(pdf)
        for number in range(1, total + 1):
            step(reporter, number - 1, total, f"page {number} of {total}")
            pages.add({"page": number} | _read_page(pdf, number, name, _READERS[wanted], quality))
        outcome = {"pages_processed": total, "pages": pages.entries, "truncated": pages.truncated}
        return outcome | (_document_facts(pdf) if wanted == "pdf" else {})


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[pypdfium2.PdfDocument]:
    with _PDFIUM:
        try:
            pdf = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError as error:
            if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
                raise EncryptedDocument(f"{name} is encrypted: save it without a password and try again.") from error
            raise BrokenDocument(f"{name} is not a readable PDF: {error} Replace the file.") from error
    try:
        yield pdf
    finally:
        with _PDFIUM:
            pdf.close()


def _read_page(
    pdf: pypdfium2.PdfDocument, number: int, name: str, reader: _PageReader, quality: Quality
) -> dict[str, Any]:
    with _PDFIUM:
        try:
            page = pdf[number - 1]
            try:
                return reader(page, quality)
            finally:
                page.close()
        except pypdfium2.PdfiumError as error:
            raise BrokenDocument(f"Page {number} of {name} is damaged: {error} Replace the file.") from error


def _text_of(page: pypdfium2.PdfPage) -> str:
    text_page = page.get_textpage()
    try:
        return storable(text_page.get_text_range().replace("\r\n", "\n"))
    finally:
        text_page.close()


def _as_text(page: pypdfium2.PdfPage, quality: Quality) -> dict[str, Any]:
    text = _text_of(page)
    return {"characters": len(text), "text": text[:_EXCERPT] if quality == "low" else text}


def _as_report(page: pypdfium2.PdfPage, quality: Quality) -> dict[str, Any]:
    width, height = page.get_size()
    text = _text_of(page)
    report: dict[str, Any] = {
        "width_pt": round(width, 1),
        "height_pt": round(height, 1),
        "rotation": page.get_rotation(),
        "characters": len(text),
        "words": len(text.split()),
    }
    dpi = _PROOF_DPI[quality]
    if dpi:
        report["ink_coverage"] = _ink_coverage(page, dpi / 72)
    return report


def _as_thumbnail(page: pypdfium2.PdfPage, quality: Quality) -> dict[str, Any]:
    image = _drawn(page, _THUMBNAIL[quality] / max(page.get_size()))
    encoded = io.BytesIO()
    image.save(encoded, "PNG", optimize=True)
    return {
        "width": image.width,
        "height": image.height,
        "media_type": "image/png",
        "base64": base64.b64encode(encoded.getvalue()).decode(),
    }


def _ink_coverage(page: pypdfium2.PdfPage, scale: float) -> float:
    """How much of the page is printed on, 0 (blank) to 1 (black), by drawing it."""
    histogram = _drawn(page, scale).histogram()
    darkness = sum((255 - level) * count for level, count in enumerate(histogram))
    return float(round(darkness / (255 * max(sum(histogram), 1)), 4))


def _drawn(page: pypdfium2.PdfPage, scale: float) -> Any:
    bounded = min(scale, _MAX_SIDE / max(page.get_size()))
    return page.render(scale=bounded, grayscale=True).to_pil().convert("L")


def _document_facts(pdf: pypdfium2.PdfDocument) -> dict[str, Any]:
    with _PDFIUM:
        metadata = {key.lower(): storable(value) for key, value in pdf.get_metadata_dict(skip_empty=True).items()}
        rewritten = io.BytesIO()
        pdf.save(rewritten)
        version = pdf.get_version()
    return {
        "title": metadata.get("title"),
        "metadata": metadata,
        "pdf_version": None if version is None else f"{version // 10}.{version % 10}",
        "normalised_bytes": rewritten.tell(),
    }


_READERS: dict[Format, _PageReader] = {"text": _as_text, "pdf": _as_report, "png": _as_thumbnail}
