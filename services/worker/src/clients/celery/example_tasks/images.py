"""Resizing images with Pillow."""

import base64
import hashlib
import io
import warnings
from typing import Any, Literal

from PIL import Image, UnidentifiedImageError

from clients.celery.example_tasks.errors import BrokenDocument, DocumentTooLarge, InvalidOptions

ImageFormat = Literal["png", "jpeg", "webp"]

MAX_SIDE = 2000  # pixels of the result
MAX_PIXELS = 50_000_000  # of the source: a small file can unpack to gigabytes
MAX_ENCODED_BYTES = 700 * 1024  # base64 adds a third, and results may have 1 MiB


def resized(content: bytes, name: str, width: int, height: int | None, wanted: ImageFormat) -> dict[str, Any]:
    """The image scaled to `width` by `height` pixels; without a height the proportions are kept."""
    image = _decoded(content, name)
    size = (width, height or max(1, round(image.height * width / image.width)))
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise InvalidOptions(f"The result would be {size[0]} x {size[1]} pixels: use sides from 1 to {MAX_SIDE}.")
    scaled = image.resize(size, Image.Resampling.LANCZOS)
    encoded = _encoded(scaled, wanted)
    return {
        "original_width": image.width,
        "original_height": image.height,
        "width": scaled.width,
        "height": scaled.height,
        "media_type": f"image/{wanted}",
        "bytes": len(encoded),
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "base64": base64.b64encode(encoded).decode(),
    }


def _decoded(content: bytes, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise DocumentTooLarge(f"{name} has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}.")
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except Image.DecompressionBombError as error:
        raise DocumentTooLarge(f"{name} has more than {MAX_PIXELS:,} pixels.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise BrokenDocument(f"{name} is not a readable image: {error}. Replace the file.") from error


def _encoded(image: Image.Image, wanted: ImageFormat) -> bytes:
    if wanted not in ("png", "jpeg", "webp"):
        raise InvalidOptions(f"Unknown format {wanted!r}: use one of png, jpeg, webp.")
    buffer = io.BytesIO()
    (image.convert("RGB") if wanted == "jpeg" else image).save(buffer, wanted)
    if buffer.tell() > MAX_ENCODED_BYTES:
        raise InvalidOptions(
            f"The result has {buffer.tell():,} bytes, more than {MAX_ENCODED_BYTES:,}: ask for a smaller "
            "width or for jpeg."
        )
    return buffer.getvalue()
