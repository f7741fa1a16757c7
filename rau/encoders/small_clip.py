"""A small CLIP for the built-in data, trained on pictures drawn for that purpose alone."""

import math
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg
from torch import Tensor

from rau.datasets.garments import draw_pairs
from rau.encoders.clip import save
from rau.encoders.forward import normalise
from rau.encoders.label import write_label
from rau.errors import UserError
from rau.files import new_folder
from rau.lr_schedule import factor
from rau.params import BUILT_IN_ENCODER
from rau.progress import tqdm

NAME = BUILT_IN_ENCODER
CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    # A small ResNet: with this little data a ViT of 16-pixel patches misses collars and buttons.
    "vision_cfg": {
        "image_size": 64,
        "layers": [1, 1, 1, 1],
        "width": 16,
        "head_width": 128,
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 49408,
        "width": 64,
        "heads": 2,
        "layers": 2,
    },
}
LEARNING_RATE = 2e-3


def check(pretrained: str | None) -> None:
    """Refuse weights for a model that is trained here."""
    if pretrained is not None:
        raise UserError(f"encoder.pretrained must be null: {NAME} is trained by this stage")


def train(folder: Path, seed: int, steps: int, batch_size: int, pairs: int, workers: int) -> float:
    """Draw pairs, train with CLIP's loss and write an open_clip folder; returns the last loss.

    Deterministic for a seed and a number of threads.

    Raises:
        UserError: when the batch is larger than the pairs, or the loss is not finite.
    """
    if batch_size > pairs:
        raise UserError(f"encoder.batch_size={batch_size} is more than encoder.pairs={pairs}")
    size = CONFIG["vision_cfg"]["image_size"]
    preprocess = PreprocessCfg(size=size)
    pictures, captions = draw_pairs(pairs, size, seed, workers)
    context = CONFIG["text_cfg"]["context_length"]
    tokens = open_clip.SimpleTokenizer(context_length=context)(captions)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(**CONFIG)
        set_model_preprocess_cfg(model, vars(preprocess))
        loss = _fit(model, torch.from_numpy(pictures), tokens, steps, batch_size, seed)
    with new_folder(folder) as temporary:
        save(temporary, model, CONFIG)
        write_label(temporary, NAME, f"{steps} steps, seed {seed}")
    return loss


def _fit(
    model: Any, pictures: Tensor, tokens: Tensor, steps: int, batch_size: int, seed: int
) -> float:
    transform = PreprocessCfg(**model.visual.preprocess_cfg)
    model.visual = model.visual.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=0.05, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: factor(s, steps))
    criterion = open_clip.ClipLoss()
    value = float("nan")
    order = torch.empty(0, dtype=torch.long)
    with tqdm(total=steps, desc="train encoder", unit="step") as bar:
        for _ in range(steps):
            if len(order) < batch_size:
                order = torch.randperm(len(pictures), generator=generator)
            rows, order = order[:batch_size], order[batch_size:]
            pixels = normalise(pictures[rows], transform.mean, transform.std)
            image, text, scale = model(pixels, tokens[rows])
            loss = criterion(image, text, scale)
            value = loss.item()
            if not math.isfinite(value):
                raise UserError(f"the encoder's loss became {value}; try another encoder.seed")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            bar.update()
            bar.set_postfix(loss=f"{value:.3f}", refresh=False)
    return value
