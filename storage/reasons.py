"""Every reason for which a row is refused: its code, what was found, and what to do about it.

Codes are stable: people filter on them. `docs/reasons.md` is this table, and the report and `status` quote it.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """What a code means. One that `may_pass` is a server's, a disk's or a device's: the next build tries the row again.
    Any other is the row's own, and the same build would find it again."""

    measured: str
    remedy: str
    may_pass: bool = False


REASONS: Mapping[str, Reason] = {
    # ingest and dedup
    "unsupported_format": Reason(
        "a name of no format that is read (JPEG, PNG, WebP, AVIF, BMP, GIF, TIFF), or HEIC or AVIF without its decoder",
        "convert it; HEIC needs the extra heic",
    ),
    "not_an_image": Reason("its bytes are none of these formats", "convert it, or leave it out"),
    "mislabelled": Reason("its name says one format, its bytes another", "rename it"),
    "empty_file": Reason("no bytes", "fetch it again"),
    "truncated": Reason("the file ends or breaks before the picture does", "fetch it again"),
    "unreadable": Reason("the system could not read the file", "check its permissions and its disk", may_pass=True),
    "not_a_file": Reason("a named pipe, a socket, a device or a folder; it was not opened", "leave it out"),
    "outside_folder": Reason(
        "a path that leads out of the folder of its table or manifest", "name its folder: `ingest.columns.root`"
    ),
    "too_many_bytes": Reason("more bytes than `ingest.max_bytes`; it was not read", "shrink it, or raise the cap"),
    "too_many_pixels": Reason("more pixels than `ingest.max_pixels`; not decoded", "shrink it, or raise the cap"),
    "too_thin": Reason("one side is more than `ingest.max_aspect` times the other", "crop it; models take up to 200"),
    "unsupported_mode": Reason("floating-point pixels, which have no agreed range", "convert it to 8 or 16 bits"),
    "blocked_hash": Reason("its bytes, or an image that looks like it, are on `ingest.block_list`", "none: stays out"),
    "forgotten": Reason("`guardset forget` removed its image from this workspace", "none: stays out"),
    "exact_duplicate": Reason("the same bytes as another image", "none: one of them is kept"),
    # locate
    "not_in_manifest": Reason("the manifest does not list it", "list it, with no regions where it shows nothing"),
    "manifest_ambiguous": Reason("several tasks of the export may be this file", "name files by their whole path"),
    "manifest_unknown_label": Reason(
        "the vocabulary knows none of its labels", "map them, or ignore them with null: `editing.locate.label_map`"
    ),
    "manifest_wrong_size": Reason(
        "the manifest's width and height have another shape than the upright picture", "mark the upright picture"
    ),
    "manifest_bad_mask": Reason("a mask of the manifest is empty, unreadable or of another size", "mend the mask"),
    "manifest_bad_box": Reason("a box of the manifest has no area inside the image", "mend the box"),
    "source_no_boxes": Reason("the source gives no list of boxes", "give an empty list where an image shows nothing"),
    "source_no_label": Reason("a box without a label", "give one label per box"),
    "source_unknown_label": Reason("a label that the vocabulary does not know", "map it: `editing.locate.label_map`"),
    "source_bad_box": Reason("what the source gives is no box, or has no area", "mend the box"),
    "minor_beside_sensitive": Reason(
        "it shows a minor and something sensitive", "nothing: such an image is never edited, captioned or shown"
    ),
    "locator_truncated": Reason("the locator's answer has no end", "raise `editing.locate.max_new_tokens`"),
    "locator_unparsable": Reason("the locator's answer holds no list", "another prompt, or a stronger model"),
    "locator_unknown_rule": Reason("it names a rule that no policy has", "another prompt, or a stronger model"),
    "locator_no_instruction": Reason("it does not tell the editor what to do", "another prompt, or a stronger model"),
    "locator_bad_box": Reason("its box is not valid, or is in other units", "check `editing.locate.box_units`"),
    # edit
    "mask_too_large": Reason(
        "less of the scene would be left beside the mask than `editing.edit.min_scene_left`",
        "tighter regions or masks, or lower it",
    ),
    "mask_empty": Reason("no pixel is masked", "check the regions"),
    "editor_no_codec": Reason("the editor cannot pass a picture through its codec", "turn round trips off"),
    "editor_wrong_size": Reason("the editor's picture has another size than asked for", "check the editor's sizes"),
    "editor_flagged": Reason("the editor's safety checker refused its own output", "another prompt or editor"),
    "editor_not_finite": Reason("the output holds NaN or infinite values", "another dtype: bfloat16 or float32"),
    "editor_black": Reason("the output is black and the input was not", "another dtype or VAE, or a safety filter"),
    "editor_refused": Reason("the endpoint refused this request", "read its words in `detail`"),
    "editor_bad_reply": Reason("the endpoint's answer holds no usable picture", "check the endpoint", may_pass=True),
    "editor_failed": Reason("the pipeline raised an error", "read it in `detail`", may_pass=True),
    "editor_timeout": Reason("no answer within the time limit", "raise the limit, or ask again", may_pass=True),
    "editor_out_of_memory": Reason("one picture alone does not fit", "a smaller `editing.edit.size_px`", may_pass=True),
    "editor_unavailable": Reason("all attempts failed", "ask again when the endpoint is well", may_pass=True),
    # certify, select
    "black_output": Reason("the brightest value inside the mask: a safety filter's black", "another prompt or seed"),
    "shifted": Reason("shift and zoom against the original, outside the mask", "`mode: composite`, or another editor"),
    "outside_changed": Reason(
        "composite: largest difference outside; free: SSIM (window 11, sigma 1.5), the tile that differs most, LPIPS",
        "`mode: composite`",
    ),
    "unchanged": Reason("share of masked pixels that changed visibly", "more `strength` or `steps`, clearer words"),
    "detail_kept": Reason(
        "agreement of blocks inside the mask with the original at their own place, beyond chance",
        "more `strength` or `steps`, a larger `dilate_ratio`, more candidates",
    ),
    "flat_fill": Reason("share of the fill with less grain than its surroundings", "another editor, seed or prompt"),
    "rough_fill": Reason("share of the fill with more grain than its surroundings", "another editor, seed or prompt"),
    "visible_seam": Reason("share of the mask's border where a step shows", "another seed, a larger `context_ratio`"),
    "new_text": Reason("words inside the mask that the original does not have", "another seed or prompt"),
    "witness_blind": Reason(
        "the witness does not see the target in the original", "another `certify.witness`, clearer nouns"
    ),
    "already_there": Reason(
        "the witness sees in the original what was to be put in", "none: the original was not safe"
    ),
    "insertion_missing": Reason(
        "no witness sees what was to be put in, at its place", "another editor, seed or prompt; clearer nouns"
    ),
    "target_still_there": Reason("the witness still sees a target", "more candidates, a larger `dilate_ratio`"),
    "neutral_lost": Reason("the witness misses what was to stay", "a smaller mask; try the witness on originals"),
    "new_attribute": Reason("the witness sees what was not there before", "another seed or prompt"),
    "question_failed": Reason("a model did not say yes to your question", "read `certificate.answers`"),
    # caption, second look, rewrite, certify
    "caption_refused": Reason("the captioner declines to describe", "another captioner or prompt"),
    "caption_empty": Reason("the caption has no words", "another captioner or prompt"),
    "caption_truncated": Reason("the caption has no end", "raise `recaption.caption.max_new_tokens`"),
    "caption_looped": Reason("the caption repeats itself without end", "another captioner, or a temperature"),
    "finding_not_confirmed": Reason("the mirrored image shows other kinds, or another count", "a stronger locator"),
    "place_not_confirmed": Reason("the mirrored image shows them elsewhere", "a stronger locator"),
    "caption_not_english": Reason("the caption is in another language", "ask for English in the prompt"),
    "rewrite_not_english": Reason("the recaption is in another language", "ask for English in the prompt"),
    "rewrite_refused": Reason("the rewriter declines", "another rewriter or prompt"),
    "rewrite_empty": Reason("the rewriter's answer has no words", "another rewriter or prompt"),
    "rewrite_truncated": Reason("the rewriter's answer has no end", "raise `recaption.rewrite.max_new_tokens`"),
    "rewrite_looped": Reason("the rewriter repeats itself without end", "another rewriter, or a temperature"),
    "recaption_refused": Reason("the recaption reads like a refusal", "another rewriter or prompt"),
    "verdict_word": Reason(
        'it judges, other than in a noun such as "warning sign"', "another prompt: say what is seen"
    ),
    "neutral_fact_changed": Reason(
        "a number, colour, count, name, kind or place is gone or moved", "a stronger rewriter"
    ),
    "finding_denied": Reason("a finding is said not to be there", "a stronger rewriter"),
    "minor_in_sentence": Reason("a finding put into a sentence about a minor", "none: no such text is made"),
    "wrong_owner": Reason("a finding in another sentence than the words that stood for it", "a stronger rewriter"),
    "odd_characters": Reason("another script, an emoji, markup or invisible signs were put in", "a stronger rewriter"),
    "ungrounded_insertion": Reason("words that have to do with no finding", "a stronger rewriter"),
    "only_depicted": Reason("a picture, a toy or a likeness of a finding", "a stronger rewriter"),
    "finding_hedged": Reason("a finding is doubted", "a stronger rewriter"),
    "wrong_count": Reason("more or fewer of a finding than were found", "a stronger rewriter"),
    "needs_witness": Reason(
        "words about a finding that only somebody who sees the image can judge", "`confirm_spans` asks a model"
    ),
    "witness_denies": Reason("the model that sees the image does not confirm such words", "a stronger rewriter"),
    "wrong_place": Reason("a finding placed where it was not found", "a stronger rewriter"),
    "finding_not_covered": Reason("a finding is still missing", "a stronger rewriter, or a synonym in the vocabulary"),
    "kept_too_little": Reason("too few words of the caption survive in order", "a stronger rewriter"),
    "too_long": Reason("longer than an edit may be", "a stronger rewriter, or `max_length_ratio`"),
    # delta: an edit's second opinion, which refuses nothing
    "still_said": Reason("the edited image's caption names what was to go", "look at the pair"),
    "sensitive_added": Reason("the edited image's caption names something sensitive and new", "look at the pair"),
    "neutral_changed": Reason("the captions differ in something that was to stay", "look at the pair"),
    "never_said": Reason("the original's text does not name what was to go", "none: the texts cannot tell"),
    "withheld": Reason("the edited image's caption leaves out what was to stay", "none: the texts cannot tell"),
    "other_words": Reason("the captions have too few words in common", "none: the texts cannot tell"),
    # a model is asked
    "chat_failed": Reason("all attempts failed", "ask again when the server is well", may_pass=True),
    "chat_bad_request": Reason("the server refuses this request", "read its words in `detail`"),
    "chat_bad_reply": Reason("the server's answer is no chat completion", "check the server", may_pass=True),
    "chat_content_filter": Reason("the server's content filter stopped the answer", "a server without one"),
    "chat_too_long": Reason("the request is longer than the model's context", "cap `max_pixels`, or a longer context"),
    "chat_refused": Reason("the server says that the model refused", "another model or prompt"),
    "chat_out_of_memory": Reason("one request alone does not fit", "cap `max_pixels`", may_pass=True),
    "image_broken": Reason("the benchmark's image does not decode", "fetch the benchmark again"),
    # people's answers
    "unknown_image": Reason("its task was not published from this workspace", "label in the published project"),
    "unknown_pair": Reason("its task was not published from this workspace", "label in the published project"),
    "unknown_annotator": Reason("no user of that id", "restore the account"),
    "changed_by_another": Reason("somebody else than its author wrote it last", "let its author submit it again"),
    "too_fast": Reason("quicker than `annotation.min_duration_s`, or without any time", "label on the page"),
    "malformed_result": Reason("not what the page sends", "label on the page"),
    "not_in_config": Reason("a choice that the page does not have", "label on the page"),
    "missing_verdict": Reason("a policy without a verdict", "answer every row, or skip"),
    "several_verdicts": Reason("a policy with several verdicts, or an attribute in both lists", "answer each row once"),
    "missing_answer": Reason("not one answer to a question, or a list not gone through", "answer every row once"),
    "unknown_rule": Reason("a rule that no policy has", "label on the page"),
    "rule_of_another_policy": Reason("a rule of another policy", "label on the page"),
    "unsafe_without_rule": Reason("unsafe, and no rule is named", "name the rule"),
    "rules_without_unsafe": Reason("rules are named, and the verdict is not unsafe", "say unsafe, or untick the rules"),
    # pairs that others made, as `guardset audit` judges them
    "pair_unpaired": Reason("the other side is missing", "fetch it, or say with --suffix how edited files are named"),
    "pair_untouched": Reason("both sides have the same pixels", "leave the pair out, or edit it again"),
    "pair_reencoded": Reason(
        "no block of the picture differs by more than a codec, a resize or noise explain",
        "leave the pair out, or edit it again",
    ),
    "pair_moved": Reason(
        "matched points lie elsewhere: shifted, cropped, stretched, turned or mirrored",
        "edit without moving the picture, or crop both sides alike",
    ),
    "pair_regenerated": Reason(
        "more than half of the picture changed, or places all over it", "an editor that keeps the scene"
    ),
    "pair_recoloured": Reason("colours differ all over the picture", "give the edit the original's colours"),
    "pair_outside_mask": Reason("places outside the given mask changed, too", "paste only the masked part back"),
    "pair_target_left": Reason(
        "detail of the original is still there where it was edited, beyond chance", "look at it, and edit it again"
    ),
    "pair_relabelled": Reason(
        "the labels of both sides differ, and the picture did not change", "one of the labels is wrong: judge it again"
    ),
    "pair_not_flipped": Reason(
        "both sides have the same label under every policy", "judge it again, or use it as a control"
    ),
    "labels_contradict": Reason(
        "equal pictures have different labels under one policy", "judge them again, and keep one label"
    ),
    "pair_in_two_splits": Reason("its sides are in different splits", "keep both sides in one split"),
    "family_in_two_splits": Reason(
        "a copy of it, or a crop, is in another split", "keep copies of one picture in one split"
    ),
    # whatever nobody foresaw
    "out_of_memory": Reason(
        "the machine's memory did not hold this row, even by itself", "more memory, or smaller pictures", may_pass=True
    ),
    "unexpected_error": Reason("an error that nobody foresaw", "read it in `detail`, and report it", may_pass=True),
}  # fmt: skip


def reasons_against(*checks: tuple[str, bool]) -> tuple[str, ...]:
    """The codes of the checks that hold, in their order; raises ValueError for a code that is not in the catalogue."""
    return tuple(code for code, holds in [(catalogued(code), holds) for code, holds in checks] if holds)


def catalogued(code: str) -> str:
    """The code; raises ValueError where the catalogue does not have it."""
    if code not in REASONS:
        raise ValueError(f"{code} is not in the catalogue of reasons")
    return code


MAY_PASS = frozenset(code for code, reason in REASONS.items() if reason.may_pass)
"""What the next run tries again."""


def remedy_of(code: str) -> str:
    """What to do; "" for a code of another release."""
    return REASONS[code].remedy if code in REASONS else ""


def as_markdown() -> str:
    """The catalogue as a table."""
    lines = ["| code | what was found | what to do | tried again |", "|---|---|---|---|"]
    lines += [
        f"| `{code}` | {one.measured} | {one.remedy} | {'yes' if one.may_pass else 'no'} |"
        for code, one in REASONS.items()
    ]
    return "\n".join(lines) + "\n"
