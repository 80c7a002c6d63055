"""What each arm trains on: shards of the same form as the export's, derived from its training rows."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq

from guard.contract.features import View
from guard.contract.prompt import parse_answer
from guard.export.parquet import write_shards
from guard.export.views import policy_label
from guard.training.shards import fetch_shards
from micro.miniature.data import MiniatureData
from micro.miniature.families import TARGET
from micro.miniature.results import write_whole
from micro.world import VOCABULARY
from models.chat import ChatModel, ChatRequest
from models.transformers_chat import TransformersChat
from policies.vocabulary import Vocabulary
from recaption.certify import judge
from recaption.settings import MinimalitySettings
from recaption.spans import diff
from storage.images import open_stored
from storage.records.ids import content_id
from storage.records.recaption import Recaption

FALSE_SHARE = 0.35  # of the drafts of a rewriter that errs
ATTEMPTS = 2  # a refused draft goes back once, as in the build
TUNING_ROWS = 400  # that tuning under all policies draws from: half of what it sees in its steps
TRIES = 4  # answers to a question, of which a right one is kept
_BATCH = 64
_CERTIFY = MinimalitySettings()
ROLES: Mapping[str, Sequence[str]] = {  # kinds of pictures
    "": ("original", "remove", "sham", "roundtrip", "insert"),
    "controls": ("original", "remove", "sham", "roundtrip"),
    "pairs": ("original", "remove"),
    "originals": ("original",),
}

Row = dict[str, Any]
Choose = Callable[[list[Row]], list[Row]]


def derive_export(source: str, out: Path, read: View, write: View, choose: Choose) -> str:
    """An export of one view that holds what `choose` makes of the training rows of `source`.

    The answer is its folder; one that is there already is left alone.
    """
    info = out / "dataset_info.json"
    if info.exists():
        return str(out)
    features = _features(fetch_shards(source, write, "train", out / "cache")[0])
    parts = write_shards(iter(choose(training_rows(source, read))), features, out / write, "train")
    files = [
        {"path": f"{write}/{part.path.name}", "rows": part.rows, "size_bytes": part.size_bytes, "sha256": part.sha256}
        for part in parts
    ]
    text = json.dumps({write: {"splits": {"train": {"name": "train", "files": files}}}}, indent=2)
    write_whole(info, text)
    return str(out)


def training_rows(source: str, view: View) -> list[Row]:
    """The training rows of a view, pictures included."""
    return list(_rows(fetch_shards(source, view, "train", Path(source, "cache"))))


def _features(shard: Path) -> Any:
    return json.loads(pq.read_schema(shard).metadata[b"huggingface"])["info"]["features"]


def _rows(shards: Sequence[Path]) -> Iterator[Row]:
    for shard in shards:
        for batch in pq.ParquetFile(shard).iter_batches(batch_size=64):
            yield from batch.to_pylist()


def family_of(row: Row) -> str:
    return str(json.loads(row["prov_json"])["family_id"])


def equal_rows(rows: Sequence[Row], part: str) -> list[Row]:
    """Rows of a part of `ROLES`: as many safe ones as unsafe ones, and as many as every other part of `rows` gives.

    Which ones, a hash decides, so that they come from all families.
    """
    parts = {name: _by_label(rows, roles) for name, roles in ROLES.items()}
    each = min(len(some) for labels in parts.values() for some in labels.values())
    return [row for label in ("safe", "unsafe") for row in parts[part][label][:each]]


def _by_label(rows: Sequence[Row], roles: Sequence[str]) -> dict[str, list[Row]]:
    some = [row for row in rows if _role(row) in roles]
    some.sort(key=lambda row: content_id("row", row["sample_id"]))
    truth = [row["reward_model"]["ground_truth"] for row in some]
    return {label: [row for row, own in zip(some, truth, strict=True) if own == label] for label in ("safe", "unsafe")}


def _role(row: Row) -> str:
    return str(json.loads(row["prov_json"]).get("edit", {}).get("kind", "original"))


def answered(rows: Sequence[Row], answers: Mapping[str, str], policy_name: str | None = None) -> list[Row]:
    """RL rows as SFT rows with the given answer, by sample; rows without one, or of another policy, are left out."""
    return [
        _as_sft(row, answers[row["sample_id"]])
        for row in rows
        if row["sample_id"] in answers and policy_name in (None, row["extra_info"]["policy_name"])
    ]


def bare_verdicts(rows: Sequence[Row]) -> dict[str, str]:
    """Each row's label as an answer that gives no reason."""
    return {row["sample_id"]: f"<think></think>{row['solution']}" for row in rows}


