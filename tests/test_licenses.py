import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitax_ray.licenses import Policy, deed, is_admitted, normalise

CC = "creativecommons.org"
ADDRESSES = [
    (f"http://{CC}/licenses/by/4.0/legalcode", "CC-BY-4.0"),
    (f"https://{CC}/licenses/by-nc/4.0/deed.de", "CC-BY-NC-4.0"),
    (f"https://{CC}/licenses/by-nc/4.0/deed.zh_TW", "CC-BY-NC-4.0"),
    (f"https://{CC}/licenses/by-sa/4.0/legalcode.pt-br", "CC-BY-SA-4.0"),
    (f"https://{CC}/licenses/by/4.0/deed.html", "CC-BY-4.0"),
    (f"https://{CC}/licenses/by/4.0/?ref=chooser-v1", "CC-BY-4.0"),
    (f"https://{CC}/licenses/by/4.0/deed.en#ref-commercial", "CC-BY-4.0"),
    (f"http://www.{CC}/licenses/by-nc-sa/3.0", "CC-BY-NC-SA-3.0"),
    (f"{CC}/licenses/by-nc-nd/2.5/", "CC-BY-NC-ND-2.5"),
    (f"www.{CC}/licenses/by/2.0", "CC-BY-2.0"),
    (f"//{CC}/licenses/by-nd/4.0/", "CC-BY-ND-4.0"),
    (f"http://{CC}/licenses/by-nd-nc/1.0/", "CC-BY-NC-ND-1.0"),
    (f"http://{CC}/licenses/by/3.0/de/", "CC-BY-3.0"),
    (f"http://{CC}/licenses/by/3.0/igo/legalcode", "CC-BY-3.0"),
    (f"http://{CC}/licenses/by-sa/2.1/jp/deed.ja", "CC-BY-SA-2.1"),
    (f"http://{CC}/licenses/by/2.5/scotland/", "CC-BY-2.5"),
    (f"http://{CC}/licenses/by/", "CC-BY"),
    (f"http://{CC}/publicdomain/zero/1.0/", "CC0-1.0"),
    (f"https://{CC}/publicdomain/zero/1.0/deed.fr", "CC0-1.0"),
    (f"http://{CC}/publicdomain/mark/1.0/", "CC-PDM-1.0"),
    (f"http://{CC}/licenses/publicdomain/", "public-domain"),
    ("https://spdx.org/licenses/CC-BY-NC-4.0.html", "CC-BY-NC-4.0"),
    (f"CC BY 4.0 (https://{CC}/licenses/by/4.0/)", "CC-BY-4.0"),
    (f"CC BY 4.0 | http://{CC}/licenses/by/4.0/", "CC-BY-4.0"),
    (f"CC BY 4.0 | http://{CC}/licenses/by-nc/4.0/", "CC-BY-NC-4.0"),
    (f"http://{CC}/licenses/by/3.0/ | CC BY 4.0", "CC-BY"),
]
CODES = [
    ("CC0_1_0", "CC0-1.0"),
    ("CC0", "CC0-1.0"),
    ("cc-zero", "CC0-1.0"),
    ("CC_BY_4_0", "CC-BY-4.0"),
    ("CC_BY_NC_4_0", "CC-BY-NC-4.0"),
    ("cc by-sa", "CC-BY-SA"),
    ("CC-BY", "CC-BY"),
    ("BY-NC", "CC-BY-NC"),
    ("ccbyncsa", "CC-BY-NC-SA"),
    ("(CC) BY 4,0", "CC-BY-4.0"),
    ("Available under Creative Commons BY-SA-NC 3.0 license", "CC-BY-NC-SA-3.0"),
    ("CC BY 3.0 US", "CC-BY-3.0"),
    ("CC BY v4.0", "CC-BY-4.0"),
    ("CC BY 4.0 International", "CC-BY-4.0"),
    ("CC-BY-NC-SA-2.0-UK", "CC-BY-NC-SA-2.0"),
    ("CC BY-NC (Non-Commercial)", "CC-BY-NC"),
    ("CC BY-NonCommercial 4.0", "CC-BY-NC-4.0"),
    ("CC BY (NC)", "CC-BY-NC"),
    ("CC BY 4.0 NC", "CC-BY-NC-4.0"),
    ("CC BY\u2011NC 4.0", "CC-BY-NC-4.0"),
    ("CC BY\u2014NC", "CC-BY-NC"),
    ("CC\u00a0BY\u200b-NC", "CC-BY-NC"),
    ("ＣＣ　ＢＹ－ＮＣ　４．０", "CC-BY-NC-4.0"),
    ("cc-by:nc", "CC-BY-NC"),
    ("CC BY, not for commercial use", "CC-BY-NC"),
    ("CC BY-NC 3.5", "CC-BY-NC"),
    ("CC BY-SA / CC BY-NC", "CC-BY-NC-SA"),
]
TITLES = [
    ("Creative Commons Zero v1.0 Universal", "CC0-1.0"),
    ("CC0 1.0 Universal (CC0 1.0) Public Domain Dedication", "CC0-1.0"),
    ("No rights reserved", "CC0-1.0"),
    ("Public Domain", "public-domain"),
    ("Dominio público", "public-domain"),
    ("Creative Commons Attribution 4.0 International", "CC-BY-4.0"),
    ("Attribution 4.0 International (CC BY 4.0)", "CC-BY-4.0"),
    ("Attribution-NonCommercial-ShareAlike 4.0 International", "CC-BY-NC-SA-4.0"),
    ("Creative Commons Attribution Non Commercial No Derivatives", "CC-BY-NC-ND"),
    ("Attribution-NonCommercial-NoDerivs 3.0 Unported", "CC-BY-NC-ND-3.0"),
    ("Atribución-NoComercial 4.0 Internacional", "CC-BY-NC-4.0"),
    ("Creative Commons Reconocimiento-CompartirIgual 3.0 España", "CC-BY-SA-3.0"),
    ("Creative Commons Attribution - Pas d'Utilisation Commerciale 4.0", "CC-BY-NC-4.0"),
    ("Attribution - Pas de Modification 4.0 International", "CC-BY-ND-4.0"),
    ("Namensnennung - Nicht kommerziell", "CC-BY-NC"),
    ("Namensnennung-Nicht-kommerziell-Keine Bearbeitung 3.0 Deutschland", "CC-BY-NC-ND-3.0"),
    ("CC BY 4.0 - nicht kommerziell", "CC-BY-NC-4.0"),
    ("Atribuição-NãoComercial-SemDerivações 4.0 Internacional", "CC-BY-NC-ND-4.0"),
    ("Attribuzione - Non commerciale - Condividi allo stesso modo 4.0 Internazionale", "CC-BY-NC-SA-4.0"),
    ("Naamsvermelding-NietCommercieel 4.0 Internationaal", "CC-BY-NC-4.0"),
    ("Reconeixement-NoComercial 4.0 Internacional de Creative Commons", "CC-BY-NC-4.0"),
    ("Uznanie autorstwa-Użycie niekomercyjne 4.0 Międzynarodowe", "CC-BY-NC-4.0"),
    ("Erkännande-IckeKommersiell-DelaLika 4.0 Internationell", "CC-BY-NC-SA-4.0"),
    ("Navngivelse-IkkeKommerciel 4.0 International", "CC-BY-NC-4.0"),
    ("Creative Commons Navngivelse-DelPåSammeVilkår 4.0 Internasjonal lisens", "CC-BY-SA-4.0"),
    ("Nimeä-EiKaupallinen 4.0 Kansainvälinen", "CC-BY-NC-4.0"),
    ("Uveďte původ-Neužívejte komerčně-Zachovejte licenci 4.0 Mezinárodní", "CC-BY-NC-SA-4.0"),
    ("С указанием авторства — Некоммерческая 4.0 Международная", "CC-BY-NC-4.0"),
    ("クリエイティブ・コモンズ 表示-非営利 4.0 国際 ライセンス", "CC-BY-NC-4.0"),
    ("表示 - 非営利 - 改変禁止 4.0 国際", "CC-BY-NC-ND-4.0"),
    ("本作品采用知识共享署名-非商业性使用 4.0 国际许可协议进行许可。", "CC-BY-NC-4.0"),
]
SENTENCES = [
    ("This work is licensed under a Creative Commons Attribution (CC-BY) 4.0 License.", "CC-BY-4.0"),
    (
        "This work is licensed under a Creative Commons Attribution Non Commercial (CC-BY-NC) 4.0 License.",
        "CC-BY-NC-4.0",
    ),
    (
        "To the extent possible under law, the publisher has waived all rights to these data and has dedicated them to "
        "the Public Domain (CC0 1.0). Users may copy, modify, distribute and use the work, including for commercial "
        "purposes, without restriction.",
        "CC0-1.0",
    ),
    (f"Rights as supplied: http://{CC}/licenses/by/4.0/legalcode", "CC-BY-4.0"),
    ("Esta obra está bajo una licencia de Creative Commons Reconocimiento 4.0 Internacional", "CC-BY-4.0"),
    ("Dieses Werk ist lizenziert unter einer Creative Commons Namensnennung 4.0 International Lizenz", "CC-BY-4.0"),
    ("Quest'opera è distribuita con Licenza Creative Commons Attribuzione 4.0 Internazionale.", "CC-BY-4.0"),
]
RESERVED = [
    ("All rights reserved", "all-rights-reserved"),
    ("© Ann, all right reserved", "all-rights-reserved"),
    ("© 2021 Museum", "all-rights-reserved"),
    ("Copyright (c) Ann", "all-rights-reserved"),
    ("Todos los derechos reservados", "all-rights-reserved"),
    ("CC BY 4.0, all rights reserved", "all-rights-reserved"),
    (f"http://{CC}/licenses/by/4.0/ | (c) Museum, all rights reserved", "all-rights-reserved"),
    ("CC license not applicable by owner, all rights reserved", "all-rights-reserved"),
]
FOR_DATA = [
    ("http://www.opendatacommons.org/licenses/by/1.0", "ODC-By-1.0"),
    ("Open Data Commons Attribution License", "ODC-By-1.0"),
    ("http://opendatacommons.org/licenses/odbl/1.0/", "ODbL-1.0"),
    ("ODbL", "ODbL-1.0"),
    ("PDDL 1.0", "PDDL-1.0"),
    ("Open Government Licence v3.0", "OGL-UK-3.0"),
    ("http://www.nationalarchives.gov.uk/doc/open-government-licence/version/3/", "OGL-UK-3.0"),
    ("Licence Ouverte Etalab 2.0", "etalab-2.0"),
]
NAMED = [*ADDRESSES, *CODES, *TITLES, *SENTENCES, *RESERVED, *FOR_DATA]
UNKNOWN = [
    *("", " ", "??", "4", "J.A. Cooper", "Usage Conditions Apply", "photographed by Ann", "standby", "N/A", "by"),
    *(
        "Attribution",
        *("Attribution required", "Attribution 2", "4: Attribution", "by 4", "BY 7.5"),
        "Creative Commons",
        "CC",
        "CC-NC",
        "Creative Commons - Share Alike",
        "CC BY?",
    ),
    "CC BY, commercial use prohibited",
    "CC BY for metadata",
    "CC BY 4.0 no",
    "CC BY 4.0 = no reuse",
    "CC0 for metadata; photographs all by permission",
    "This image is not in the public domain",
    "public domain except photographs",
    "some rights reserved",
    "© Ann, some rights reserved",
    "C\u0336C\u0336 B\u0336Y\u0336",
    *("licensed by Creative Commons", "provided by Creative Commons", "Photo by Jane Doe, CC BY 4.0"),
    *("CC BY-ND-SA", f"http://{CC}/licenses/by-nd-sa/4.0/", "CC BY-SA | CC BY-ND", "CC0 NC", "CC0 4.0", "CC BY 4.0.1"),
    *(f"http://{CC}/licenses/by/{place}/" for place in ("3.5", "5.0", "2.1", "4.0/de", "3.0/xx", "2.5/jp")),
    *(f"http://{CC}/licenses/{code}/1.0/" for code in ("nc", "sa", "sampling", "by-nc-nc")),
    *(
        f"http://{CC}/publicdomain/zero/2.0/",
        f"http://{CC}/licenses/by/4.0/anything",
        f"http://not{CC}/licenses/by/4.0/",
    ),
    *(f"http://{CC}.example.org/licenses/by/4.0/", f"http://{CC}@example.org/licenses/by/4.0/"),
    "http://example.org/licenses/by/4.0/",
    f"https://museum.example/terms | http://{CC}/licenses/by/4.0/",
    *("http://rightsstatements.org/vocab/InC/1.0/", "http://rightsstatements.org/vocab/NoC-US/1.0/"),
    *("https://www.flickr.com/commons/usage/", "No known copyright restrictions", "GFDL", "OGL", "MIT"),
    "CC BY 4.0 " * 200,
]


