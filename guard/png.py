"""The exported form of an image: one codec and no metadata on both sides of a pair.

Were originals JPEG and edits PNG, a guard could tell them apart without looking.
"""

import io

from PIL import Image as Pillow

from storage.errors import FatalError


def decode(data: bytes, blob: str) -> Pillow.Image:
    """An 8-bit RGB image without metadata; raises FatalError when the stored blob does not decode."""
    try:
        with Pillow.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise FatalError(f"Blob {blob} does not decode any more ({error}). Restore it, or build again.") from error
    image.info = {}  # Pillow would write a colour profile or comment found here
    return image


def png_bytes(image: Pillow.Image) -> bytes:
    """A PNG with the chunks that pixels need and no other. Equal pixels give equal bytes for one Pillow release."""
    sink = io.BytesIO()
    image.save(sink, format="PNG", compress_level=6)
    return sink.getvalue()