def right_answers(rows: Sequence[Row], guard: ChatModel) -> dict[str, str]:
    """The guard's own right answers, reasoning included: up to four are drawn for each row until one is right.

    Self-taught reasoning without its hints: Zelikman et al., "STaR", NeurIPS 2022.
    """
    found: dict[str, str] = {}
    for seed in range(TRIES):
        open_rows = [row for row in rows if row["sample_id"] not in found]
        for start in range(0, len(open_rows), _BATCH):
            batch = open_rows[start : start + _BATCH]
            for row, reply in zip(batch, guard.generate([_asked(row, seed) for row in batch]), strict=True):
                if parse_answer(reply.text).verdict == row["reward_model"]["ground_truth"]:
                    found[row["sample_id"]] = reply.text
    return found


def _asked(row: Row, seed: int) -> ChatRequest:
    picture = open_stored(row["images"][0]["bytes"])
    return ChatRequest(row["prompt"][0]["content"], (picture,), 48, temperature=1.0, seed=seed)


def _as_sft(row: Row, answer: str) -> Row:
    completion = [{"role": "assistant", "content": answer}]
    return {
        "prompt": row["prompt"],
        "completion": completion,
        "conversation": [*row["conversation"], *completion],
        "images": row["images"],
        "rules": row["rules"],
        **{name: row[name] for name in ("sample_id", "pair_id", "prov_json")},
    }


@dataclass(frozen=True)
class Drafts:
    """What a rewriter that errs makes of a caption: its first draft, and the first of its two attempts that the
    certificate accepts, which is None where it accepts neither."""

    first: str
    certified: str | None


def drafts(data: MiniatureData, vocabulary: Vocabulary) -> dict[str, Drafts]:
    """By original. In some drafts one of the restored things is called by another's name.

    Nothing is added: a guard that leaves things out gains by captions that name more, true or not.
    """
    found = {}
    for image_id, row in sorted(data.recaptions.items()):
        if not row.attributes:
            found[image_id] = Drafts(row.text, row.text)
        else:
            tries = [_attempt(row, Random(content_id("draft", image_id, n)), vocabulary) for n in range(ATTEMPTS)]
            passed = (text for text in tries if not judge(_rewritten(row, text, vocabulary), _CERTIFY, vocabulary))
            found[image_id] = Drafts(tries[0], next(passed, None))
    return found


def _attempt(row: Recaption, draw: Random, vocabulary: Vocabulary) -> str:
    if draw.random() >= FALSE_SHARE:
        return row.text
    shown = vocabulary.mentioned(row.text)
    wrong = draw.choice([entry for name, entry in vocabulary.items() if entry.sensitive and name not in shown])
    return row.text.replace(vocabulary[draw.choice(row.attributes)].noun, wrong.noun, 1)


def _rewritten(row: Recaption, text: str, vocabulary: Vocabulary) -> Recaption:
    """The record of another answer to the same task."""
    change = diff(row.caption, text, vocabulary)
    return replace(
        row,
        text=text,
        inserted=change.inserted,
        deleted=change.deleted,
        kept_ratio=change.kept_ratio,
        length_ratio=change.length_ratio,
        attempts=(),
    )


