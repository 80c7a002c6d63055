"""What models are asked is counted, and a limit is never passed."""

import threading

import numpy as np
import pytest
from PIL import Image

from models.chat import ChatReply, ChatRequest
from models.image_edit import ImageEdit
from models.metering import Budget, CostLimitError, MeteredChat, MeteredEditor, Prices, cost_of, metering
from storage.errors import SampleError
from storage.usage import Usage, added
from tests.fakes import FakeChat, FakeImageEditor

DOT = Image.new("RGB", (2, 2))
PER_IMAGE = {"m": Prices(image=1.0)}


class Talker:
    """Reads 10 tokens and writes 5 for each request; the sizes of its calls are kept."""

    fingerprint = "talker"

    def __init__(self, fails: str = "") -> None:
        self.calls: list[int] = []
        self._fails = fails

    def generate(self, requests):
        self.calls.append(len(requests))
        if any(request.prompt == self._fails for request in requests):
            raise SampleError("chat_failed")
        return [ChatReply(request.prompt, "stop", (), 10, 5, 0.1) for request in requests]


def looks(count):
    return [ChatRequest(str(number), (DOT,), 20) for number in range(count)]


def test_usage_is_counted_by_model_and_priced():
    budget = Budget({"m": Prices(prompt=2.0, completion=4.0, image=0.5)})
    with metering(budget) as meter:
        replies = MeteredChat(Talker(), "m").generate(looks(3))
        MeteredChat(Talker(), "free").generate(looks(1))
    assert [reply.text for reply in replies] == ["0", "1", "2"]
    assert meter.usage == {"m": Usage(3, 3, 30, 15), "free": Usage(1, 1, 10, 5)}
    # 30 tokens at 2 and 15 at 4 per million, and three images at a half; the model without a price is free.
    assert budget.spent == pytest.approx(120 / 1_000_000 + 1.5)


def test_without_a_meter_a_metered_model_is_the_model():
    talker = Talker()
    assert len(MeteredChat(talker, "m").generate(looks(4))) == 4
    assert (talker.calls, MeteredChat(talker, "m").fingerprint) == ([4], "talker")


def test_requests_go_out_in_fewer_at_a_time_as_the_limit_nears_and_never_past_it():
    talker, budget = Talker(), Budget(PER_IMAGE, max_cost=7.0)
    with metering(budget) as meter, pytest.raises(CostLimitError, match=r"7 of the limit of 7 is spent.*--max-cost"):
        MeteredChat(talker, "m").generate(looks(8))
    # 8 do not fit into 7, 4 do; of the 4 that are left 2 fit into 3, then 1 into 1, then nothing into 0.
    assert talker.calls == [4, 2, 1]
    assert (budget.spent, meter.usage["m"].requests) == (7.0, 7)


def test_the_worst_case_is_what_is_held_back():
    # One request may cost its 20 new tokens at 1 each, although it will cost 5: a limit of 19 sends nothing.
    prices = {"m": Prices(completion=1_000_000.0)}
    for limit, sent in ((19.0, []), (20.0, [1])):
        talker = Talker()
        with metering(Budget(prices, limit)):
            chat = MeteredChat(talker, "m")
            if sent:
                chat.generate([ChatRequest("a", (), 20)])
            else:
                with pytest.raises(CostLimitError):
                    chat.generate([ChatRequest("a", (), 20)])
        assert talker.calls == sent


def test_a_call_that_raises_counts_nothing_and_holds_nothing():
    budget = Budget(PER_IMAGE, max_cost=2.0)
    with metering(budget) as meter:
        for _ in range(3):
            with pytest.raises(SampleError):
                MeteredChat(Talker(fails="1"), "m").generate(looks(2))
        assert meter.usage == {}
        assert len(MeteredChat(Talker(), "m").generate(looks(2))) == 2


def test_threads_share_a_limit():
    budget, done = Budget(PER_IMAGE, max_cost=25.0), []

    def work():
        with metering(budget) as meter:
            try:
                while True:
                    MeteredChat(Talker(), "m").generate(looks(3))
            except CostLimitError:
                done.append(meter.usage.get("m", Usage()).requests)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == budget.spent <= 25
    assert len(done) == 4


def test_a_picture_is_counted_even_when_it_is_refused():
    edit = ImageEdit(np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.bool_), "p", 0)
    budget = Budget(PER_IMAGE)
    with metering(budget):
        MeteredEditor(FakeImageEditor(), "m").edit([edit, edit])
        MeteredEditor(FakeImageEditor(error=SampleError("editor_flagged")), "m").edit([edit])
    assert budget.spent == 3.0


def test_nothing_asked_nothing_sent():
    chat = FakeChat(lambda request: "x")
    with metering(Budget(PER_IMAGE, max_cost=0.0)):
        assert MeteredChat(chat, "m").generate([]) == []


def test_usage_is_priced_and_added_up_by_model():
    used = Usage(requests=2, images=3, prompt_tokens=1_000_000, completion_tokens=500_000)
    assert cost_of(used, Prices(prompt=2.0, completion=4.0, image=0.5)) == 2.0 + 2.0 + 1.5
    assert added([{"a": Usage(1)}, {"b": Usage(2)}, {"a": Usage(4, 1)}]) == {"a": Usage(5, 1), "b": Usage(2)}
