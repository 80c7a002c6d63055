"""The error tree: what an error means for the row, the shard and the build.

- `SampleError`: this row is unusable. It goes to quarantine under a stable code; the build goes on.
- `TransientError`: the same call may succeed later. The caller retries it.
- `FatalError`: nothing can go on until a person acts. The message says what to do.
"""

from storage.reasons import catalogued


def install(extra: str) -> str:
    """The command that installs an optional part; guardset is on no package index."""
    return f"pip install -e '.[{extra}]' in guardset's own folder"


class GuardsetError(Exception):
    """Root of every error that guardset raises on purpose."""


class SampleError(GuardsetError):
    """One row is refused.

    `code` is a reason of the catalogue in `storage/reasons.py`, and no other; `detail` is a sentence for people.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = catalogued(code)
        self.detail = detail


class TransientError(GuardsetError):
    """A call failed in a way that a retry may cure: a time-out, a dropped connection, a busy server."""


class FatalError(GuardsetError):
    """The build cannot go on. The message is a plain sentence with the way out."""


class DeviceLostError(FatalError):
    """The accelerator is of no more use to this process; a new one may find it well."""
