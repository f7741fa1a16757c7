"""Tiny models of sentence-transformers with random weights, written from their configuration."""

import json
from pathlib import Path
from typing import Any

import torch

VOCABULARY = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] is has red blue green black longer shorter more and no the "
    "sleeves dress very"
)
WORDS = VOCABULARY.count(" ") + 1
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
VISION = TOWER | {"image_size": 32, "patch_size": 16}
CONTEXT = 16


def _save(folder: Path, model: Any, processor: Any) -> Path:
    """As sentence-transformers itself saves a model of these two."""
    from sentence_transformers import SentenceTransformer

    plain = folder.with_name(f"{folder.name}-plain")
    model.save_pretrained(plain)
    processor.save_pretrained(plain)
    SentenceTransformer(str(plain), device="cpu").save(str(folder), create_model_card=False)
    return folder


def _tokenizer(folder: Path) -> Any:
    from transformers import BertTokenizer

    vocabulary = folder.with_suffix(".txt")
    vocabulary.write_text(VOCABULARY.replace(" ", "\n"))
    return BertTokenizer(str(vocabulary), model_max_length=CONTEXT)


def blip(folder: Path) -> Path:
    """A model that takes pictures, texts, and a picture with a text in one pass."""
    from transformers import BlipConfig, BlipImageProcessor, BlipModel, BlipProcessor

    text = TOWER | {"vocab_size": WORDS, "max_position_embeddings": CONTEXT}
    marks = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    config = BlipConfig(
        text_config=text | marks | {"encoder_hidden_size": 16, "projection_dim": 8},
        vision_config=VISION | {"projection_dim": 8},
        projection_dim=8,
        # Weights as large as trained ones, for features that differ from one another.
        initializer_range=0.5,
    )
    config.text_config.initializer_range = config.vision_config.initializer_range = 0.5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BlipModel(config)
    size = {"height": 32, "width": 32}
    return _save(folder, model, BlipProcessor(BlipImageProcessor(size=size), _tokenizer(folder)))


# Every message as its role, and what it holds in order.
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }} "
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% else %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}<|im_end|>{% endfor %}"
)


def qwen_vl(folder: Path) -> Path:
    """A language model that sees: pictures, texts and both are messages of one network."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLConfig,
        Qwen2VLImageProcessor,
        Qwen2VLModel,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    marks = [f"<|{name}|>" for name in ("im_start", "im_end", "vision_start", "vision_end")]
    marks += ["<|image_pad|>", "<|video_pad|>"]
    words = [*VOCABULARY.split(), "user", "system", *marks]
    place = {word: number for number, word in enumerate(words)}
    plain = Tokenizer(models.WordLevel(place, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="[PAD]",
        unk_token="[UNK]",
        additional_special_tokens=marks,
        extra_special_tokens={"image_token": marks[4], "video_token": marks[5]},
        model_max_length=64,
    )
    text = TOWER | {
        "vocab_size": len(words),
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "bos_token_id": None,
        "eos_token_id": place["<|im_end|>"],
    }
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 1}
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=place["<|image_pad|>"],
        video_token_id=place["<|video_pad|>"],
        vision_start_token_id=place["<|vision_start|>"],
        vision_end_token_id=place["<|vision_end|>"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2VLModel(config)
    pictures = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=16 * 28 * 28)
    processor = Qwen2VLProcessor(pictures, tokenizer, Qwen2VLVideoProcessor(), chat_template=CHAT)
    return _save(folder, model, processor)


def bert(folder: Path) -> Path:
    """A model of texts alone."""
    from transformers import BertConfig, BertModel

    config = BertConfig(**TOWER, vocab_size=WORDS, max_position_embeddings=CONTEXT)
    return _save(folder, BertModel(config), _tokenizer(folder))


def add_code(folder: Path) -> None:
    """Make a model's first module one of code in its folder."""
    code = "from sentence_transformers.base.modules import Transformer\n\n\n"
    (folder / "own.py").write_text(f"{code}class Own(Transformer):\n    pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "own.Own"
    (folder / "modules.json").write_text(json.dumps(modules))
