"""An S3 server, or what stands before it, that lies: a sentence each time, and nothing of it believed."""

from contextlib import suppress

import pytest
import stamina

from storage import s3
from storage.errors import FatalError, SampleError, TransientError
from storage.reading import read_object
from storage.reasons import MAY_PASS
from storage.s3 import S3Store
from tests.lying_s3 import ANSWERS, BREAKS, DAMAGES, lying_s3

pytestmark = pytest.mark.server
KEPT = b"what was kept, and long enough to be cut"
CALLS = {
    "read": lambda store: store.read("k"),
    "read as input": lambda store: read_object(store, "k", 1000),
    "read the end": lambda store: store.read_tail("k", 10),
    "exists": lambda store: store.exists("k"),
    "misses": lambda store: store.exists("gone"),
    "list": lambda store: [(entry.key, entry.size_bytes) for entry in store.entries()],
    "write": lambda store: store.write("new", b"new"),
    "replace": lambda store: store.write("k", KEPT, overwrite=True),
    "replace in parts": lambda store: store.write("large", b"x" * (6 << 20), overwrite=True),
    "delete": lambda store: store.delete("old"),
}
TRUTH = {
    "read": KEPT, "read as input": KEPT, "read the end": KEPT[-10:], "exists": True, "misses": False,
    "list": [("k", len(KEPT))], "write": True, "replace": True, "replace in parts": True, "delete": None,
}  # fmt: skip
SETUP = ("no bucket", "forbidden", "wrong key", "redirect")  # what a person must mend
LISTINGS = ("endless", "endless with new tokens")


@pytest.fixture(scope="module")
def liar(s3_bucket):
    with lying_s3() as running:
        yield running


@pytest.fixture(scope="module")
def asking(liar, s3_bucket):
    """A store whose client does not ask again by itself and waits for half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "_ATTEMPTS", 0)
        patch.setattr(s3, "_SILENCE_S", 0.5)
        patch.setattr(s3, "PART_BYTES", 5 << 20)
        yield S3Store(f"s3://{s3_bucket}/lies")


@pytest.fixture
def store(liar, asking):
    """The store with one key; no pauses before a second attempt."""
    stamina.set_testing(True, attempts=2)
    tell_the_truth(liar, asking)
    yield asking
    tell_the_truth(liar, asking)
    stamina.set_testing(False)


def tell_the_truth(liar, store):
    """From now on; and what a call before left behind is gone."""
    liar.deed, liar.meant = "", lambda method, path: True
    with suppress(TransientError):  # a connection on which more came than was promised
        store.exists("k")
    for key in ("new", "large"):
        store.delete(key)
    store.write("k", KEPT, overwrite=True)


def told(call, store):
    """What a call says: its answer, or the kind and the text of a foreseen error."""
    try:
        return CALLS[call](store)
    except (TransientError, FatalError, SampleError) as error:
        return error


@pytest.mark.parametrize("deed", [*ANSWERS, *BREAKS])
def test_what_is_no_answer_is_a_sentence_and_not_believed(liar, store, deed):
    for call in CALLS:
        liar.deed = deed
        found = told(call, store)
        if call == "delete" and deed in ("empty", "204"):
            assert found is None  # S3's own answer says no more
        elif call == "read as input" and deed in ("no bucket", "forbidden"):
            assert found.code in MAY_PASS  # of the object: the next run asks again
        else:
            assert isinstance(found, FatalError if deed in SETUP else TransientError), (call, found)
            assert "s3://" in str(found) or "bucket" in str(found)
        tell_the_truth(liar, store)
        assert told(call, store) == TRUTH[call]
        tell_the_truth(liar, store)


@pytest.mark.parametrize("deed", DAMAGES)
def test_a_damaged_answer_is_asked_for_again_and_never_believed(liar, store, deed):
    for call in ("read", "read as input", "read the end", "exists", "list"):
        liar.deed = deed
        found = told(call, store)
        unseen = call == "read the end" and deed == "other bytes"  # the end of a table has a hash of its own
        assert unseen or isinstance(found, TransientError) or found == TRUTH[call], (call, found)
        tell_the_truth(liar, store)
        assert told(call, store) == TRUTH[call]


@pytest.mark.parametrize("deed", LISTINGS)
def test_a_listing_that_does_not_end_is_noticed(liar, store, deed):
    liar.deed = deed
    with pytest.raises(TransientError, match="is not S3"):
        list(store.entries())


def test_a_lie_in_passing_is_asked_again(liar, store):
    for deed in ("page", "cut", "other bytes", "no tag", "no length"):
        before = liar.lies
        liar.deed, liar.meant = deed, lambda method, path, before=before: liar.lies == before
        assert store.read("k") == KEPT, deed
        assert liar.lies == before + 1


@pytest.mark.parametrize(
    ("deed", "sentence"),
    [
        ("no bucket", r"There is no bucket guardset\. Create it, or correct its name or AWS_ENDPOINT_URL\."),
        ("redirect", r"The bucket guardset is in another region\. Set AWS_REGION"),
        ("404 page", r"is not S3 \(404\)\. Check AWS_ENDPOINT_URL"),
        ("circle", r"is not S3 \(RecursionError\)\. Check AWS_ENDPOINT_URL"),
    ],
)
def test_what_a_person_can_do_is_said(liar, store, deed, sentence):
    liar.deed = deed
    for call in ("exists", "read", "list", "write"):
        with pytest.raises((TransientError, FatalError), match=sentence):
            CALLS[call](store)
