"""CLIP models: export, load, tokenise, forward passes."""
