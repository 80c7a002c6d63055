"""A pipeline is tried once when it is loaded: whether it edits at all, how it wants its pictures, and whether a list is
a batch. What is only guessed from a signature would refuse, or mix up, every row."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from models.answer_size import is_like
from models.pipeline_call import Job, arguments_of, inferred, pictures_in, pixels_of
from models.pipeline_traits import Traits, fixed_arguments
from models.settings import PictureSettings
from storage.errors import FatalError

TRIAL = "Remove the grey square."  # the prompt of every trial
_SEED = 7
_LEAST_STEPS = 2  # some schedules have no single step

Call = Callable[[Callable[[], Any]], Any]  # runs a call within the time limit


def tried(
    pipeline: Any, traits: Traits, settings: PictureSettings, side: int, *, ignores_prompt: bool, within: Call
) -> Traits:
    """What two steps on a square of `side` pixels, a multiple of the pipeline's, showed beyond the signature.

    Raises FatalError, with a sentence, for a pipeline that cannot edit, and what `within` raises for the time limit.
    """
    steps = max(_LEAST_STEPS, math.ceil(1 / (settings.strength or traits.strength)))
    fixed = fixed_arguments(traits, settings.model_copy(update={"steps": steps}), ignores_prompt=ignores_prompt)

    def answer(traits: Traits, jobs: Sequence[Job]) -> list[Any]:
        output = within(lambda: inferred(pipeline, arguments_of(jobs, traits, fixed), _SEED))
        return [pixels_of(picture) for picture in pictures_in(output)]

    first, other = _job(side, 0), _job(side, 1)
    alone, single = _first_answer(answer, traits, first)
    single = replace(single, own_size=_has_own_size(answer, single, alone, side))
    if settings.batch_size == 1 or settings.batched is not None:
        return replace(single, batches=bool(settings.batched))
    return replace(single, batches=_is_batch(answer, single, [first, other], alone))


def _job(side: int, number: int) -> Job:
    """A ramp of colours with a grey square, unlike that of another number."""
    ramp = np.linspace(20, 235, side)
    column, row = np.broadcast_to(ramp, (side, side)), np.broadcast_to(ramp[:, None], (side, side))
    picture = np.stack([column, row, 255 - column] if number == 0 else [255 - row, 255 - column, row], axis=2)
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = True
    picture[mask] = 128
    return Job(picture.astype(np.uint8), mask, TRIAL, _SEED, (side, side))


_FORMS: tuple[dict[str, Any], ...] = ({}, {"wants_list": True}, {"wants_json": True})


def _first_answer(answer: Callable[..., list[Any]], traits: Traits, job: Job) -> tuple[Any, Traits]:
    """The answer to one job in the first form that the pipeline takes; raises what it raised about the plainest."""
    refusals: list[Exception] = []
    for form in _FORMS:
        formed = replace(traits, **form)
        try:
            found = answer(formed, [job])
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            refusals.append(error)
            continue
        if len(found) != 1 or found[0].ndim != 3 or found[0].shape[2] != 3:
            raise FatalError(f"to one picture it answers {[f.shape for f in found]}, and not one picture in colour")
        return found[0], formed
    raise refusals[0]


def _has_own_size(answer: Callable[..., list[Any]], traits: Traits, alone: Any, side: int) -> bool:
    """Whether the pipeline chooses the size of its pictures, as a square of another size shows; those of one that makes
    larger ones from larger ones, or anything but a square from a square, are no edits."""
    as_asked = alone.shape[:2] == (side, side)
    if not is_like(alone.shape, (side, side)):
        raise FatalError(f"it answers a square with a picture of {alone.shape[1]} by {alone.shape[0]}")
    another = side // 2 // traits.multiple * traits.multiple if side >= 256 else side * 2
    try:
        (scaled,) = answer(traits, [_job(another, 0)])
    except Exception:
        if as_asked:  # another size is more than it can do, and nobody asks for one
            return False
        raise
    if not as_asked and math.isclose(scaled.shape[0] / another, alone.shape[0] / side, rel_tol=0.1):
        raise FatalError(f"it makes every picture {alone.shape[0] / side:.2g} times as large: it upscales")
    return not as_asked or scaled.shape[:2] != (another, another)


def _is_batch(answer: Callable[..., list[Any]], traits: Traits, jobs: Sequence[Job], alone: Any) -> bool:
    """Whether a list of two pictures is edited as each of them is alone. Pipelines to which a list means references of
    one picture make two that look alike, or raise. Equal seeds and prompts leave nothing but the pictures to differ."""
    try:
        (second,) = answer(traits, jobs[1:])
        together = answer(replace(traits, batches=True), jobs)
    except Exception:  # noqa: BLE001  (whatever it raises, one by one is what it can do)
        return False
    if len(together) != 2 or any(one.shape != alone.shape for one in together):
        return False
    own = _apart(together[0], alone) + _apart(together[1], second)
    crossed = _apart(together[0], second) + _apart(together[1], alone)
    return own < crossed / 2


def _apart(one: Any, other: Any) -> float:
    return float(np.abs(np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)).mean())
