"""Words encoded once give the tokens that CLIP's own tokenizer gives."""

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rau.encoders.words import WordTokenizer, quick

ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
CLEANING = ("lower", "canonicalize", "whitespace")
PLAIN = {how: open_clip.SimpleTokenizer(context_length=24, clean=how) for how in CLEANING}
QUICK = {how: quick(plain) for how, plain in PLAIN.items()}


@settings(deadline=None, max_examples=300)
@given(st.lists(ASCII | st.text(max_size=20), min_size=1, max_size=3), st.sampled_from(CLEANING))
def test_any_text(texts: list[str], how: str) -> None:
    assert torch.equal(QUICK[how](texts), PLAIN[how](texts))


@pytest.mark.parametrize("how", CLEANING)
def test_hard_ones(how: str) -> None:
    texts = [
        "",
        "  is RED,  and doesn't have_a 't-shirt'  ",
        "<start_of_text> <end_of_text>",
        "&lt;b&gt; & so on",
        "l\u2019\u00e9t\u00e9 \ufb01ne",
        "word " * 40,
        "tab\tand\nline",
        "\t \n",
        "it's 100% well-made, isn't it?! 1234",
        "red &amp; blue &amp;amp; caf\u00c3\u00a9",
        "unbreakable" * 20,
        "\u8d64\u3044\u3000\u670d " * 20,
        "is red",
    ]
    assert torch.equal(QUICK[how](texts), PLAIN[how](texts))
    for text in texts:
        assert torch.equal(QUICK[how]([text]), PLAIN[how]([text]))
    assert torch.equal(QUICK[how]([]), PLAIN[how]([]))


def test_other_tokenizers_stay_as_they_are() -> None:
    assert isinstance(QUICK["lower"], WordTokenizer)
    reduced = open_clip.SimpleTokenizer(context_length=24, reduction_mask="simple")
    for tokenizer in (reduced, str.split):
        assert quick(tokenizer) is tokenizer


def test_another_context() -> None:
    texts = ["word " * 40, "is red"]
    assert torch.equal(QUICK["lower"](texts, context_length=30), PLAIN["lower"](texts, 30))
