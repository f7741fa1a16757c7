"""Image-and-text models of sentence-transformers, loaded from a folder of their own files.

Pictures are documents, texts and pairs of picture and text are queries: a model that has prompts or
routes for these gets its own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rau.encoders.forward import Precision
from rau.encoders.label import loading, read_whole
from rau.errors import UserError
from rau.files import digest
from rau.pictures import as_rgb

# Raise it when encoding changes: it is part of the key of every feature.
RECIPE = 1
LEAST_VERSION = (6, 2)


@dataclass(frozen=True)
class Encoder:
    """A loaded model, an `encoder.Encoder`; its two towers may be one network."""

    model: Any
    device: torch.device
    name: str
    weights: str
    key: str
    # Its processor and tokenizer keep the settings of the last call.
    parallel: bool = False
    preprocessing: str = "the model's own processor"

    @property
    def image_key(self) -> str:
        """The model's: its towers are not told apart."""
        return self.key

    @property
    def text_key(self) -> str:
        """The model's."""
        return self.key

    @property
    def dtype(self) -> torch.dtype:
        """That of its weights."""
        found: torch.dtype = self.model.dtype or torch.float32
        return found

    def load_images(self, sources: Sequence[Path | bytes | Image.Image]) -> list[Image.Image]:
        """Decode pictures; errors as in `rau.pictures.open_rgb`."""
        return [as_rgb(source) for source in sources]

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Features (B, d), float32 on the CPU."""
        return self._encode(self.model.encode_document, list(images))

    def by_length(self, texts: Sequence[str]) -> tuple[list[int], Callable[[slice], list[str]]]:
        """Rows of the texts, the longest in characters first, and what gives a slice of them."""
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        ordered = [texts[row] for row in order]
        return order, ordered.__getitem__

    def encode_tokens(self, tokens: Sequence[str]) -> Tensor:
        """Features (B, d) of texts: the model tokenises by itself."""
        return self.encode_texts(tokens)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Features (B, d), float32 on the CPU."""
        # Said to be text: of a plain string the model would fetch what looks like an address.
        return self._encode(self.model.encode_query, [{"text": text} for text in texts])

    @property
    def encode_pairs(self) -> Callable[[Sequence[Image.Image], Sequence[str]], Tensor] | None:
        """Gives features (B, d) of pictures and texts in one pass, where the model has one."""
        return self._encode_pairs if self.model.supports(("image", "text")) else None

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the context, so that their end is left out."""
        tokenizer, most = getattr(self.model, "tokenizer", None), self.model.max_seq_length
        if tokenizer is None or most is None or not texts:
            return 0
        prompt = self.model.prompts.get("query") or ""
        with _quiet():
            tokens = tokenizer([prompt + text for text in texts], truncation=False)["input_ids"]
        return sum(len(own) > most for own in tokens)

    def _encode_pairs(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
        pairs = zip(images, texts, strict=True)
        both = [{"image": image, "text": text} for image, text in pairs]
        return self._encode(self.model.encode_query, both)

    def _encode(self, encode: Callable[..., Tensor], inputs: Sequence[Any]) -> Tensor:
        with _quiet():
            found = encode(
                inputs, batch_size=len(inputs), show_progress_bar=False, convert_to_tensor=True
            )
        return found.float().cpu()


def library() -> Any:
    """The package `sentence_transformers`.

    Raises:
        UserError: when it is not installed, or too old.
    """
    remedy = "encoder.name=st:… needs sentence-transformers 6.2 or later: pip install 'rau[st]'"
    try:
        import sentence_transformers
    except ImportError as error:
        raise UserError(remedy) from error
    version = sentence_transformers.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_VERSION:
        raise UserError(f"{remedy} (it is {version})")
    return sentence_transformers


def load(
    folder: Path,
    device: torch.device,
    precision: Precision = "auto",
    trust_remote_code: bool = False,
) -> Encoder:
    """Load a folder that `sentence_export` wrote, without network.

    Args:
        precision: of the weights and of what is computed with them; `auto` is float32 on a CPU, and
            as the weights are stored elsewhere.

    Raises:
        UserError: when any of its files differs from what was written, its code is not trusted, or
            it cannot be loaded.
    """
    st = library()
    label = read_whole(folder)
    dtype = precision if precision != "auto" or device.type != "cpu" else "float32"
    with loading(folder), _trusting(trust_remote_code, label.name), _quiet():
        model = st.SentenceTransformer(
            str(folder.resolve()),
            device=str(device),
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        )
    return Encoder(
        model=model.eval(),
        device=device,
        name=label.name,
        weights=label.pretrained or "own",
        key=digest([RECIPE, label.files], 16),
    )


@contextmanager
def _trusting(trust_remote_code: bool, name: str) -> Iterator[None]:
    """Say how to allow the code that a model needs."""
    try:
        yield
    except ValueError as error:
        if trust_remote_code or "trust_remote_code" not in str(error):
            raise
        raise UserError(
            f"encoder.name={name} brings code of its own that it needs; read it, then set "
            "encoder.trust_remote_code=true"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and warnings of transformers; what matters is raised."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
