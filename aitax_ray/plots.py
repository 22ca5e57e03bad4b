"""Pictures inside HTML: matplotlib figures as PNG, and any picture as a data URL."""

import base64
import io
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
