"""The one form in which every guard sees a picture.

That is the picture's own file where it is a JPEG or PNG of 8-bit grey or RGB that stands upright; else its RGB pixels
as PNG. Exports hold such PNG files, and their task packs send them as they are.
"""

import functools
import io

from PIL import Image as Pillow

from storage.errors import SampleError
from storage.images import encode_png

_ORIENTATION = 0x0112  # of EXIF; 1 is upright


def picture(data: bytes) -> tuple[Pillow.Image, bytes]:
    """The RGB pixels of an encoded image, and the file that shows a guard these pixels.

    Raises SampleError `image_broken` for what does not decode.
    """
    import numpy as np

    try:
        with Pillow.open(io.BytesIO(data)) as opened:
            pixels = opened.convert("RGB")
            upright = opened.getexif().get(_ORIENTATION, 1) == 1
            own = opened.format in ("JPEG", "PNG") and opened.mode in ("RGB", "L") and upright
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise SampleError("image_broken", str(error)) from error
    return pixels, data if own and "transparency" not in opened.info else encode_png(np.asarray(pixels))


@functools.cache
def blank() -> bytes:
    """A grey picture, which shows nothing: what a guard says of it, it says of the policy alone."""
    sink = io.BytesIO()
    Pillow.new("RGB", (336, 336), (128, 128, 128)).save(sink, "PNG")
    return sink.getvalue()
