"""Images for a chat server as links that expire, instead of inside the request."""

import hashlib

from storage.s3 import S3Store


class ImageLinks:
    """Puts an image under an S3 prefix, once however often it is asked about, and gives a presigned URL of it.

    Called from several threads. Raises FatalError where S3 refuses.
    """

    def __init__(self, prefix: str, expires_s: int) -> None:
        self._store = S3Store(prefix)
        self._expires_s = expires_s

    def __call__(self, data: bytes, kind: str) -> str:
        """The link to a picture file; `kind` follows `image/` in its media type."""
        key = f"sent/{hashlib.sha256(data).hexdigest()}.{kind}"
        self._store.write(key, data)
        return self._store.share(key, self._expires_s)
