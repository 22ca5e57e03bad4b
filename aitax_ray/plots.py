"""Pictures inside HTML: labels that can be drawn, matplotlib figures as PNG, any picture as a data URL."""

import base64
import io
import warnings
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MAX_LABEL = 32  # characters


def to_label(text: str) -> str:
    """Shorten a text to MAX_LABEL characters, with a box for each character that the font does not have.

    Draw it with `parse_math=False`, which makes matplotlib take "$" for a "$".
    """
    half = MAX_LABEL // 2
    short = text if len(text) <= MAX_LABEL else f"{text[:half]}…{text[-half + 1 :]}"
    return "".join(char if char.isprintable() and ord(char) in _glyphs() else "□" for char in short)


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def to_png(figure: "Figure", dpi: int = 100) -> bytes:
    """Render a figure as PNG. A character that no font has is drawn as a box."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def to_data_url(picture: bytes, kind: str = "png") -> str:
    """Give a picture (PNG, or JPEG with `kind="jpeg"`) as the source of an image of HTML."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
