"""Common names in the language of a request: ISO 639-1 on the wire, ISO 639-3 in the engine."""

from collections.abc import Iterable

from aitax_ray.engine.bundle import Taxon

ENGLISH = "en"

# Each code of ISO 639-1, followed by the same language in ISO 639-3. The set is closed, so no library is needed.
# Source: https://iso639-3.sil.org/code_tables/639/data
_TABLE = """
aa aar ab abk ae ave af afr ak aka am amh an arg ar ara as asm av ava ay aym az aze ba bak be bel bg bul bi bis bm bam
bn ben bo bod br bre bs bos ca cat ce che ch cha co cos cr cre cs ces cu chu cv chv cy cym da dan de deu dv div dz dzo
ee ewe el ell en eng eo epo es spa et est eu eus fa fas ff ful fi fin fj fij fo fao fr fra fy fry ga gle gd gla gl glg
gn grn gu guj gv glv ha hau he heb hi hin ho hmo hr hrv ht hat hu hun hy hye hz her ia ina id ind ie ile ig ibo ii iii
ik ipk io ido is isl it ita iu iku ja jpn jv jav ka kat kg kon ki kik kj kua kk kaz kl kal km khm kn kan ko kor kr kau
ks kas ku kur kv kom kw cor ky kir la lat lb ltz lg lug li lim ln lin lo lao lt lit lu lub lv lav mg mlg mh mah mi mri
mk mkd ml mal mn mon mr mar ms msa mt mlt my mya na nau nb nob nd nde ne nep ng ndo nl nld nn nno no nor nr nbl nv nav
ny nya oc oci oj oji om orm or ori os oss pa pan pi pli pl pol ps pus pt por qu que rm roh rn run ro ron ru rus rw kin
sa san sc srd sd snd se sme sg sag si sin sk slk sl slv sm smo sn sna so som sq sqi sr srp ss ssw st sot su sun sv swe
sw swa ta tam te tel tg tgk th tha ti tir tk tuk tl tgl tn tsn to ton tr tur ts tso tt tat tw twi ty tah ug uig uk ukr
ur urd uz uzb ve ven vi vie vo vol wa wln wo wol xh xho yi yid yo yor za zha zh zho zu zul
"""
_CODES = _TABLE.split()
TO_THREE = dict(zip(_CODES[::2], _CODES[1::2], strict=True))
_TO_TWO = {three: two for two, three in TO_THREE.items()}


def choose_language(wanted: str) -> str:
    """Give the ISO 639-1 code of a language tag, such as fr for "fr-CA" or "FR"; English if there is none.

    >>> choose_language("pt-BR"), choose_language("xx"), choose_language("")
    ('pt', 'en', 'en')
    """
    code = wanted.strip().lower().replace("_", "-").split("-")[0]
    return code if code in TO_THREE else _TO_TWO.get(code, ENGLISH)


def common_names(taxon: Taxon, language: str) -> list[str]:
    """Give the common names of a species in a language (ISO 639-1): else in English, else in any; [] if it has none."""
    names = dict(taxon.vernacular_names)
    if name := names.get(TO_THREE.get(language, "")):
        return [name]
    found = names.get(TO_THREE[ENGLISH]) or taxon.vernacular_name or next(iter(names.values()), "")
    return [found] if found else []


def list_languages(taxa: Iterable[Taxon]) -> list[str]:
    """List the languages of the common names of these species (ISO 639-1), and English, the default."""
    codes = {code for taxon in taxa for code, _ in taxon.vernacular_names}
    return sorted({_TO_TWO[code] for code in codes if code in _TO_TWO} | {ENGLISH})
