import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from aitax_ray.dataset.folder_names import folder_names


def test_folders_are_called_as_the_species() -> None:
    names = {
        "1": "Rana alba", "2": "Salix × rubens", "3": "Rana nigra", "4": "rana NIGRA", "5": "", "6": "AUX", "7": "a/b",
        "8": " .x. ", "9": "x" * 300, "10": "Ra\u0308na", "11": "R\u00e4na", "12": "nul.x", "13": "..", "a/b": "",
    }  # fmt: skip
    assert folder_names(names) == {
        "1": "Rana alba", "2": "Salix × rubens", "3": "Rana nigra (3)", "4": "rana NIGRA (4)", "5": "species (5)",
        "6": "AUX (6)", "7": "a_b", "8": "x", "9": f"{'x' * 100} (9)", "10": "R\u00e4na (10)",
        "11": "R\u00e4na (11)", "12": "nul.x (12)", "13": "species (13)", "a/b": "species (a_b)",
    }  # fmt: skip


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=150) | st.sampled_from(
    ["", "CON", "a", "A", "a.", "ß", "ss", "a (1)", "a (2)", "ſ", "species (1)", "ﬁ", "fi"]
)


@given(st.dictionaries(TEXT, TEXT, max_size=12))
@example({"1": "a", "2": "A", "3": "a (1)", "4": "a (2)"})
@example({"a/b": "", "a\\b": "", "A_b": ""})
def test_no_two_species_share_a_folder_and_every_file_system_takes_it(names: dict[str, str]) -> None:
    found = folder_names(names)
    assert found.keys() == names.keys()
    folded = [unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", n).casefold()) for n in found.values()]
    assert len(set(folded)) == len(names)
    for name in found.values():
        assert name == unicodedata.normalize("NFC", name)
        assert 0 < len(name.encode()) < 256
        assert not set('<>:"/\\|?*') & set(name)
        assert name.isprintable() or not any(unicodedata.category(c) == "Cc" for c in name)
        assert name[0] not in " ." and name[-1] not in " ."  # noqa: PT018  # one property
        stem = name.split(".")[0].upper()
        assert stem not in {"CON", "PRN", "AUX", "NUL", *(f"{d}{i}" for d in ("COM", "LPT") for i in range(10))}
    assert folder_names(dict(reversed(names.items()))) == found
