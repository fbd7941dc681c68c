"""Draw the pictures of the documents (docs/drawings) as SVG, in every language; ``--check``: are they up to date?

A sequence is written below as its participants and its steps. Nothing else is needed to see the pictures: no script, no
font, no network.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs/drawings"
LANGUAGES = ("en", "zh")
INK, PALE, ACCENT = "#37474f", "#cfd8dc", "#00796b"
_LINE = f'stroke="{ACCENT}" stroke-width="2" marker-end="url(#tip)"'
_WIDTH, _STEP, _TOP = 220, 46, 74

#: (from, to, in English, in Chinese); from == to: a note; a dash before the English text: an answer.
Step = tuple[int, int, str, str]
Sequence = tuple[list[tuple[str, str]], list[Step]]

SEQUENCES: dict[str, Sequence] = {
    "ticket": (
        [("client", "客户端"), ("API", "API"), ("PostgreSQL", "PostgreSQL"), ("Redis", "Redis"), ("slot", "槽位")],
        [
            (0, 1, "POST /tasks/submit", "POST /tasks/submit"),
            (1, 2, "task, ready, event; COMMIT", "task、ready、事件；COMMIT"),
            (1, 0, "-202: it is accepted", "-202：已接受"),
            (1, 3, "ticket: “queue Q has work”", "票：“队列 Q 有活”"),
            (3, 4, "ticket, acknowledged at once", "取票，立即确认"),
            (4, 2, "claim the next tasks of Q", "认领 Q 的下一批任务"),
            (3, 3, "lost? The sweep sends another", "票丢了？清扫会补发"),
        ],
    ),
    "claim": (
        [("slot 1", "槽位 1"), ("PostgreSQL", "PostgreSQL"), ("maintenance", "维护进程"), ("slot 2", "槽位 2")],
        [
            (0, 1, "claim 7 = {A, B, C}", "认领 7 = {A, B, C}"),
            (0, 1, "A ended → claim 7 = {B, C}", "A 结束 → 认领 7 = {B, C}"),
            (0, 0, "slot 1 freezes", "槽位 1 冻结"),
            (2, 1, "take back B and C: claim 7 is gone", "收回 B、C：认领 7 消失"),
            (3, 1, "claim 8 = {B, C}", "认领 8 = {B, C}"),
            (0, 1, "late: B ended under claim 7", "迟到：B 在认领 7 下结束"),
            (1, 0, "-refused: late_write_refused", "-拒绝：late_write_refused"),
            (3, 1, "B ended → recorded once", "B 结束 → 只记录一次"),
        ],
    ),
    "lease": (
        [
            ("worker (parent)", "worker（父进程）"),
            ("lease agent", "租约代理"),
            ("PostgreSQL", "PostgreSQL"),
            ("maintenance", "维护进程"),
        ],
        [
            (1, 2, "register the node", "登记节点"),
            (1, 0, "alive, not stopped?", "活着吗？没有停住吗？"),
            (1, 2, "renew the lease: 10 s from now", "续约：从现在起 10 秒"),
            (0, 0, "the machine is lost", "机器丢失"),
            (3, 2, "is any lease over?", "有租约到期吗？"),
            (2, 3, "-yes, this node’s", "-有，就是这个节点"),
            (3, 2, "its tasks wait again; the running one is charged", "任务回到等待；运行中的记一次死亡"),
        ],
    ),
    "leg": (
        [("slot", "槽位"), ("your code", "你的代码"), ("PostgreSQL", "PostgreSQL"), ("Redis", "Redis")],
        [
            (0, 0, "does the node still have its lease?", "节点的租约还在吗？"),
            (0, 1, "call the function", "调用函数"),
            (1, 0, "-update_progress, log", "-update_progress、log"),
            (0, 2, "progress (throttled)", "进度（限频）"),
            (1, 0, "-return, retry or exception", "-返回、重试或异常"),
            (0, 0, "chain step, callback, result: kept back", "链的下一步、回调、结果：先留着"),
            (0, 2, "end + what follows, if the claim still lists it", "结束与后续，一并写入，前提是认领仍列着它"),
            (0, 3, "then the result, for AsyncResult", "然后才把结果发给 AsyncResult"),
        ],
    ),
}


def sequence(name: str, language: str) -> str:
    """A sequence diagram."""
    people, steps = SEQUENCES[name]
    which = LANGUAGES.index(language)
    height = _TOP + _STEP * len(steps) + 20
    centres = [_WIDTH // 2 + _WIDTH * number for number in range(len(people))]
    parts = []
    for centre, person in zip(centres, people, strict=True):
        parts.append(f'<line x1="{centre}" y1="48" x2="{centre}" y2="{height - 12}" stroke="{PALE}" stroke-width="2"/>')
        parts.append(_box(centre - 76, 14, 152, 34, person[which]))
    for number, step in enumerate(steps):
        parts.append(_step(step, which, centres, _TOP + _STEP * number + 18))
    return _svg(_WIDTH * len(people), height, parts)


def _step(step: Step, which: int, centres: list[int], y: int) -> str:
    start, end, *texts = step
    is_answer = texts[which].startswith("-")
    text = texts[which].removeprefix("-")
    if start == end:
        width = _length(text) + 24
        x = min(max(centres[start] - width // 2, 4), centres[-1] + _WIDTH // 2 - width - 4)
        return (
            f'<rect x="{x}" y="{y - 18}" width="{width}" height="28" rx="4" fill="#fff8e1" stroke="#ffb300"/>'
            + _text(x + width // 2, y + 1, text)
        )
    x, to = centres[start], centres[end]
    middle = min(max((x + to) // 2, _length(text) // 2 + 6), centres[-1] + _WIDTH // 2 - _length(text) // 2 - 6)
    dash = ' stroke-dasharray="5 4"' if is_answer else ""
    tip = to - 2 if to > x else to + 2
    return f'<line x1="{x}" y1="{y}" x2="{tip}" y2="{y}" {_LINE}{dash}/>' + _text(middle, y - 7, text, halo=True)


def home(language: str) -> str:
    """What LedgerQ is made of."""
    words = {
        "en": "your programs|API|workers|your tasks|PostgreSQL: the ledger|every task, its history, its result|"
        "Redis: wake-ups|maintenance|monitor, Flower|submit, follow|commit, then 202|claim, record|ticket",
        "zh": "你的程序|API|worker|你的任务|PostgreSQL：账本|每个任务、历史和结果|Redis：唤醒|维护进程|监控、Flower|"
        "提交、跟踪|先提交，再答 202|认领、记录|票",
    }[language].split("|")
    program, api, workers, tasks, ledger, kept, redis, upkeep, monitor, submit, commit, claim, ticket = words
    parts = [
        _box(20, 60, 150, 50, program), _box(270, 60, 150, 50, api), _box(640, 60, 190, 50, f"{workers} · {tasks}"),
        f'<rect x="250" y="190" width="400" height="70" rx="8" fill="{ACCENT}"/>',
        _text(450, 220, ledger, fill="#ffffff", size=16), _text(450, 243, kept, fill="#ffffff"),
        _box(455, 60, 150, 50, redis), _box(20, 200, 150, 50, upkeep), _box(700, 200, 150, 50, monitor),
        _arrow(170, 85, 268, 85), _text(219, 76, submit),
        _arrow(345, 110, 345, 188), _text(345, 150, commit, halo=True),
        _arrow(735, 110, 600, 188), _text(668, 150, claim, halo=True),
        _arrow(420, 85, 453, 85), _arrow(605, 85, 638, 85), _text(530, 50, ticket),
        _arrow(170, 225, 248, 225), _arrow(650, 225, 698, 225),
    ]  # fmt: skip
    return _svg(870, 290, parts)


def states(language: str) -> str:
    """The six states."""
    words = {
        "en": "waits|runs|done|failed|cancelled|waits for its next attempt|begins|returns|raises|cancel, expiry|retry|"
        "worker died|retried by a person",
        "zh": "等待|运行|完成|失败|已取消|等待下一次尝试|开始|返回|异常|取消、过期|重试|worker 死亡|人工重试",
    }[language].split("|")
    waits, runs, done, failed, cancelled, again, begins, returns, raises, cancel, retry, died, person = words

    def state(x: int, y: int, name: str, below: str) -> str:
        return _box(x, y, 150, 40, name, size=15) + _text(x + 75, y + 56, below, fill="#607d8b", size=12)

    parts = [
        state(20, 110, "PENDING", waits), state(330, 110, "STARTED", runs), state(640, 20, "SUCCESS", done),
        state(640, 110, "FAILURE", failed), state(640, 210, "REVOKED", cancelled), state(330, 260, "RETRY", again),
        _arrow(170, 122, 328, 122), _text(249, 114, begins),
        _arrow(330, 140, 172, 140), _text(249, 156, died),
        _arrow(480, 118, 638, 45), _text(560, 72, returns, halo=True),
        _arrow(480, 130, 638, 130), _text(560, 124, raises, halo=True),
        _arrow(480, 142, 638, 224), _text(575, 180, cancel, halo=True),
        _arrow(380, 172, 380, 258), _text(375, 215, retry, halo=True),
        _arrow(430, 258, 430, 152), _text(437, 200, begins, halo=True),
        f'<path d="M715 110 C 700 -20, 120 -10, 95 108" fill="none" {_LINE} stroke-dasharray="5 4"/>',
        _text(330, 24, person, halo=True),
    ]  # fmt: skip
    return _svg(820, 335, parts)


def _length(text: str) -> int:
    return sum(13 if ord(letter) > 0x2E80 else 7 for letter in text)


def _text(x: int, y: int, text: str, *, fill: str = INK, size: int = 13, halo: bool = False) -> str:
    around = ' stroke="#ffffff" stroke-width="4" paint-order="stroke"' if halo else ""
    return f'<text x="{x}" y="{y}" fill="{fill}" font-size="{size}" text-anchor="middle"{around}>{escape(text)}</text>'


def _box(x: int, y: int, width: int, height: int, text: str, *, size: int = 14) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="#e0f2f1" stroke="{ACCENT}"/>' + _text(
        x + width // 2, y + height // 2 + 5, text, size=size
    )


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    return f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" {_LINE}/>'


def _svg(width: int, height: int, parts: list[str]) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    tip = '<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif">',
        f'<defs>{tip}<path d="M0 0L10 5L0 10z" fill="{ACCENT}"/></marker></defs>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *parts, "</svg>\n"])


def drawings() -> dict[str, str]:
    """Every picture by its file's name."""
    found = {}
    for language in LANGUAGES:
        ending = "svg" if language == LANGUAGES[0] else f"{language}.svg"
        found[f"home.{ending}"] = home(language)
        found[f"states.{ending}"] = states(language)
        for name in SEQUENCES:
            found[f"{name}.{ending}"] = sequence(name, language)
    return found


def main() -> int:
    """Write the pictures, or compare them (``--check``)."""
    is_check = sys.argv[1:] == ["--check"]
    FOLDER.mkdir(exist_ok=True)
    stale = []
    for name, text in drawings().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not is_check:
                path.write_text(text, encoding="utf-8")
    if is_check and stale:
        sys.stderr.write(f"Stale: {', '.join(stale)}. Run `make reference`.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
