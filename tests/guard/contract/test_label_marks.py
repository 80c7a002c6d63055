"""Which labels are marked, and how that is told."""

from guard.contract.label_marks import count_marks, marks_of, marks_sentence


def test_a_label_is_marked_by_how_it_came_to_be():
    assert marks_of({"source": "human", "prefilled": False}) == ()
    assert marks_of({"source": "human", "prefilled": True}) == ("drafted",)
    assert marks_of({"source": "simulated", "prefilled": True}) == ("simulated", "drafted")
    assert marks_of({"source": "rule"}) == ("rule-made",)
    assert marks_of({"source": "attributes", "simulated": True}) == ("simulated", "rule-made")


def test_marks_are_counted_apart_and_none_is_no_sentence():
    counts = count_marks([(), ("simulated", "drafted"), ("simulated",)])
    assert counts == {"simulated": 2, "drafted": 1}
    assert marks_sentence(counts, 3) == (
        "Of 3 labels, 2 are simulated (rest on votes of scripted annotators); "
        "1 are drafted (were given on a page that showed a draft)."
    )
    assert marks_sentence({}, 3) == ""
