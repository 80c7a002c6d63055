"""Questions to a network that is in this process: how it computes, and that replies keep their order."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from guard.contract.recipe import load_recipe
from guard.training.answering import NetworkChat
from guard.training.network import Network, load_network
from micro import GUARD, RECIPE
from models.chat import ChatRequest

EOS, FIRST = 0, 100


class Batch(dict):
    """Inputs as a processor gives them."""

    def to(self, device):
        return self


class Processor:
    """A token per letter; a reply is the letters that the network adds."""

    tokenizer = SimpleNamespace(
        eos_token_id=EOS, pad_token_id=EOS, decode=lambda ids, **options: "".join(chr(one) for one in ids)
    )

    def apply_chat_template(self, turns, **options):
        return [turn[0]["content"][1]["text"] for turn in turns]

    def __call__(self, *, text, images, **options):
        longest = max(map(len, text))
        ids = [[EOS] * (longest - len(one)) + [ord(letter) for letter in one] for one in text]
        mask = [[0] * (longest - len(one)) + [1] * len(one) for one in text]
        return Batch(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))


class Echo(torch.nn.Module):
    """Repeats the last letter of each prompt and ends. It remembers in which type it computed."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.dtypes = []

    def generate(self, input_ids, attention_mask, **options):
        self.dtypes.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        end = torch.full((len(input_ids), 1), EOS)
        return torch.cat([input_ids, input_ids[:, -1:], end], dim=1)


def asked(*prompts):
    return [ChatRequest(prompt, (Image.new("RGB", (8, 8)),), 4) for prompt in prompts]


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_computes_in_bfloat16_where_the_recipe_says_so(bf16, dtype):
    model = Echo()
    NetworkChat(Network("here", model, Processor(), bf16)).generate(asked("a"))
    assert model.dtypes == [dtype]
    assert model.training  # as it was before


def test_replies_keep_the_order_of_the_requests():
    replies = NetworkChat(Network("here", Echo(), Processor())).generate(asked("longest", "a", "long"))
    assert [reply.text for reply in replies] == ["t", "a", "g"]
    assert {reply.finish_reason for reply in replies} == {"stop"}
    assert [reply.prompt_tokens for reply in replies] == [7, 1, 4]


@pytest.mark.parametrize("bf16", [True, False])
def test_a_loaded_network_computes_as_its_recipe_says(bf16):
    recipe = load_recipe(str(RECIPE)).model_copy(update={"bf16": bf16})
    assert load_network(str(GUARD), recipe).bf16 == bf16
