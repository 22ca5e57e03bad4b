import pytest

from aitax_ray.licenses import Policy, deed, is_admitted, normalise


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("CC0_1_0", "CC0-1.0"),
        ("CC0", "CC0-1.0"),
        ("cc-zero", "CC0-1.0"),
        ("No rights reserved", "CC0-1.0"),
        ("http://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("Public Domain", "public-domain"),
        ("CC_BY_4_0", "CC-BY-4.0"),
        ("CC_BY_NC_4_0", "CC-BY-NC-4.0"),
        ("http://creativecommons.org/licenses/by/4.0/legalcode", "CC-BY-4.0"),
        ("https://creativecommons.org/licenses/by-nc/4.0/deed.de", "CC-BY-NC-4.0"),
        ("http://creativecommons.org/licenses/by-nc-sa/3.0", "CC-BY-NC-SA-3.0"),
        ("http://creativecommons.org/licenses/by-nc-nd/2.5/", "CC-BY-NC-ND-2.5"),
        ("https://creativecommons.org/licenses/by-sa/4.0/", "CC-BY-SA-4.0"),
        ("https://creativecommons.org/licenses/by-nd/4.0/", "CC-BY-ND-4.0"),
        ("cc by-sa", "CC-BY-SA"),
        ("CC-BY", "CC-BY"),
        ("BY-NC", "CC-BY-NC"),
        ("(c) Field Museum of Natural History - CC BY-NC 4.0", "CC-BY-NC-4.0"),
        ("Creative Commons Attribution 4.0 International", "CC-BY-4.0"),
        ("Attribution-NonCommercial-ShareAlike 4.0 International", "CC-BY-NC-SA-4.0"),
        ("Creative Commons Attribution Non Commercial No Derivatives", "CC-BY-NC-ND"),
        ("Photo by Jane Doe, CC BY-NC 4.0", "CC-BY-NC-4.0"),
        ("This work by X is licensed under a Creative Commons Attribution-NonCommercial 4.0 License", "CC-BY-NC-4.0"),
        ("Provided by museum under CC BY-NC-ND 4.0", "CC-BY-NC-ND-4.0"),
        ("CC BY-NonCommercial 4.0", "CC-BY-NC-4.0"),
        ("CC BY (NC)", "CC-BY-NC"),
        ("CC BY\u2011NC 4.0", "CC-BY-NC-4.0"),
        ("CC BY\u2014NC", "CC-BY-NC"),
        ("cc-by:nc", "CC-BY-NC"),
        ("CC BY, not for commercial use", "CC-BY-NC"),
        ("http://creativecommons.org/licenses/by/4.0/ | (c) Museum, all rights reserved", "CC-BY-4.0"),
        ("CC BY 4.0, all rights reserved", "all-rights-reserved"),
        ("CC license not applicable by owner, all rights reserved", "all-rights-reserved"),
        ("All rights reserved", "all-rights-reserved"),
        ("© Ann, all right reserved", "all-rights-reserved"),
        ("", "unknown"),
        (" ", "unknown"),
        ("??", "unknown"),
        ("J.A. Cooper", "unknown"),
        ("Usage Conditions Apply", "unknown"),
        ("photographed by Ann", "unknown"),
        ("standby", "unknown"),
    ],
)
def test_a_text_is_told_as_the_licence_it_states(text: str, name: str) -> None:
    assert normalise(text) == name
    assert normalise(f" {text.upper()} ") == name
    assert normalise(name) == name


OPEN = ["CC0-1.0", "CC-PDM-1.0", "public-domain", "CC-BY", "CC-BY-4.0", "CC-BY-SA-3.0"]
NON_COMMERCIAL = [*OPEN, "CC-BY-NC-4.0", "CC-BY-ND-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND"]
ANY = [*NON_COMMERCIAL, "all-rights-reserved", "unknown"]


@pytest.mark.parametrize(("policy", "admitted"), [("open", OPEN), ("non-commercial", NON_COMMERCIAL), ("any", ANY)])
def test_a_policy_admits_what_it_says(policy: Policy, admitted: list[str]) -> None:
    assert [name for name in ANY if is_admitted(name, policy)] == admitted


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://creativecommons.org/licenses/by/4.0/legalcode", "https://creativecommons.org/licenses/by/4.0/"),
        ("CC BY-NC-SA 3.0", "https://creativecommons.org/licenses/by-nc-sa/3.0/"),
        ("CC_BY_NC_ND_2_5", "https://creativecommons.org/licenses/by-nc-nd/2.5/"),
        ("CC0", "https://creativecommons.org/publicdomain/zero/1.0/"),
        ("Public Domain Mark", "https://creativecommons.org/publicdomain/mark/1.0/"),
        ("public domain", "https://creativecommons.org/publicdomain/mark/1.0/"),
        ("CC BY", ""),
        ("all rights reserved", ""),
        ("", ""),
    ],
)
def test_a_licence_leads_to_its_deed(text: str, url: str) -> None:
    assert deed(normalise(text)) == url
