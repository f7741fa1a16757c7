"""The towers of an open_clip model as fine-tuning sees them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rau.encoders.clip import Encoder
from rau.encoders.forward import autocast, normalise, text_features
from rau.encoders.towers import Side, side_of
from rau.params import FinetuneParams


class Towers:
    """The model of an encoder, with gradients in the towers that are trained.

    The scale of CLIP's own loss is not: composers have a temperature of their own.

    Attributes:
        model: open_clip's.
        trained: names of the towers.
        weights: what is trained, by its name in the model.
    """

    def __init__(self, encoder: Encoder, finetune: FinetuneParams, dtype: torch.dtype) -> None:
        """Args: an encoder on its device, how to train it, and the dtype of matrix products."""
        self.model: Any = encoder.model
        self.trained: tuple[Side, ...] = (
            ("image", "text") if finetune.towers == "both" else (finetune.towers,)  # type: ignore[assignment]
        )
        self._encoder, self._dtype = encoder, dtype
        self._frozen_batch_norm = finetune.frozen_batch_norm
        self.weights: dict[str, nn.Parameter] = {}
        for name, weight in self.model.named_parameters():
            # A tower that came partly locked stays so.
            weight.requires_grad_(side_of(name) in self.trained and weight.requires_grad)
            if weight.requires_grad:
                self.weights[name] = weight
        if finetune.checkpointing:
            _checkpoint(self.model)
        if finetune.compile:
            # Of the text tower the blocks: what is around them is copied for shorter texts.
            text = getattr(self.model, "text", self.model).transformer
            for module in (self.model.visual, text):
                module.compile(dynamic=True)

    def train(self) -> None:
        """Training mode in the trained towers; evaluation mode elsewhere, also in BatchNorm if
        its statistics are frozen."""
        self.model.train()
        for name, module in self.model.named_modules():
            norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
            if name and (
                side_of(name + ".") not in self.trained or (norm and self._frozen_batch_norm)
            ):
                module.training = False

    def eval(self) -> None:
        """Evaluation mode."""
        self.model.eval()

    def images(self, pictures: Tensor) -> Tensor:
        """Raw features (B, d), float32, of uint8 pictures (B, height, width, 3) on any device."""
        transform = self._encoder.preprocess.transforms[-1]
        pixels = normalise(self._moved(pictures), transform.mean, transform.std)
        return self._forward(self.model.encode_image, pixels)

    def texts(self, tokens: Tensor) -> Tensor:
        """Raw features (B, d), float32, of tokens (B, L) on any device."""
        return self._forward(partial(text_features, self.model), self._moved(tokens))

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Whatever of the model training changes: weights, and BatchNorm's statistics."""
        yield from self.weights.items()
        if not self._frozen_batch_norm:
            for name, buffer in self.model.named_buffers():
                if side_of(name) in self.trained:
                    yield name, buffer

    def _moved(self, inputs: Tensor) -> Tensor:
        return inputs.to(self._encoder.device, non_blocking=True)

    def _forward(self, tower: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        with autocast(self._dtype, self._encoder.device):
            return tower(inputs).float()


def _checkpoint(model: Any) -> None:
    """Keep only the inputs of each block and compute its inside anew in the backward pass."""
    model.set_grad_checkpointing(True)
    if isinstance(model.visual, ModifiedResNet):  # For which open_clip has none.
        for layer in (getattr(model.visual, f"layer{n}") for n in range(1, 5)):
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