def with_texts(rows: Sequence[Row], texts: Mapping[str, str]) -> list[Row]:
    """SFT rows with other completions, by image; rows without one are left out."""
    found = []
    for row in rows:
        text = texts.get(json.loads(row["prov_json"])["image_id"])
        if text is not None:
            completion = [{"role": "assistant", "content": text}]
            talk = [*row["conversation"][:-1], *completion]
            found.append({**row, "completion": completion, "conversation": talk})
    return found


def false_share(texts: Mapping[str, str], data: MiniatureData) -> float:
    """The share of captions that name something sensitive that their picture does not show."""
    shown = {image_id: set(data.shown[f"{image_id[:16]}.png"]) for image_id in texts}
    wrong = [
        any(VOCABULARY[name].sensitive for name in VOCABULARY.mentioned(text) - shown[image_id])
        for image_id, text in texts.items()
    ]
    return sum(wrong) / max(len(wrong), 1)


@dataclass(frozen=True)
class Sets:
    """The data sets that arms name, each made once in `work`."""

    data: MiniatureData
    work: Path

    def folder(self, name: str) -> str:
        """The export of this name, for every seed."""
        train, out = self.data.train, self.work / name
        base, _, part = name.partition("-")
        if name == "recaptions":
            return train
        if name == "captions":
            return derive_export(train, out, "sft_own_caption", "sft", list)
        if base == "recaptions":
            texts = self.texts(part)
            return derive_export(train, out, "sft", "sft", lambda rows: with_texts(rows, texts))
        if base == "rl":
            return derive_export(train, out, "rl", "rl", lambda rows: equal_rows(rows, part))
        return derive_export(train, out, "rl", "sft", lambda rows: _under_target(rows, part))

    def tuning(self, name: str, start: str, seed: int) -> str:
        """The export that a guard is tuned on in the place of stage 2, which begins at the weights of `start`: its own
        right answers (`own`), or the bare verdicts of the same rows (`verdicts`), under all policies or one."""
        base, _, policy = name.partition("-")
        named = policy_label(policy) if policy else None

        def choose(rows: list[Row]) -> list[Row]:
            chosen = sorted(equal_rows(rows, ""), key=lambda row: content_id("tuning", row["sample_id"]))[:TUNING_ROWS]
            answers = self._own_answers(chosen, start, seed)
            return answered(chosen, answers if base == "own" else _bare(chosen, answers), named)

        return derive_export(self.data.train, self.work / f"{name}-seed-{seed}", "rl", "sft", choose)

    def texts(self, which: str) -> dict[str, str]:
        """Captions of a rewriter that errs, by image: `checked` ones that the certificate accepted, or `unchecked`
        first drafts for the same pictures."""
        found = drafts(self.data, VOCABULARY)
        kept = {image_id: one for image_id, one in found.items() if one.certified is not None}
        return {image_id: one.certified or "" if which == "checked" else one.first for image_id, one in kept.items()}

    def _own_answers(self, rows: Sequence[Row], start: str, seed: int) -> dict[str, str]:
        """Drawn once for a seed."""
        path = self.work / f"own-answers-{seed}.json"
        if not path.exists():
            answers = right_answers(rows, TransformersChat(start, batch_size=_BATCH))
            write_whole(path, json.dumps(answers))  # two arms of a seed may draw them at a time
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return found


def _under_target(rows: Sequence[Row], part: str) -> list[Row]:
    """Bare verdicts of the target policy."""
    chosen = equal_rows([row for row in rows if row["extra_info"]["policy_name"] == policy_label(TARGET)], part)
    return answered(chosen, bare_verdicts(chosen))


def _bare(rows: Sequence[Row], answers: Mapping[str, str]) -> dict[str, str]:
    """Bare verdicts of the rows that have an answer."""
    return bare_verdicts([row for row in rows if row["sample_id"] in answers])
