import base64
import io

from PIL import Image

from aitax_ray.plots import to_data_url, to_png


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
