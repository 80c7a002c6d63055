"""How a model that edits pictures is called, and the implementation for any diffusers pipeline that edits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from models.codec import through_codec
from models.device import at_device, check_not_lost, load_on_device, still_needed
from models.pipeline_call import Job, accepted, arguments_of, flags_in, inferred, pictures_in
from models.pipeline_load import load_pipeline
from models.pipeline_traits import Traits, fixed_arguments, ignores_prompt, native_size, read_traits
from models.pipeline_trial import tried
from models.prefill import biharmonic_fill
from models.settings import PictureSettings
from models.time_limit import PastDeadlineError, StuckError, call_within
from storage.errors import FatalError, SampleError
from storage.images import Mask, Rgb
from storage.records.ids import content_id
from storage.stage import is_out_of_memory

_LEAST_PX, _MOST_ASPECT = 64, 8  # what Flux2 insists on; harmless to the others
_TRIAL_PX = 512  # of a trial, where neither the settings nor the pipeline says a size


@dataclass(frozen=True)
class ImageEdit:
    """`image` uint8 (height, width, 3); `mask` bool (height, width), True where it should change.

    `prompt` says what the masked part should show. `instruction` says what to do: models without a mask follow it
    in place of the prompt, unless it is empty. Without a masked pixel the picture only passes through the model's
    codec.
    """

    image: Rgb
    mask: Mask
    prompt: str
    seed: int
    instruction: str = ""


class ImageEditor(Protocol):
    """Repaints pictures of any size. One answer per edit, in order: a picture of the same shape, or why not.

    `size_px` is the side in pixels of the squares it works best at. `own_size`: its pictures come in a size of its own,
    and are scaled to that asked for; known once it has edited. Pixels outside the mask may change too,
    and a model without a mask argument decides by the prompt alone: the caller composites.
    """

    @property
    def fingerprint(self) -> str: ...

    @property
    def size_px(self) -> int: ...

    @property
    def own_size(self) -> bool: ...

    def edit(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]: ...


class PipelineEditor:
    """Any diffusers pipeline that edits: inpainting by a mask, or by instruction.

    Pictures are padded to the multiple that the pipeline needs and cut back; equal sizes share a call where
    the pipeline has real batches. Out of memory halves the batch from then on. A failure is narrowed down to
    the sample that causes it, which alone is refused: `editor_failed`, `editor_flagged`, `editor_black`,
    `editor_not_finite`, `editor_wrong_size`, `editor_timeout`, `editor_out_of_memory`. The same seed gives
    the same pixels. The weights are loaded by the first call, which tries the pipeline; calls from several threads
    take turns. Raises FatalError when the model is not there, cannot be loaded or cannot edit, when no step
    is left to run, when the accelerator itself fails, or when two calls in a row never come back.
    """

    def __init__(self, settings: PictureSettings, *, load: Any = load_pipeline) -> None:
        self._settings, self._load = settings, load
        self._fingerprint = content_id("pipeline", settings.decided_by())
        self._batch_size = settings.batch_size
        self._size_px = settings.size_px
        self._pipeline: Any = None
        self._traits = Traits({}, 1, False)
        self._fixed: dict[str, Any] = {}
        self._stuck_calls = 0

    @property
    def fingerprint(self) -> str:
        """Changes with the weights and every setting but batching and the time limit."""
        return self._fingerprint

    @property
    def size_px(self) -> int:
        """The side of the squares it works best at: as set, or as the loaded pipeline says."""
        if self._size_px is None:
            with at_device():
                self._ready()
                self._size_px = native_size(self._pipeline)
        if self._size_px is None:
            raise FatalError(f"The pipeline {self._settings.model} does not say its size. Set editing.edit.size_px.")
        return self._size_px

    @property
    def own_size(self) -> bool:
        """As its trial showed."""
        return self._traits.own_size

    def edit(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]:
        """Repaints each picture. See `ImageEditor`."""
        answers: dict[int, Rgb | SampleError] = {}
        with at_device():
            self._ready()
            jobs = [self._prepare(edit) for edit in edits]
            buckets: dict[tuple[tuple[int, ...], bool], list[int]] = {}
            for index, job in enumerate(jobs):
                buckets.setdefault((job.image.shape, bool(job.mask.any())), []).append(index)
            for indices in buckets.values():
                answers.update(zip(indices, self._bucket([jobs[i] for i in indices]), strict=True))
        return [answers[index] for index in range(len(edits))]

    def let_go(self) -> None:
        """Drop the weights; the next call loads them again."""
        self._pipeline = None

    def _ready(self) -> None:
        still_needed(self)
        if self._pipeline is None:
            load_on_device(self, self._load_pipeline)

    def _load_pipeline(self) -> None:
        settings = self._settings
        pipeline = self._load(settings.model, settings.revision, settings.dtype, settings)
        traits, blind = read_traits(pipeline), ignores_prompt(pipeline)
        if traits.takes_mask and int(traits.steps_run(settings)) < 1:
            raise FatalError(
                f"{settings.steps} steps at strength {settings.strength} leave none to run. Raise one of the two."
            )
        self._traits = self._tried(pipeline, traits, blind)
        self._fixed = fixed_arguments(self._traits, settings, ignores_prompt=blind)
        self._pipeline = pipeline

    def _tried(self, pipeline: Any, traits: Traits, blind: bool) -> Traits:
        """The traits that one small edit at the size asked for showed; FatalError where it cannot be done."""
        settings, networks = self._settings, getattr(pipeline, "components", {})
        side = settings.size_px or native_size(pipeline) or _TRIAL_PX
        within = partial(call_within, settings.time_limit_s, networks)
        problem = f"The pipeline {settings.model} ({type(pipeline).__name__}) cannot edit"
        if traits.cannot_edit:
            raise FatalError(f"{problem}: {traits.cannot_edit}. Name one that does: editing.edit.model.")
        try:
            (side, _) = _padded((side, side), traits.multiple)
            return tried(pipeline, traits, settings, side, ignores_prompt=blind, within=within)
        except StuckError as error:
            raise FatalError(
                f"{problem}: two steps did not end within {2 * (settings.time_limit_s or 0):g} s."
            ) from error
        except FatalError as error:
            raise FatalError(f"{problem}: {error}. Name one that does: editing.edit.model.") from error
        except Exception as error:
            why = _failure(error, settings.time_limit_s)
            raise FatalError(f"{problem} a square of {side} pixels: {why.detail or why.code}") from error

    def _prepare(self, edit: ImageEdit) -> Job:
        height, width = edit.mask.shape
        image = edit.image
        if self._settings.prefill == "biharmonic" and self._traits.takes_mask:
            image = biharmonic_fill(image, edit.mask)
        # Of sizes of their own all models have a square: of another form they would stretch or crop a picture.
        held = (max(height, width),) * 2 if self._traits.own_size else (height, width)
        padded_height, padded_width = _padded(held, self._traits.multiple)
        grow = (0, padded_height - height), (0, padded_width - width)
        padded = np.pad(image, (*grow, (0, 0)), mode="edge")
        prompt = (edit.instruction if self._traits.follows_instructions else "") or edit.prompt
        return Job(padded, np.pad(edit.mask, grow), prompt, edit.seed, (height, width))

    def _bucket(self, jobs: Sequence[Job]) -> list[Rgb | SampleError]:
        """All jobs of one size, in batches of what memory was found to hold."""
        answers: list[Rgb | SampleError] = []
        while len(answers) < len(jobs):
            size = self._batch_size if self._traits.batches else 1
            answers += self._attempt(jobs[len(answers) : len(answers) + size])
        return answers

    def _attempt(self, jobs: Sequence[Job]) -> list[Rgb | SampleError]:
        """One batch; when it fails, its halves, down to the sample at fault."""
        import torch

        try:
            answers = self._call(jobs)
        except FatalError:
            raise
        except StuckError:
            return [self._lost()] * len(jobs)
        except Exception as error:  # noqa: BLE001  (whatever a model raises costs one sample, not its batch)
            failure = _failure(error, self._settings.time_limit_s)
        else:
            self._stuck_calls = 0
            return answers
        if len(jobs) == 1:
            return [failure]
        # Outside the except block: the traceback kept the failed batch's tensors alive.
        middle = (len(jobs) + 1) // 2
        if failure.code == "editor_out_of_memory":
            self._batch_size = min(self._batch_size, middle)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return self._bucket(jobs)
        return [*self._attempt(jobs[:middle]), *self._attempt(jobs[middle:])]

    def _lost(self) -> SampleError:
        """Gives up the pipeline that a stuck call holds; the next call loads another."""
        self._pipeline, self._stuck_calls = None, self._stuck_calls + 1
        if self._stuck_calls > 1:
            raise FatalError(
                f"The pipeline {self._settings.model} hung twice in a row, and each time a copy stayed in memory. "
                "Restart the process; if it happens again, try other drivers or a longer editing time limit."
            )
        return SampleError("editor_timeout", f"No step ended within {2 * (self._settings.time_limit_s or 0):g} s.")

    def _call(self, jobs: Sequence[Job]) -> list[Rgb | SampleError]:
        """One call of the pipeline. `jobs` have one size, and all of them a mask or none."""
        self._ready()  # a stuck call may have taken the pipeline away
        pipeline, limit_s = self._pipeline, self._settings.time_limit_s
        networks = getattr(pipeline, "components", {})
        if self._traits.follows_instructions and not jobs[0].mask.any():
            # It would follow the prompt, so only its autoencoder is asked.
            run = [partial(through_codec, pipeline, job.image) for job in jobs]
            return [
                accepted(job, call_within(limit_s, networks, one), False) for job, one in zip(jobs, run, strict=True)
            ]
        arguments = arguments_of(jobs, self._traits, self._fixed)
        output = call_within(limit_s, networks, lambda: inferred(pipeline, arguments, jobs[0].seed))
        answers = zip(jobs, pictures_in(output), flags_in(output, len(jobs)), strict=True)
        return [accepted(job, picture, flag) for job, picture, flag in answers]


def _padded(shape: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The least (height, width) in multiples that holds `shape` and is not too small or too thin for Flux2."""
    least = max(_LEAST_PX, math.ceil(max(shape) / _MOST_ASPECT))
    height, width = (math.ceil(max(least, side) / multiple) * multiple for side in shape)
    return height, width


def _failure(error: Exception, limit_s: float | None) -> SampleError:
    """The sample's refusal for what the pipeline raised; FatalError when the accelerator is gone."""
    text = str(error)
    if is_out_of_memory(error) or "can't allocate memory" in text:
        return SampleError("editor_out_of_memory", "The pipeline ran out of memory.")
    check_not_lost(error)
    if isinstance(error, PastDeadlineError):
        return SampleError("editor_timeout", f"One call took longer than {limit_s:g} s.")
    return SampleError("editor_failed", f"{type(error).__name__}: {text}")
