"""The exported form of an image: PNG on both sides of a pair, without metadata but for the mark of an edit.

Were originals JPEG and edits PNG, a guard could tell them apart without looking. The mark does not reach a model
either, since it is no part of the pixels.
"""

import io

from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from storage.errors import FatalError

EDITED_BY_AI = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's digital source type for a photograph in which a model repainted a part (cv.iptc.org/newscodes)."""

_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{EDITED_BY_AI}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
_XMP_KEY = "XML:com.adobe.xmp"  # where the XMP specification (part 3) puts a packet in a PNG


def decode(data: bytes, blob: str) -> Pillow.Image:
    """An 8-bit RGB image without metadata; raises FatalError when the stored blob does not decode."""
    try:
        with Pillow.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise FatalError(
            f"Blob {blob} does not decode any more ({error}). Restore it, or delete it and tables/ and build again."
        ) from error
    image.info = {}  # Pillow would write a colour profile or comment found here
    return image


def png_bytes(image: Pillow.Image, *, edited: bool = False) -> bytes:
    """A PNG with the chunks that pixels need and, for an edited one, an XMP packet that says so.

    Equal pixels give equal bytes for one Pillow release.
    """
    mark = PngInfo()
    if edited:
        mark.add_itxt(_XMP_KEY, _XMP)
    sink = io.BytesIO()
    image.save(sink, format="PNG", compress_level=6, pnginfo=mark)
    return sink.getvalue()


def is_marked(image: Pillow.Image) -> bool:
    """Whether an opened image says that a model edited it."""
    packet = image.info.get(_XMP_KEY) or image.info.get("xmp") or ""
    return EDITED_BY_AI in (packet.decode(errors="replace") if isinstance(packet, bytes) else packet)
