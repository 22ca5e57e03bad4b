import unicodedata

import pytest

from aitax_ray.darwin_core.name_text import clean, fold, repair


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  Rana \t temporaria\n", "Rana temporaria"),
        ("Rana\u00a0temporaria\u2009L.", "Rana temporaria L."),
        ("Rana\u200btempo\u00adraria\ufeff", "Rana temporaria"),
        ("Rana_temporaria", "Rana temporaria"),
        ("<i>Rana</i> <b class='x'>temporaria</b>", "Rana temporaria"),
        ("&lt;em&gt;Rana temporaria&lt;/em&gt; L. &amp;amp; Fitz", "Rana temporaria L. & Fitz"),
        ("Rana oﬃcinalis", "Rana officinalis"),
        (unicodedata.normalize("NFD", "Isoëtes"), "Isoëtes"),
        ("d‘Orbigny d’Orbigny d´Orbigny d`Orbigny", "d'Orbigny d'Orbigny d'Orbigny d'Orbigny"),
        ('"Rana temporaria"', "Rana temporaria"),
        ("“Rana temporaria”", "Rana temporaria"),
        ("Rosa 'Peace'", "Rosa 'Peace'"),
        ("†Rana temporaria*", "Rana temporaria"),
        ("Rana m\ufffdlleri", "Rana m?lleri"),
        ("Rana <10 cm", "Rana <10 cm"),
        ("", ""),
    ],
)
def test_markup_quotes_and_odd_blanks_are_no_part_of_a_name(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("RANA TEMPORARIA", "Rana temporaria"),
        ("rana temporaria", "Rana temporaria"),
        ("RANA TEMPORARIA LINNAEUS, 1758", "Rana temporaria Linnaeus, 1758"),
        ("rana temporaria (linnaeus, 1758)", "Rana temporaria (Linnaeus, 1758)"),
        ("Rana temporaria linnaeus 1758", "Rana temporaria Linnaeus 1758"),
        ("Rana temporaria Linnaeus, 1758", "Rana temporaria Linnaeus, 1758"),
        ("Prunus mexicana Var. reticulata", "Prunus mexicana var. reticulata"),
        ("Polygonia C-album", "Polygonia c-album"),
        ("Polygonia c album", "Polygonia c-album"),
        ("Secamone Afzelii K.Schum.", "Secamone afzelii K.Schum."),
        ("Drynaria Laurenti (Christ) Hieron", "Drynaria laurenti (Christ) Hieron"),
        ("Pelophylax kl. esculentus", "Pelophylax esculentus"),
        ("Salix ×rubens (S. alba × S. fragilis)", "Salix ×rubens"),
        ("Festuca ovina-Aggregat", "Festuca ovina agg."),
        ("Rana Nikolskii, 1918", "Rana Nikolskii, 1918"),
        ("Rana Ternatus & Gray", "Rana Ternatus & Gray"),
        ("Rana Temporaria Linnaeus, 1758", "Rana temporaria Linnaeus, 1758"),
        ("Tricholoma Ternatum Fr.", "Tricholoma ternatum Fr."),
        ("Lecanora Acharius", "Lecanora Acharius"),
        ("Rana Laurenti", "Rana Laurenti"),
        ("Rana Linnaeus (1758)", "Rana Linnaeus (1758)"),
        ("Quercus x alba", "Quercus x alba"),
        ("OTU 123", "OTU 123"),
        ("RANA", "RANA"),
        ("rana", "rana"),
    ],
)
def test_a_name_is_spelled_as_the_parser_expects_it(text: str, repaired: str) -> None:
    assert repair(text) == repaired


@pytest.mark.parametrize(
    ("word", "folded"),
    [
        ("Isoëtes", "Isoetes"),
        (unicodedata.normalize("NFD", "Isoëtes"), "Isoetes"),
        ("coöperi", "cooperi"),
        ("mülleri", "muelleri"),
        ("Ötzii", "Oetzii"),
        ("cæruleus", "caeruleus"),
        ("œconomica", "oeconomica"),
        ("bøggildi", "boeggildi"),
        ("señorita", "senorita"),
        ("m'callii", "mcallii"),
        ("st.-johnsii", "st-johnsii"),
        ("7-punctata", "7-punctata"),
    ],
)
def test_a_word_is_spelled_without_accents(word: str, folded: str) -> None:
    assert fold(word) == folded
