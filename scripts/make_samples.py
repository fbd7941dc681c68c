"""Make the sample documents that the example tasks find when no folder is set.

Run `python scripts/make_samples.py` after a change; the files are shipped with the worker. The same script
and the same versions of reportlab and Pillow always make the same bytes.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import cm
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Spacer

TITLE = "Fifteen Short Lessons about Task Queues"
TARGET = Path(__file__).parents[1] / "services/worker/src/clients/celery/example_tasks/samples"

LESSONS = {
    "Why a queue": (
        "A web request should end within a second. Work that takes longer belongs behind a queue: the "
        "caller gets an id at once, and a worker does the work when it has the time. The id is a "
        "promise, and the rest of these lessons is about keeping it."
    ),
    "Accepted means durable": (
        "Say yes only after the task is on a disk that survives a crash. A yes that lives in memory "
        "alone is a wish. The commit comes first, the answer second, and never the other way round."
    ),
    "One truth": (
        "If two systems know the state of a task, they will one day disagree, and nobody can say which "
        "of them is right. Keep the truth in one ledger and let everything else be a copy that may be "
        "lost."
    ),
    "At least once": (
        "A worker can die after the work is done and before it says so. Somebody must then run the task "
        "again. Write tasks so that a second run does no harm: charge a card by an idempotency key, "
        "write a file under a temporary name and rename it."
    ),
    "Recorded exactly once": (
        "Running twice cannot always be avoided. Recording twice can. Give every claim a number, and "
        "refuse the result of a claim that has been superseded."
    ),
    "Liveness, not age": (
        "How long may a task run? As long as it likes, while its worker is alive. A time-out that "
        "restarts slow tasks turns one slow task into two, and two into four."
    ),
    "Poison": (
        "Now and then a task kills the process that runs it. Run it again and it kills the next one. "
        "After a few deaths put it aside, keep its history, and let its neighbours pass."
    ),
    "Back-off": (
        "When a service is down, trying again at once keeps it down. Wait one second, then two, then "
        "four. Keep the time in the ledger, not in the memory of a worker that may be restarted "
        "meanwhile."
    ),
    "Progress": (
        "People forgive slowness and do not forgive silence. Report what is done in the units that the "
        "caller knows: pages, rows, files. A bar that moves is worth more than a faster bar that stands "
        "still."
    ),
    "Cancel": (
        "Cancelling is a fact to be written down, not a shout across the room. A process that was not "
        "listening must still find it later. Long work asks now and then whether it is still wanted."
    ),
    "Priorities": (
        "Two levels are enough for most systems: soon and later. With more levels, everything becomes "
        "urgent in time. Make sure that the lowest level moves at all."
    ),
    "Back-pressure": (
        "A queue hides overload until it is too late. Watch the age of the oldest task rather than the "
        "length of the queue: age is what users feel."
    ),
    "History": (
        "Keep every change of a task with its time, its attempt and who made it. The question what "
        "happened to task so-and-so last night will be asked, and it will be asked by somebody "
        "important."
    ),
    "Errors": (
        "An error message has three parts: what was wrong, where, and what to do about it. Keep the "
        "type, the message and the traceback. The first is for programs, the second for people, the "
        "third for you."
    ),
    "The quiet queue": (
        "The best queue is one that nobody talks about. It is dull, it is exact, and in the morning all "
        "of its tasks are where they should be."
    ),
}

NOTES = """\
Notes on trying the queue

Submit process_document with document_id notes-1 to have this text read. It has two pages, because a form feed
starts a new page, and a new page also starts after sixty lines.

The worker reports progress after each page. A task that is cancelled stops at the next page.
\f
Second page

Words to count: queue, task, worker, queue, ledger, task, queue.
中文也可以:任务队列。
"""


def make_pdf(path: Path) -> None:
    """Fifteen A4 pages of readable text, one lesson a page."""
    styles = getSampleStyleSheet()
    body = ParagraphStyle("Lesson", parent=styles["BodyText"], fontSize=13, leading=19, spaceAfter=10)
    story = []
    for number, (heading, text) in enumerate(LESSONS.items(), start=1):
        story += [
            Paragraph(TITLE, styles["Italic"]),
            Spacer(1, cm),
            Paragraph(f"Lesson {number}: {heading}", styles["Heading1"]),
            Paragraph(text, body),
            Spacer(1, cm),
            Paragraph(f"Page {number} of {len(LESSONS)}", styles["Italic"]),
            PageBreak(),
        ]
    document = SimpleDocTemplate(str(path), pagesize=A4, title=TITLE, author="LedgerQ", subject="Sample", invariant=1)
    document.build(story[:-1])


def make_image(path: Path) -> None:
    """A small landscape: sky, hills and a sun."""
    width, height = 480, 320
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for row in range(height):
        draw.line([(0, row), (width, row)], fill=(90 + row // 3, 150 + row // 4, 235 - row // 6))
    draw.ellipse([350, 40, 410, 100], fill=(255, 221, 120))
    draw.polygon([(0, 240), (120, 140), (260, 250), (0, 320)], fill=(72, 120, 88))
    draw.polygon([(140, 320), (330, 170), (480, 270), (480, 320)], fill=(50, 96, 70))
    draw.rectangle([0, 290, width, height], fill=(40, 78, 58))
    image.save(path, "PNG", optimize=True)


def main(target: Path = TARGET) -> None:
    """Write all samples into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    make_pdf(target / "doc-123.pdf")
    (target / "notes-1.txt").write_text(NOTES, encoding="utf-8")
    make_image(target / "picture-1.png")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