@pytest.mark.parametrize(("text", "name"), [*NAMED, *((text, "unknown") for text in UNKNOWN)])
def test_a_text_is_named_by_the_licence_it_states(text: str, name: str) -> None:
    assert normalise(text) == name
    assert normalise(f" {text.upper()} ") == name
    assert normalise(name) == name


POLICIES: tuple[Policy, ...] = ("open", "non-commercial", "any")
OPEN = ["CC0-1.0", "CC-PDM-1.0", "public-domain", "CC-BY", "CC-BY-4.0", "CC-BY-SA-3.0"]
NON_COMMERCIAL = [*OPEN, "CC-BY-NC-4.0", "CC-BY-ND-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND"]
ANY = [
    *NON_COMMERCIAL,
    "all-rights-reserved",
    "unknown",
    "ODC-By-1.0",
    "ODbL-1.0",
    "OGL-UK-3.0",
    "CC-BY-ND-SA",
    "CC-BYX",
]


@pytest.mark.parametrize(("policy", "admitted"), [("open", OPEN), ("non-commercial", NON_COMMERCIAL), ("any", ANY)])
def test_a_policy_admits_what_it_says(policy: Policy, admitted: list[str]) -> None:
    assert [name for name in ANY if is_admitted(name, policy)] == admitted


