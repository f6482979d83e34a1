"""Pictures to words, with any image-to-text model of transformers that the user names."""

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, ProcessorMixin

from legato.errors import ModelError
from legato.models.transformers_model import LOADING_ERRORS, failure, quietly, source_of

QUESTION = "Describe this picture in one short sentence."
"""What a model that chats is asked; one that only captions is asked nothing."""
MAX_TOKENS = 40
"""Of a caption: about what a text encoder reads."""
REFILL = (
    "name a folder or a model at the hub that transformers loads for image-to-text with the "
    "packages that are here, such as Salesforce/blip-image-captioning-base"
)


class Captioner:
    """An image-to-text model with its image processor and tokenizer; captions are repeatable.

    Args:
        name: its folder, or its name at the Hugging Face hub.
        device: where to compute.

    Raises:
        ModelError: it is missing, damaged, not whole, or of another kind.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self._device = name, device
        self._dtype = torch.float32 if device.type == "cpu" else torch.float16
        try:
            with quietly():
                missing = self._load()
        except LOADING_ERRORS as error:
            raise self._failed("cannot be loaded", error) from error
        if missing:
            raise ModelError(
                f"caption model {name!r} is not whole",
                why=f"it lacks {', '.join(missing[:10])}",
                fix=REFILL,
            )
        self._model.to(device).eval().requires_grad_(False)

    def _load(self) -> list[str]:
        """Load every part; return the weights that are missing."""
        from transformers import AutoModelForImageTextToText  # not in old versions

        source = source_of(self.name)
        self._processor: Any = AutoProcessor.from_pretrained(**source)
        is_joint = isinstance(self._processor, ProcessorMixin)  # else the tokenizer alone
        self._chats = is_joint and self._processor.chat_template is not None
        if not self._chats:
            self._images = AutoImageProcessor.from_pretrained(**source)
            self._tokenizer = AutoTokenizer.from_pretrained(**source)
        self._model, report = AutoModelForImageTextToText.from_pretrained(
            **source, use_safetensors=True, dtype=self._dtype, output_loading_info=True
        )
        return sorted(report["missing_keys"])

    @torch.no_grad()
    def __call__(self, picture: UInt8[np.ndarray, "H W 3"]) -> str:
        """Return one line about an RGB picture as it is shown.

        Raises:
            ModelError: the model cannot caption.
        """
        try:
            with quietly():
                text = self._answer(picture) if self._chats else self._caption(picture)
        except LOADING_ERRORS as error:
            raise self._failed("cannot caption a picture", error) from error
        return " ".join(text.split())

    def _caption(self, picture: UInt8[np.ndarray, "H W 3"]) -> str:
        inputs = self._images(images=picture, return_tensors="pt").to(self._device, self._dtype)
        tokens = self._model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        text: str = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)[0]
        return text

    def _answer(self, picture: UInt8[np.ndarray, "H W 3"]) -> str:
        from PIL import Image  # comes with diffusers

        image = Image.fromarray(picture)
        content = [{"type": "image", "image": image}, {"type": "text", "text": QUESTION}]
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._device, self._dtype)
        tokens = self._model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        asked = inputs["input_ids"].shape[1]
        text: str = self._processor.batch_decode(tokens[:, asked:], skip_special_tokens=True)[0]
        return text

    def _failed(self, what: str, error: Exception) -> ModelError:
        return failure(f"caption model {self.name!r} {what}", error, fix=REFILL)
