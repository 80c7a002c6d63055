"""The way into a Label Studio server: one client factory, and its errors in the project's own terms.

The SDK is imported inside the functions: its import takes seconds, which every command would pay.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import stamina

from models.server_faults import is_trouble
from storage.errors import FatalError, TransientError
from storage.transport import check_trusted, tls

if TYPE_CHECKING:
    from typing import Any, Protocol

    from label_studio_sdk import LabelStudio

OLDEST_SERVER = (1, 20)
_NOT_THEIRS = (TypeError, AttributeError, ValueError, RecursionError)  # of the SDK, for JSON of another shape
_ATTEMPTS, _WAIT_S = 5, 2.0
_REASON_LENGTH = 400
_TAG = re.compile(r"<[^>]*>")


def connect(url: str, token: str, *, timeout_s: float = 120.0) -> "LabelStudio":
    """A client that is known to work: the server answers, is new enough and accepts the token.

    The client never retries by itself, because a repeated import doubles its tasks.
    Raises TransientError when nobody answers or the server is not ready, FatalError when it is too old or the token
    or the URL is wrong; each with the way out.
    """
    from label_studio_sdk import LabelStudio
    from label_studio_sdk.core.api_error import ApiError

    try:
        # Inside: the SDK refuses a personal access token that has expired at once.
        client = LabelStudio(base_url=url, api_key=token, max_retries=0, httpx_client=http_client(url, timeout_s))
        release = str(client.versions.get().release or "0")
        client.users.whoami()
    except httpx.InvalidURL as error:
        raise FatalError(f"{url} is no URL of a server ({error}). Correct annotation.url.") from error
    except httpx.HTTPError as error:
        check_trusted(error, url)
        raise TransientError(f"No Label Studio answers at {url} ({error}). Start it, or correct the URL.") from error
    except ApiError as error:
        if error.status_code in (401, 403):
            raise FatalError(
                f"Label Studio at {url} refuses the token: it is wrong or has expired. Copy one under Account & "
                "Settings there, or for a local server the one in label-studio/server.json in the workspace."
            ) from error
        if _may_pass(error) and error.status_code != 200:
            raise TransientError(f"The server at {url} is not ready ({_reason(error)}).") from error
        raise FatalError(f"{url} does not answer like Label Studio ({_reason(error)}). Correct the URL.") from error
    except _NOT_THEIRS as error:
        raise FatalError(
            f"{url} does not answer like Label Studio ({type(error).__name__}). Correct the URL."
        ) from error
    if version_of(release) < OLDEST_SERVER:
        wanted = ".".join(map(str, OLDEST_SERVER))
        raise FatalError(f"Label Studio at {url} is version {release}; {wanted} or newer is needed. Upgrade it.")
    return client


def http_client(url: str, timeout_s: float) -> httpx.Client:
    """An HTTP client for `url`."""
    return httpx.Client(base_url=url, timeout=timeout_s, follow_redirects=True, verify=tls())


def version_of(release: str) -> tuple[int, ...]:
    """`1.23.2.post1` -> (1, 23, 2): the leading numeric parts."""
    parts: list[int] = []
    for part in release.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def patiently() -> Iterable[stamina.Attempt]:
    """`for attempt in patiently(): with attempt: ...` repeats after a TransientError, with growing pauses.

    Only for work that may be done twice, or that looks again at what is there before it acts.
    """
    return stamina.retry_context(on=TransientError, attempts=_ATTEMPTS, timeout=None, wait_initial=_WAIT_S)


@contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Turn the SDK's errors into ours: TransientError where a repeated call may work, else FatalError.

    `doing` completes the sentence "Label Studio failed while ...".
    """
    from label_studio_sdk.core.api_error import ApiError

    try:
        yield
    except httpx.HTTPError as error:
        check_trusted(error, "Label Studio")
        raise TransientError(f"Label Studio did not answer while {doing} ({type(error).__name__}: {error}).") from error
    except ApiError as error:
        sentence = f"Label Studio failed while {doing}: {_reason(error)}."
        if _may_pass(error):
            raise TransientError(sentence) from error
        raise FatalError(sentence) from error
    except (ValueError, RecursionError) as error:
        raise TransientError(f"Label Studio's answer is none of its own while {doing} ({error}).") from error


def create_once(client: "LabelStudio", task_id: int, unique_id: str, doing: str, **annotation: "Any") -> bool:
    """Create an annotation, repeated after trouble; False when the server has one with this `unique_id` already.

    It has one after a crash, and after a call that arrived and whose answer was lost.
    """
    from label_studio_sdk.core.api_error import ApiError

    for attempt in patiently():
        with attempt, plain_errors(doing):
            try:
                client.annotations.create(id=task_id, unique_id=unique_id, **annotation)
            except ApiError as error:
                if error.status_code != 409:
                    raise
                return False
    return True


def _may_pass(error: "ApiErrorLike") -> bool:
    """Whether the same call may work later. A 200 that is an error is a proxy's page, or half an answer."""
    return error.status_code in (None, 200) or is_trouble(error.status_code)


def _reason(error: "ApiErrorLike") -> str:
    body = error.body
    detail = body.get("detail") if isinstance(body, dict) else body
    more = body.get("validation_errors") if isinstance(body, dict) else None
    said = f"{error.status_code} {detail}" + (f" {more}" if more else "")
    return " ".join(_TAG.sub(" ", said).split())[:_REASON_LENGTH]  # a proxy answers with a page


if TYPE_CHECKING:

    class ApiErrorLike(Protocol):
        """What we read of the SDK's error."""

        status_code: int | None
        body: Any
