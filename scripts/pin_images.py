"""Pin other projects' images by digest: ``make pin-images``, if a registry answers; ``--check`` says which are not
pinned.

A tag may be moved to other content, a digest cannot. The tag stays in front of the digest, for people, as in
``postgres:17-bookworm@sha256:…``. The digest is that of the index over all platforms, so every machine finds its own
image.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Files that name other projects' images.
FILES = (
    "services/Dockerfile",
    "tests/load/Dockerfile",
    "deploy/compose/compose.yaml",
    "deploy/compose/.env.example",
    "deploy/helm/ledgerq/values.yaml",
    "tests/compose/conftest.py",
)
_DIGEST = r"sha256:[0-9a-f]{64}"
_IMAGE = re.compile(
    rf"(?<![\w./])(?<!\w-)((?:python|postgres|redis|prom/prometheus|grafana/grafana):v?\d[\w.-]*)(?:@{_DIGEST})?(?![\w.@-])"
)
#: The chart's form: image, tag and digest are keys of their own, each below its comment.
_KEYS = re.compile(
    rf'(    image: (\S+)\n(?:    #.*\n)*    tag: "([^"]+)"\n(?:    #.*\n)*    digest: )"(?:{_DIGEST})?"', re.MULTILINE
)

Resolve = Callable[[str], str]


def pinned(text: str, digest_of: Resolve) -> str:
    """The text, in which every image of other projects is followed by its digest."""
    text = _IMAGE.sub(lambda found: f"{found[1]}@{digest_of(found[1])}", text)
    return _KEYS.sub(lambda found: f'{found[1]}"{digest_of(f"{found[2]}:{found[3]}")}"', text)


def unpinned(text: str) -> list[str]:
    """Other projects' images that have no digest."""
    found = [one[1] for one in _IMAGE.finditer(text) if "@" not in one[0]]
    return found + [f"{one[2]}:{one[3]}" for one in _KEYS.finditer(text) if one[0].endswith('""')]


def from_registry(image: str) -> str:
    """The digest that the image's registry now has for its tag."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    digest = done.stdout.strip()
    if done.returncode or not re.fullmatch(_DIGEST, digest):
        reason = (done.stderr.strip() or "it names no digest").splitlines()[-1]
        raise SystemExit(f"pin-images: the digest of {image} cannot be learned here: {reason}")
    return digest


def main() -> None:
    """Pin all images, or none if one digest cannot be found out."""
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in FILES}
    if "--check" in sys.argv[1:]:
        left = sorted({image for text in texts.values() for image in unpinned(text)})
        raise SystemExit(f"pin-images: without a digest: {', '.join(left)}" if left else 0)
    known: dict[str, str] = {}

    def digest_of(image: str) -> str:
        if image not in known:
            known[image] = from_registry(image)
        return known[image]

    fresh = {path: pinned(text, digest_of) for path, text in texts.items()}
    for path, text in fresh.items():
        (ROOT / path).write_text(text, encoding="utf-8")
    for image, digest in sorted(known.items()):
        print(f"{image}@{digest}")


if __name__ == "__main__":
    main()
