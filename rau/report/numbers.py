"""How pages write numbers."""

import re

# Not the hyphen of `kept-forward`, of ViT-B-32 or of 1e-5, which is to be copied.
_NEGATIVE = re.compile(r"(?<!\w)-(?=[\d.])")


def minus(text: str) -> str:
    """The negative numbers of a text with the sign that typography has for them."""
    return _NEGATIVE.sub("\N{MINUS SIGN}", text)


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; zero, and what is zero in so many decimals, has none."""
    rounded = round(value, digits)
    return minus(f"{rounded:+.{digits}f}") if rounded else f"{0:.{digits}f}"
