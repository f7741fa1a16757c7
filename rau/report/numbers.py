"""How pages write numbers."""

import re

_ZERO = re.compile(r"(?<!\w)[+-](0(?:\.0+)?)(?![\d.])")
# Not the hyphen of `kept-forward`, of ViT-B-32 or of 1e-5, which is to be copied.
_NEGATIVE = re.compile(r"(?<!\w)-(?=[\d.])")


def minus(text: str) -> str:
    """The numbers of a text as typography has them: a true minus, and no sign of a zero."""
    return _NEGATIVE.sub("\N{MINUS SIGN}", _ZERO.sub(r"\1", text))


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; what is zero in so many decimals has none."""
    return minus(f"{value:+.{digits}f}")
