"""Formatting of numbers on pages."""

import re

_ZERO = re.compile(r"(?<!\w)[+-](0(?:\.0+)?)(?![\d.])")
# Not the hyphen of `kept-forward`, ViT-B-32 or 1e-5, which may be copied.
_NEGATIVE = re.compile(r"(?<!\w)-(?=[\d.])")


def minus(text: str) -> str:
    """Typeset the numbers in a text: a true minus sign, and no sign for zero."""
    return _NEGATIVE.sub("\N{MINUS SIGN}", _ZERO.sub(r"\1", text))


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; without a sign if it rounds to zero."""
    return minus(f"{value:+.{digits}f}")
