"""Where a look-up has to look: the place in the policy that names the kind whose verdict comes next.

Left alone, a network this small goes by the base rate of verdicts for hundreds of steps. So one attention head is told,
in pretraining only, where to look; what it reads there is learnt.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from micro.networks.guard_policies import SYNONYMS
from micro.world import VOCABULARY

LAYER, HEAD = 2, 0  # of four layers: the ones below find the noun and what its sentence says of it
NOWHERE = 0  # a kind that the policy does not name is looked up at the first token

Names = Mapping[tuple[int, ...], str]
Places = list[tuple[int, list[int]]]  # for each look-up: its own position, and the positions where it should look


def names_of_kinds(tokenizer: PreTrainedTokenizerFast) -> Names:
    """Token ids of every noun and synonym -> the kind that they name."""
    return {
        tuple(tokenizer(f" {word}")["input_ids"]): kind
        for kind, entry in VOCABULARY.items()
        for word in {entry.noun, SYNONYMS.get(kind, entry.noun)}
    }


def named_at(ids: Sequence[int], names: Names) -> list[tuple[int, str]]:
    """Every kind that a row of token ids names, with the place of its name's last token; longer names win."""
    found, place = [], 0
    longest = max(map(len, names), default=0)
    while place < len(ids):
        for length in range(longest, 0, -1):
            kind = names.get(tuple(ids[place : place + length]))
            if kind is not None:
                found.append((place + length - 1, kind))
                place += length - 1
                break
        place += 1
    return found


def look_up_places(prompt: Sequence[int], answer: Sequence[int], names: Names) -> Places:
    """For each kind that the answer names: the place of its name, and of those in the prompt.

    The look-up is the name's own: the verdict comes two tokens later ("a knife", ": ", "safe").
    """
    places: dict[str, list[int]] = {}
    for place, kind in named_at(prompt, names):
        places.setdefault(kind, []).append(place)
    return [(len(prompt) + place, places.get(kind, [NOWHERE])) for place, kind in named_at(answer, names)]


def look_up_loss(attention: Tensor, rows: Sequence[Places]) -> Tensor:
    """Mean negative log of the attention that falls on the right places; 0 where nothing is looked up.

    `attention` (B, heads, length, length) are the weights of `LAYER`; `rows` the places of each of the B rows.
    """
    where = [(row, at, seen) for row, lookups in enumerate(rows) for at, seen in lookups]
    if not where:
        return attention.new_zeros(())
    target = torch.zeros(len(where), attention.shape[-1])
    for index, (_, _, seen) in enumerate(where):
        target[index, seen] = 1.0
    weights = attention[[row for row, _, _ in where], HEAD, [at for _, at, _ in where]].float()
    return -((weights * target).sum(dim=-1) + 1e-4).log().mean()
