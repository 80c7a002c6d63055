"""Which store a place is in."""

from pathlib import Path

from storage.store import LocalStore, Store


def open_store(root: str | Path) -> Store:
    """The store at a folder path or an `s3://bucket/prefix` URL."""
    if str(root).startswith("s3://"):
        from storage.s3 import S3Store  # a local workspace does not wait for boto3

        return S3Store(str(root))
    return LocalStore(root)
