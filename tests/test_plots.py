import base64
import io

import pytest
from PIL import Image

from aitax_ray.plots import MAX_LABEL, to_data_url, to_label, to_png


def test_a_figure_becomes_a_picture_of_its_size_whatever_its_texts() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.text(0.5, 0.5, "\U0001f98b 蝴蝶")
    picture = Image.open(io.BytesIO(to_png(figure, dpi=50)))
    assert (picture.format, picture.size) == ("PNG", (100, 50))


def test_a_data_url_holds_the_bytes_and_names_their_kind() -> None:
    url = to_data_url(b"\xff\xd8", "jpeg")
    assert url.startswith("data:image/jpeg;base64,")
    assert base64.b64decode(url.partition(",")[2]) == b"\xff\xd8"


@pytest.mark.parametrize("text", ["蝴蝶", "Rana\x07alba\n", "", "\u202eabc", "Rana $\\alpa$", "x" * 500])
def test_a_label_can_be_drawn(text: str) -> None:
    label = to_label(text)
    assert len(label) <= MAX_LABEL
    assert label.isprintable()
    assert not set(label) & set("蝴蝶\u202e")


def test_a_label_keeps_what_can_be_drawn_and_both_ends_of_a_long_text() -> None:
    assert to_label("Rana $\\alpa$ × alba") == "Rana $\\alpa$ × alba"
    assert to_label("Rana 蛙\n") == "Rana □□"
    long = to_label("a-host-with-a-name-that-nobody-can-read.photographs.example")
    assert (long[:11], long[-7:]) == ("a-host-with", "example")
    assert "…" in long
