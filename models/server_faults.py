"""Whose fault it is when a model server gives no usable answer: one rule for chat and for pictures.

- `Trouble`: of the moment. Nobody answers, 408, 409, 425, 429, 5xx, or a 200 that holds no answer (a proxy's page, an
  error, events, half of a JSON text). Tried again. What a server does not cure in all attempts is the row's fault only
  when it answers something else just then; otherwise the call ends, nothing is remembered, and the same command goes
  on.
- `Refusal`: any other 4xx. The row's fault when the server answers something else, the set-up's when it does not.

"Something else" is another row's request, or a probe: a request as small as can be, of the same kind.
"""

import os
from collections.abc import Mapping

from storage.errors import FatalError, SampleError

OF_ACCESS = (401, 403, 404, 405)  # statuses that may say nothing of the request itself
_RETRIED = frozenset({408, 409, 425, 429})  # and every 5xx
LONGEST_ASKED_S = 120.0  # a Retry-After beyond this is not waited for as told: a line says so
MAX_REPLY_BYTES = 64 << 20  # once decompressed


class Trouble(Exception):
    """This attempt failed in a way that another may cure. `code` is that of a row whose fault it turns out to be;
    `wait_s` what the server asked for."""

    def __init__(self, code: str, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.code, self.why, self.wait_s = code, why, wait_s


class Refusal(Exception):
    """The server takes no such request. `refused` is what the row is refused with, where the row is at fault."""

    def __init__(self, status: int, said: str, refused: SampleError) -> None:
        super().__init__(said)
        self.status, self.said, self.refused = status, said, refused


def is_trouble(status: int) -> bool:
    """Whether the same request may pass later."""
    return status in _RETRIED or status >= 500


def way_out(status: int) -> str:
    """What a person can do about a status that every request gets."""
    return _WAYS_OUT.get(status, "Check the address and the settings.")


_WAYS_OUT = {
    400: "Check the model's name and the settings, such as max_new_tokens.",
    401: "Check the key in the environment.",
    403: "Check what the key is allowed to do.",
    404: "Check the address (most end in /v1) and the model's name.",
}


class Key:
    """A server's key, read anew from its environment variable each time, so that no object holds it."""

    def __init__(self, variable: str | None, host: str) -> None:
        self._variable, self._host = variable, host

    def read(self) -> str:
        """The key; "" where none is named. Raises FatalError where the variable is empty, or no header can carry it."""
        if self._variable is None:
            return ""
        key = os.environ.get(self._variable, "").strip()
        if not key:
            raise FatalError(f"The model server {self._host} wants a key. Put it into {self._variable}.")
        if not (key.isascii() and key.isprintable()):  # httpx would quote it in its own error
            raise FatalError(f"The key in {self._variable} holds characters that no header can carry.")
        return key

    def headers(self) -> Mapping[str, str]:
        """What a request says of it."""
        key = self.read()
        return {"authorization": f"Bearer {key}"} if key else {}

    def hidden(self, text: str) -> str:
        """What a server says, without the key: some repeat it."""
        key = self.read()
        return text.replace(key, "***") if key else text
