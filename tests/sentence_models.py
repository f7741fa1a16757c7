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
