"""Replies of a call that failed, kept until they are asked for again.

The quarantine boundary halves a failed batch until the bad row stands alone. Each half is answered from here, so
nothing is paid or computed twice.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from models.chat import ChatReply
from storage.errors import SampleError, TransientError

_KEPT = 8192  # replies: a few MB of text


class KeptReplies:
    """By request; safe for several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, ChatReply | SampleError] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, request: Hashable) -> ChatReply | SampleError | None:
        """What an earlier call found out about a request."""
        return self._kept.get(request)

    def settle(self, outcomes: Sequence[tuple[Hashable, ChatReply | Exception]]) -> list[ChatReply]:
        """A call's replies, in order.

        Raises the first TransientError, else the first error, and then keeps the replies and the SampleErrors, except
        of a request that stands alone: nobody asks it again.
        """
        errors = [outcome for _, outcome in outcomes if isinstance(outcome, Exception)]
        with self._lock:
            for request, outcome in outcomes:
                if errors and len(outcomes) > 1 and isinstance(outcome, ChatReply | SampleError):
                    self._kept[request] = outcome
                else:
                    self._kept.pop(request, None)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        if errors:
            raise next((error for error in errors if isinstance(error, TransientError)), errors[0])
        return [outcome for _, outcome in outcomes if isinstance(outcome, ChatReply)]