# What a publisher may add, with words that the grammar knows among them, and characters of every kind.
ADDED = (
    "not no except only non nc nd sa by cc permission reserved prohibited metadata sauf keine sin 禁止 de © ? | 4.0 3 "
    "commercial derivatives share alike public domain attribution license under international"
)
WORDS = st.one_of(st.sampled_from(ADDED.split()), st.text(max_size=12))


# A word may complete these.
INCOMPLETE = {"", " ", "4", "N/A", "by", "Attribution", "Creative Commons", "CC", "CC-NC", "CC0 NC", "CC0 4.0"}
INCOMPLETE |= {"Creative Commons - Share Alike", "licensed by Creative Commons"}
INCOMPLETE |= {"Attribution 2", "4: Attribution", "by 4", "BY 7.5"}
STATED = [*(text for text, _ in NAMED), *(text for text in UNKNOWN if text not in INCOMPLETE)]


@settings(max_examples=300)
@given(st.sampled_from(STATED), st.lists(WORDS, max_size=3), st.data())
def test_words_that_are_added_never_widen_what_is_admitted(text: str, words: list[str], data: st.DataObject) -> None:
    longer = text.split(" ")
    for word in words:
        longer.insert(data.draw(st.integers(0, len(longer))), word)
    before, after = normalise(text), normalise(" ".join(longer))
    for policy in POLICIES:
        assert is_admitted(before, policy) or not is_admitted(after, policy)


