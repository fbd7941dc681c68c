"""The example tasks as a caller sees them: parameters in, result or error out."""

import base64
import hashlib
import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from clients.celery import example_tasks
from clients.celery.base_tasks import DatabaseAwareTask
from clients.celery.example_tasks import errors

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def app() -> Iterator[Celery]:
    with Celery("examples", broker="memory://", set_as_current=True) as app:
        app.finalize()
        yield app


@pytest.fixture(autouse=True)
def reported(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The percentages that a task reports, in order; nothing reaches a ledger."""
    percentages: list[float] = []
    monkeypatch.setattr(DatabaseAwareTask, "update_progress", lambda *seen: percentages.append(seen[1]))
    monkeypatch.setattr(DatabaseAwareTask, "raise_if_cancelled", lambda _: None)
    monkeypatch.delenv("LEDGERQ_DOCUMENTS", raising=False)
    monkeypatch.delenv("LEDGERQ_FETCH_ALLOW_PRIVATE", raising=False)
    return percentages


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    documents = tmp_path / "documents"
    documents.mkdir()
    monkeypatch.setenv("LEDGERQ_DOCUMENTS", str(documents))
    return documents


def pdf_of(texts: list[str], password: str | None = None) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1, encrypt=StandardEncryption(password) if password else None)
    for text in texts:
        canvas.drawString(50, 800, text)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def test_the_tasks_have_the_names_that_users_submit(app: Celery):
    names = {name for name in app.tasks if name.startswith("clients.celery.example_tasks.")}
    assert names == {f"clients.celery.example_tasks.{name}" for name in example_tasks.__all__}


def test_the_users_example_processes_fifteen_pages(reported: list[float]):
    result = example_tasks.process_document.run("doc-123", {"format": "pdf", "quality": "high"})
    assert result["document_id"] == "doc-123"
    assert result["status"] == "success"
    assert result["pages_processed"] == 15
    assert result["processing_time"] > 0
    assert result["title"] == "Fifteen Short Lessons about Task Queues"
    assert [page["page"] for page in result["pages"]] == list(range(1, 16))
    assert all(page["words"] > 20 and 0 < page["ink_coverage"] < 0.2 for page in result["pages"])


def test_progress_is_reported_for_every_page_and_ends_at_one_hundred(reported: list[float]):
    example_tasks.process_document.run("doc-123")
    assert reported == sorted(reported)
    assert reported[0] == 0
    assert reported[-1] == 100
    assert len(set(reported)) == 16


@pytest.mark.parametrize("document_id", ["doc-123", "doc-123.pdf", "notes-1", "notes-1.txt"])
@pytest.mark.parametrize("quality", ["low", "medium", "high"])
@pytest.mark.parametrize("wanted", ["text", "pdf"])
def test_every_sample_can_be_processed_in_every_way(document_id: str, wanted: str, quality: str):
    result = example_tasks.process_document.run(document_id, {"format": wanted, "quality": quality})
    assert result["pages_processed"] == len(result["pages"]) == (15 if "doc" in document_id else 2)
    assert result["truncated"] is False
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_text_of_a_pdf_is_extracted():
    result = example_tasks.process_document.run("doc-123", {"format": "text"})
    assert "Lesson 1: Why a queue" in result["pages"][0]["text"]
    assert "Page 15 of 15" in result["pages"][14]["text"]


def test_low_quality_keeps_only_the_beginning_of_a_text(folder: Path):
    (folder / "long.txt").write_text("x" * 1000)
    page = example_tasks.process_document.run("long", {"quality": "low"})["pages"][0]
    assert (page["characters"], len(page["text"])) == (1000, 500)


def test_thumbnails_grow_with_the_quality():
    heights = []
    for quality in ("low", "medium", "high"):
        result = example_tasks.process_document.run("doc-123", {"format": "png", "quality": quality})
        thumbnail = result["pages"][0]
        image = Image.open(io.BytesIO(base64.b64decode(thumbnail["base64"])))
        assert image.size == (thumbnail["width"], thumbnail["height"])
        assert len(json.dumps(result)) < MIB
        heights.append(image.height)
    assert heights == sorted(set(heights))


def test_a_result_stays_below_one_mebibyte_and_says_what_is_missing(folder: Path):
    (folder / "huge.txt").write_text("汉字 🎉 text\n" * 300_000, encoding="utf-8")
    result = example_tasks.process_document.run("huge")
    assert result["truncated"] is True
    assert result["pages_processed"] == 5001
    assert 0 < len(result["pages"]) < 5001
    assert len(json.dumps(result)) < MIB


def test_a_cancelled_task_stops_between_two_pages(monkeypatch: pytest.MonkeyPatch, reported: list[float]):
    class CancelledError(Exception):
        pass

    def cancelled_after_three_pages(self: DatabaseAwareTask) -> None:
        if len(reported) == 4:
            raise CancelledError

    monkeypatch.setattr(DatabaseAwareTask, "raise_if_cancelled", cancelled_after_three_pages)
    with pytest.raises(CancelledError):
        example_tasks.process_document.run("doc-123")
    assert len(reported) == 4


def test_an_unknown_document_says_where_it_was_looked_for(folder: Path):
    with pytest.raises(errors.DocumentNotFound, match=r"no document 'doc-404' in .*documents .*doc-404\.pdf"):
        example_tasks.process_document.run("doc-404")


def test_a_missing_folder_names_the_setting(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEDGERQ_DOCUMENTS", str(folder / "absent"))
    with pytest.raises(errors.DocumentNotFound, match="LEDGERQ_DOCUMENTS"):
        example_tasks.process_document.run("doc-123")


def test_an_empty_setting_means_the_samples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEDGERQ_DOCUMENTS", "")
    assert example_tasks.process_document.run("doc-123")["pages_processed"] == 15


def test_a_document_in_the_own_folder_is_found_whatever_the_case_of_its_suffix(folder: Path):
    (folder / "报告-1.PDF").write_bytes(pdf_of(["one", "two"]))
    assert example_tasks.process_document.run("报告-1")["pages_processed"] == 2


@pytest.mark.parametrize(
    "content", [b"", b"%PDF-1.4 junk", b"text", pdf_of(["cut"])[:200]], ids=["empty", "junk", "text", "cut"]
)
def test_a_broken_pdf_is_named_as_such(folder: Path, content: bytes):
    (folder / "broken.pdf").write_bytes(content)
    with pytest.raises(errors.BrokenDocument, match=r"broken\.pdf is not a readable PDF"):
        example_tasks.process_document.run("broken")


def test_an_encrypted_pdf_asks_for_one_without_a_password(folder: Path):
    (folder / "secret.pdf").write_bytes(pdf_of(["hidden"], password="open sesame"))
    with pytest.raises(errors.EncryptedDocument, match="without a password"):
        example_tasks.process_document.run("secret")


@pytest.mark.parametrize("content", [b"\xff\xfa\x00", b"caf\xe9"])
def test_a_text_in_an_unknown_encoding_is_refused(folder: Path, content: bytes):
    (folder / "odd.txt").write_bytes(content)
    with pytest.raises(errors.BrokenDocument, match="UTF-8"):
        example_tasks.process_document.run("odd")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"format": "docx"}, "format 'docx'"),
        ({"quality": "ultra"}, "quality 'ultra'"),
        ({"format": None}, "format None"),
        ({"format": ["pdf"]}, r"format \['pdf'\]"),
        ({"colour": "red"}, "option 'colour'"),
        ("pdf", "must be an object"),
    ],
)
def test_options_that_are_not_known_are_named(options: object, named: str):
    with pytest.raises(errors.InvalidOptions, match=named):
        example_tasks.process_document.run("doc-123", options)


def test_a_text_has_no_thumbnails():
    with pytest.raises(errors.UnsupportedDocument, match="use format 'text' or 'pdf'"):
        example_tasks.process_document.run("notes-1", {"format": "png"})


def test_words_are_counted_whatever_their_case(folder: Path):
    (folder / "words.txt").write_text("Queue task queue. Don't QUEUE; 任务 task")
    result = example_tasks.word_count.run("words", top=2)
    assert result["words"] == 7
    assert result["distinct_words"] == 4
    assert result["most_common"] == [{"word": "queue", "count": 3}, {"word": "task", "count": 2}]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake2b", "md5"])
def test_a_checksum_is_that_of_the_whole_file(folder: Path, algorithm: str, reported: list[float]):
    content = bytes(range(256)) * 10_000
    (folder / "data.pdf").write_bytes(content)
    result = example_tasks.checksum_file.run("data", algorithm)
    assert result["digest"] == hashlib.new(algorithm, content).hexdigest()
    assert result["bytes"] == len(content)
    assert reported == sorted(reported)
    assert reported[-1] == 100


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(errors.InvalidOptions, match="crc32"):
        example_tasks.checksum_file.run("doc-123", "crc32")


@pytest.mark.parametrize("wanted", ["png", "jpeg", "webp"])
def test_an_image_is_scaled_in_proportion(wanted: str):
    result = example_tasks.resize_image.run("picture-1", width=120, format=wanted)
    image = Image.open(io.BytesIO(base64.b64decode(result["base64"])))
    assert image.size == (result["width"], result["height"]) == (120, 80)
    assert image.format == wanted.upper()


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"width": 0}, errors.InvalidOptions),
        ({"width": 100_000}, errors.InvalidOptions),
        ({"width": 10, "format": "tiff"}, errors.InvalidOptions),
    ],
)
def test_an_image_of_impossible_size_or_format_is_refused(parameters: dict, error: type[Exception]):
    with pytest.raises(error):
        example_tasks.resize_image.run("picture-1", **parameters)


def test_an_image_that_is_none_is_refused(folder: Path):
    (folder / "fake.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    with pytest.raises(errors.BrokenDocument, match=r"fake\.png"):
        example_tasks.resize_image.run("fake", width=10)


def test_an_image_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(folder: Path):
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    with pytest.raises(errors.DocumentTooLarge):
        example_tasks.resize_image.run("bomb", width=10)


def test_a_task_fails_with_the_message_asked_for():
    with pytest.raises(ValueError, match="as ordered"):
        example_tasks.fail_on_purpose.run("as ordered")


def test_a_flaky_task_succeeds_after_its_failures():
    result = example_tasks.flaky.apply(kwargs={"failures": 2})
    assert result.get() == {"status": "success", "tries": 3}


def test_a_flaky_task_waits_longer_before_every_try():
    task = example_tasks.flaky
    assert (task.retry_backoff, task.retry_jitter, task.max_retries) == (1, False, 10)


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(errors.DocumentNotFound("not there")))  # noqa: S301
    assert (type(error), str(error)) == (errors.DocumentNotFound, "not there")
