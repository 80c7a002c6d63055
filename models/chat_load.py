"""How a chat model's weights and its processor are loaded."""

import importlib.util
from dataclasses import dataclass
from typing import Any

from models.quantize import in_int8
from models.settings import Dtype, Quantize
from storage.errors import FatalError

_NO_TORCHVISION_FALLBACK = {
    "qwen2_vl": "Qwen2VLProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), "Qwen3VLProcessor"),
}


@dataclass(frozen=True)
class LoadedChat:
    """A model on its device, and what makes its inputs."""

    model: Any
    processor: Any  # a processor for a vision model, a tokenizer for a text model
    tokenizer: Any
    has_vision: bool


def load_chat(
    source: str, revision: str | None, dtype: Dtype, max_pixels: int | None, quantize: Quantize | None
) -> LoadedChat:
    import torch
    import transformers

    cuda = torch.cuda.is_available()
    chosen = ("bfloat16" if cuda else "float32") if dtype == "auto" else dtype
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # the library warns of every class that lacks torchvision
    try:
        config = transformers.AutoConfig.from_pretrained(source, revision=revision)
        has_vision = getattr(config, "vision_config", None) is not None
        auto = transformers.AutoModelForImageTextToText if has_vision else transformers.AutoModelForCausalLM
        model = auto.from_pretrained(source, revision=revision, dtype=getattr(torch, chosen))
        processor = load_processor(source, revision, config.model_type, has_vision)
    except (OSError, ValueError, ImportError) as error:
        raise FatalError(f"The model {source} cannot be loaded: {error}") from error
    finally:
        transformers.logging.set_verbosity(level)
    tokenizer = processor.tokenizer if has_vision else processor
    tokenizer.padding_side = "left"  # generation goes on at the right end
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if has_vision and max_pixels is not None:
        size = dict(processor.image_processor.size)
        processor.image_processor.size = size | {"longest_edge": max_pixels}
    if quantize:
        in_int8(model)
    model.to("cuda" if cuda else "cpu").eval()
    return LoadedChat(model, processor, tokenizer, has_vision)


def processor_for(source: str, revision: str | None = None) -> Any:
    """The processor of a vision model as this machine can load it, for code that trains the model."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(source, revision=revision)
    return load_processor(source, revision, config.model_type, has_vision=True)


def load_processor(source: str, revision: str | None, model_type: str, has_vision: bool) -> Any:
    """The stock processor (a text model's tokenizer); for a Qwen-VL without torchvision, the same less its video part.

    Raises what transformers raises when `source` holds none: OSError, ValueError, ImportError.
    """
    import transformers

    if not has_vision:
        return transformers.AutoTokenizer.from_pretrained(source, revision=revision)
    if importlib.util.find_spec("torchvision") or model_type not in _NO_TORCHVISION_FALLBACK:
        return transformers.AutoProcessor.from_pretrained(source, revision=revision)
    stock = getattr(transformers, _NO_TORCHVISION_FALLBACK[model_type])
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, revision=revision)
    images = transformers.AutoImageProcessor.from_pretrained(source, revision=revision, backend="pil")

    def without_video(self: Any, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        for name in ("vision_start", "vision_end"):  # Qwen3-VL reads these too
            setattr(self, f"{name}_token", f"<|{name}|>")
            setattr(self, f"{name}_token_id", tokenizer.convert_tokens_to_ids(f"<|{name}|>"))
        transformers.ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    image_only = type("ImageOnlyProcessor", (stock,), {"__init__": without_video})
    return image_only(images, tokenizer, chat_template=tokenizer.chat_template or _template(source, revision))


def _template(source: str, revision: str | None) -> str:
    from transformers.utils import cached_file

    path = cached_file(source, "chat_template.jinja", revision=revision)
    with open(path, encoding="utf-8") as file:
        return file.read()