@settings(max_examples=200)
@given(st.sampled_from([text for text, _ in NAMED]), st.text(st.characters(categories=["L", "N", "S"]), min_size=2))
def test_a_word_that_no_title_has_makes_a_licence_unknown(text: str, word: str) -> None:
    name = normalise(f"{text} {word}x")
    assert not is_admitted(name, "non-commercial")


@settings(max_examples=200)
@given(st.one_of(st.text(), st.lists(WORDS).map(" ".join)))
def test_a_name_is_named_by_itself(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (f"http://{CC}/licenses/by/4.0/legalcode", f"https://{CC}/licenses/by/4.0/"),
        ("CC BY-NC-SA 3.0", f"https://{CC}/licenses/by-nc-sa/3.0/"),
        ("CC_BY_NC_ND_2_5", f"https://{CC}/licenses/by-nc-nd/2.5/"),
        ("CC BY-NC-ND 1.0", f"https://{CC}/licenses/by-nd-nc/1.0/"),
        ("CC0", f"https://{CC}/publicdomain/zero/1.0/"),
        ("Public Domain Mark", f"https://{CC}/publicdomain/mark/1.0/"),
        ("public domain", f"https://{CC}/publicdomain/mark/1.0/"),
        *((text, "") for text in ("CC BY", "CC BY 3.5", "CC BY 2.1 Japan", "all rights reserved", "ODC-By-1.0", "")),
    ],
)
def test_a_licence_leads_to_its_deed(text: str, url: str) -> None:
    assert deed(normalise(text)) == url
