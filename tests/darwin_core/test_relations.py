import pytest

from aitax_ray.darwin_core.relations import MALFORMED_ROW, SEVERAL_SPECIES_IN_EVENT
from aitax_ray.manifest.labels import Label
from aitax_ray.manifest.media import NO_LABEL_KEY, NOT_A_PHOTOGRAPH, ORPHAN
from tests.archives import Part, Sorted, publisher_files, sort_out, sort_out_download
from tests.gbif_download import occurrence, photo

NO_SPECIES = NO_LABEL_KEY.format("species")
OCCURRENCE = Part("occurrence", "id scientificName", [("1", "Rana alba L.")])


def url(name: str) -> str:
    return f"http://x.org/{name}"


def photographs(*rows: tuple[str, ...], terms: str = "id identifier", kind: str = "multimedia") -> Part:
    return Part(kind, terms, [(key, url(name), *more) for key, name, *more in rows], defaults={"type": "StillImage"})


# Occurrences


def test_a_publishers_names_are_the_keys() -> None:
    core = Part(
        "occurrence",
        "id scientificName genus specificEpithet acceptedNameUsage",
        [
            ("1", "Rana alba Linnaeus, 1758", "", "", ""),
            ("2", "Bufo albus Daudin, 1802", "Bufo", "albus", "Rana alba Linnaeus, 1758"),
            ("3", "Rana alba minor Fitz, 1826", "Rana", "alba", ""),
            ("4", "Rana sp.", "Rana", "", ""),
        ],
    )
    files = publisher_files(core, photographs(*((str(i), f"{i}.jpg") for i in range(1, 6))))
    found = sort_out(files)
    assert found.species == {f"{i}.jpg": "Rana alba" for i in (1, 2, 3)}
    assert found.reasons == {3: NO_SPECIES, 4: ORPHAN}
    assert found.taxa.select("species_key", "name", "authorship", "rank", "num_occurrences").rows() == [
        ("Rana alba", "Rana alba", "Linnaeus, 1758", "SPECIES", 3)
    ]
    assert sort_out(files, label="genus").species == {f"{i}.jpg": "Rana" for i in (1, 2, 3, 4)}
    assert set(sort_out(files, label="accepted-taxon").species.values()) == {"Rana alba", "Rana alba minor", "Rana"}
    assert sort_out(files, label="family").reasons == dict.fromkeys(range(4), "no_family_key") | {4: ORPHAN}


def test_a_publishers_name_may_be_in_parts_and_its_rank_in_other_words() -> None:
    core = Part(
        "occurrence",
        "id scientificName species genus specificEpithet infraspecificEpithet taxonRank",
        [
            ("1", "", "", "RANA", "Alba", "minor", "Unterart"),
            ("2", "", "Rana alba", "", "", "", ""),
            ("3", "Rana Alba", "", "", "", "", "espèce"),
        ],
    )
    files = publisher_files(core, photographs(*((str(i), f"{i}.jpg") for i in range(1, 4))))
    assert sort_out(files).species == {f"{i}.jpg": "Rana alba" for i in (1, 2, 3)}
    assert sort_out(files, label="accepted-taxon").taxa.select("species_key", "rank").rows() == [
        ("Rana alba", "SPECIES"),
        ("Rana alba minor", "SUBSPECIES"),
    ]


def test_a_subspecies_gives_neither_its_species_nor_its_genus_an_author() -> None:
    core = Part(
        "occurrence", "id scientificName acceptedNameUsage", [("1", "Bufo minor L.", "Rana alba minor Fitz, 1826")]
    )
    files = publisher_files(core, photographs(("1", "1.jpg")))
    for label in ("species", "genus"):
        assert sort_out(files, label=label).taxa["authorship"].to_list() == [""]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("label", "key", "name", "rank"),
    [
        ("species", "11", "Rana alba", "SPECIES"),
        ("genus", "7", "Rana", "GENUS"),
        ("family", "5", "Ranidae", "FAMILY"),
        ("accepted-taxon", "11", "Rana alba", "SPECIES"),
    ],
)
def test_a_download_of_gbif_has_keys_for_every_label(label: Label, key: str, name: str, rank: str) -> None:
    core = Part(
        "occurrence",
        "gbifID speciesKey species genusKey genus familyKey family acceptedTaxonKey taxonKey taxonRank scientificName",
        [
            ("1", "11", "Rana alba", "7", "Rana", "5", "Ranidae", "11", "11", "SPECIES", "Rana alba L."),
            ("2", "", "", "", "", "", "", "", "3", "CLASS", "Amphibia"),
        ],
    )
    found = sort_out(publisher_files(core, photographs(("1", "1.jpg"), ("2", "2.jpg"))), label=label)
    assert found.species == {"1.jpg": key}
    assert found.reasons == {1: f"no_{label.replace('-', '_')}_key"}
    assert found.taxa.select("species_key", "name", "rank").rows() == [(key, name, rank)]


def test_blanks_around_an_id_do_not_part_a_photograph_from_its_occurrence() -> None:
    found = sort_out_download(
        [occurrence(" 1"), occurrence("2")], [photo("1 ", url("1.jpg")), photo("2\u00a0", url("2.jpg"))]
    )
    assert sorted(found.media["gbif_id"]) == ["1", "2"]
    assert found.num_rows == 2


def test_an_occurrence_that_is_listed_twice_counts_once_and_as_the_first() -> None:
    occurrences = [occurrence("1"), occurrence("2"), occurrence("1", "12"), occurrence("1", "13")]
    found = sort_out_download(occurrences, [photo("1", url("1.jpg")), photo("2", url("2.jpg"))])
    assert found.species == {"1.jpg": "11", "2.jpg": "11"}
    assert found.counts == {"": 2}
    assert found.occurrences["gbif_id"].to_list() == ["1", "2"]


def test_an_id_of_several_species_labels_no_photograph(caplog: pytest.LogCaptureFixture) -> None:
    rows = [["1", "Rana alba"], ["1", "Bufo albus"], ["2", "Rana alba"], ["2", "Rana alba L."], ["3", "Rana alba"]]
    rows.append(["3", "unknown"])
    core = Part("occurrence", "id scientificName", rows)
    media = Part(PHOTOGRAPH, "id identifier", [[str(n), url(f"{n}.jpg")] for n in (1, 2, 3)])
    found = sort_out(publisher_files(core, media))
    assert found.species == {"2.jpg": "Rana alba", "3.jpg": "Rana alba"}
    assert found.reasons == {0: "no_species_key"}
    assert "1 ids stand for occurrences of several species, such as '1'" in caplog.text


def test_media_of_an_archive_without_occurrences_are_orphans() -> None:
    found = sort_out_download([], [photo("1", url("1.jpg"))])
    assert found.reasons == {0: ORPHAN}


# Media


def test_simple_multimedia_and_simple_images_are_read_one_after_the_other() -> None:
    multimedia = Part(
        "multimedia",
        "id type identifier license creator rightsHolder",
        [("1", "StillImage", url("1"), "CC0", "Ann", "Museum"), ("1", "Sound", url("2"), "", "", "")],
    )
    images = Part("image", "id identifier rights", [("1", url("3"), "CC BY")])
    found = sort_out(publisher_files(OCCURRENCE, multimedia, images))
    assert found.reasons == {1: NOT_A_PHOTOGRAPH}
    rows = found.media.sort("url").select("url", "license_id", "creator", "rights_holder").rows()
    assert rows == [(url("1"), "CC0-1.0", "Ann", "Museum"), (url("3"), "CC-BY", "", "")]


def test_of_audubon_core_the_photograph_is_at_the_access_uri() -> None:
    terms = "id dc:type subtype accessURI identifier providerManagedID dc:creator dcterms:creator Owner UsageTerms"
    rows = [
        ("1", "StillImage", "", url("a"), "urn:uuid:1", "urn:x", "Ann", "http://orcid.org/1", "Museum", "CC BY"),
        ("1", "", "StillImage", "", url("i"), "urn:x", "", "Bob", "", ""),
        ("1", "StillImage", "", " ", "", url("p"), " ", "Bob", "", ""),
        ("1", "Sound", "", url("s"), "", "", "", "", "", ""),
    ]
    found = sort_out(publisher_files(OCCURRENCE, Part("audubon", terms, rows)))
    assert found.media.sort("url").select("url", "creator", "rights_holder", "license").rows() == [
        (url("a"), "Ann", "Museum", "CC BY"),
        (url("i"), "Bob", "", ""),
        (url("p"), "Bob", "", ""),
    ]
    assert found.reasons == {3: NOT_A_PHOTOGRAPH}


def test_of_audubon_core_each_other_identifier_counts_where_it_is_a_link() -> None:
    terms = "id dc:type accessURI identifier providerManagedID furtherInformationURL"
    rows = [
        ("1", "StillImage", "", "urn:uuid:1", url("managed"), url("page")),
        ("1", "StillImage", "", "HTTP://x.org/large", "", url("page")),
        ("1", "StillImage", "", "urn:uuid:3", "urn:x", url("page")),
    ]
    found = sort_out(publisher_files(OCCURRENCE, Part("audubon", terms, rows))).media.sort(
        "url_from_references", "url", descending=[False, True]
    )
    assert found["url"].to_list() == [url("managed"), "HTTP://x.org/large", url("page")]
    assert found["url_from_references"].to_list() == [False, False, True]


@pytest.mark.parametrize("kind", ["audubon", "multimedia", "image"])
def test_every_statement_of_rights_counts(kind: str) -> None:
    terms = "id dc:type accessURI license WebStatement UsageTerms dc:rights"
    rows = [
        ("1", "StillImage", url("a"), "", "https://museum.example/terms", " ", "CC BY-NC 4.0"),
        ("1", "StillImage", url("b"), "", "http://creativecommons.org/licenses/by-sa/3.0/", "CC BY-SA", ""),
        ("1", "StillImage", url("c"), "CC0", "https://museum.example/terms", "", "all rights reserved"),
        ("1", "StillImage", url("d"), "", "", "", ""),
        ("1", "StillImage", url("e"), "CC BY 4.0", "", "CC BY-NC 4.0", ""),
        ("1", "StillImage", url("f"), "CC BY 4.0", "http://creativecommons.org/licenses/by/4.0/", "", ""),
        ("1", "StillImage", url("g"), "CC BY 4.0", "", "", "All rights reserved"),
    ]
    found = sort_out(publisher_files(OCCURRENCE, Part(kind, terms, rows)))
    assert found.media.sort("url").select("license", "license_id").rows() == [
        ("https://museum.example/terms | CC BY-NC 4.0", "unknown"),
        ("http://creativecommons.org/licenses/by-sa/3.0/ | CC BY-SA", "CC-BY-SA-3.0"),
        ("CC0 | https://museum.example/terms | all rights reserved", "all-rights-reserved"),
        ("", "unknown"),
        ("CC BY 4.0 | CC BY-NC 4.0", "CC-BY-NC-4.0"),
        ("CC BY 4.0 | http://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("CC BY 4.0 | All rights reserved", "all-rights-reserved"),
    ]


def test_of_audubon_core_an_identifier_that_is_no_link_leaves_the_page_as_a_candidate() -> None:
    rows = [("1", "StillImage", "", "urn:uuid:1", url("page")), ("1", "StillImage", "", url("own"), url("page2"))]
    terms = "id dc:type accessURI identifier furtherInformationURL"
    found = sort_out(publisher_files(OCCURRENCE, Part("audubon", terms, rows)))
    assert found.media.sort("url").select("url", "url_from_references").rows() == [
        (url("own"), False),
        (url("page"), True),
    ]


def test_what_all_rows_share_may_stand_in_meta_xml_alone() -> None:
    core = Part("occurrence", "id", [("1",)], defaults={"scientificName": "Rana alba", "countryCode": "NA"})
    media = Part(
        "audubon", "id accessURI", [("1", url("1"))], defaults={"dc:type": "StillImage", "dcterms:rights": "CC0"}
    )
    found = sort_out(publisher_files(core, media))
    assert found.species == {"1": "Rana alba"}
    assert found.media["license_id"].to_list() == ["CC0-1.0"]
    assert found.occurrences["country_code"].to_list() == ["NA"]


# Events

EVENTS = Part("event", "id eventDate", [("e1", "2020"), ("e2", "2021"), ("e3", "2022"), ("o1", "2023")])
SEEN = [
    ("e1", "o1", "Rana alba", "d1"),
    ("e1", "o2", "Rana nigra", "d1"),
    ("e2", "o3", "Rana nigra", "d2"),
    ("e2", "o4", "Rana nigra", "d2"),
]


def at_events(*media: tuple[str, ...], seen: list[tuple[str, ...]] = SEEN) -> Sorted:
    occurrences = Part("occurrence", "id occurrenceID scientificName datasetKey", seen)
    return sort_out(publisher_files(EVENTS, occurrences, photographs(*media, terms="id identifier occurrenceID")))


def test_an_id_that_two_events_use_is_of_two_occurrences() -> None:
    seen = [("e1", "o1", "Rana alba", ""), ("e2", "o1", "Rana nigra", "")]
    found = at_events(
        ("e1", "1.jpg", "o1"), ("e2", "2.jpg", "o1"), ("e1", "3.jpg", ""), ("e3", "4.jpg", "o1"), seen=seen
    )
    assert found.species == {"1.jpg": "Rana alba", "2.jpg": "Rana nigra", "3.jpg": "Rana alba"}
    assert found.reasons == {3: ORPHAN}


def test_a_photograph_of_an_event_belongs_to_the_occurrence_that_it_names() -> None:
    found = at_events(("e1", "1.jpg", "o1"), ("e1", "2.jpg", " o2 "), ("e9", "3.jpg", "o3"))
    assert found.species == {"1.jpg": "Rana alba", "2.jpg": "Rana nigra", "3.jpg": "Rana nigra"}
    assert sorted(found.media["gbif_id"]) == ["o1", "o2", "o3"]
    assert found.occurrences["dataset_key"].to_list() == ["d1", "d1", "d2"]


def test_a_photograph_may_have_the_occurrences_id_for_that_of_the_event() -> None:
    assert at_events(("o1", "1.jpg", "")).species == {"1.jpg": "Rana alba"}


def test_a_photograph_of_an_event_with_one_species_is_of_that_species() -> None:
    found = at_events(("e2", "1.jpg", ""), ("e2", "2.jpg", "no such occurrence"))
    assert found.species == {"1.jpg": "Rana nigra", "2.jpg": "Rana nigra"}
    assert set(found.media["gbif_id"]) == {"o3"}


def test_a_photograph_of_an_event_with_several_species_or_none_is_dropped() -> None:
    found = at_events(("e1", "1.jpg", ""), ("e3", "2.jpg", ""), ("e9", "3.jpg", ""), ("e2", "4.jpg", ""))
    assert found.reasons == {0: SEVERAL_SPECIES_IN_EVENT, 1: ORPHAN, 2: ORPHAN}
    assert found.counts == {"": 1, SEVERAL_SPECIES_IN_EVENT: 1, ORPHAN: 2}
    assert set(found.dropped.select("gbif_id", "species_key").iter_rows()) == {("", "")}


def test_occurrences_without_an_id_count_among_the_species_of_their_event() -> None:
    seen = [("e1", "o1", "Rana alba", ""), ("e1", "", "Rana nigra", ""), ("e2", " ", "Rana nigra", "")]
    found = at_events(("e1", "1.jpg", ""), ("e2", "2.jpg", ""), seen=seen)
    assert found.reasons == {0: SEVERAL_SPECIES_IN_EVENT}
    assert found.media.select("gbif_id", "species_key").rows() == [("occurrence-2", "Rana nigra")]


def test_an_id_that_is_used_at_two_events_does_not_hide_a_species_of_either() -> None:
    seen = [("e1", "o1", "Rana alba", ""), ("e2", "o1", "Rana alba", ""), ("e2", "o2", "Rana nigra", "")]
    assert at_events(("e2", "1.jpg", ""), ("e1", "2.jpg", ""), seen=seen).reasons == {0: SEVERAL_SPECIES_IN_EVENT}


# Taxa

TAXA = Part(
    "taxon",
    "taxonID scientificName taxonRank acceptedNameUsageID parentNameUsageID vernacularName",
    [
        ("f", "Ranidae Batsch", "family", "", "", ""),
        ("g", "Rana Linnaeus, 1758", "genus", "", "f", ""),
        ("s", "Rana alba Linnaeus, 1758", "species", "", "g", "white frog"),
        ("m", "Rana alba minor Fitz", "subspecies", "", "s", ""),
        ("y", "Bufo albus Daudin", "species", "s", "", ""),
        ("s", "the same id again", "species", "", "", ""),
        ("c", "Circulus", "genus", "", "c", ""),
    ],
)
OF_TAXA = [(key, f"{key}.jpg") for key in ("s", "m", "y", "g", "c", "no such taxon")]


@pytest.mark.parametrize(
    ("label", "species"),
    [
        ("species", {"s": "s", "m": "s", "y": "s"}),
        ("genus", {"s": "g", "m": "g", "y": "g", "g": "g", "c": "c"}),
        ("family", {"s": "f", "m": "f", "y": "f", "g": "f"}),
        ("accepted-taxon", {"s": "s", "m": "m", "y": "s", "g": "g", "c": "c"}),
    ],
)
def test_photographs_of_a_checklist_are_labelled_by_climbing_to_the_rank(label: Label, species: dict[str, str]) -> None:
    found = sort_out(publisher_files(TAXA, photographs(*OF_TAXA)), label=label)
    assert found.species == {f"{key}.jpg": to for key, to in species.items()}
    lacking = f"no_{label.replace('-', '_')}_key"
    expected = {row: lacking for row, (key, _) in enumerate(OF_TAXA) if key not in species} | {5: ORPHAN}
    assert found.reasons == expected


def test_a_checklist_tells_its_taxa() -> None:
    found = sort_out(publisher_files(TAXA, photographs(*OF_TAXA)))
    assert found.taxa.row(0, named=True) == {
        "species_key": "s",
        "num_occurrences": 3,
        "num_images": 3,
        "name": "Rana alba",
        "scientific_name": "Rana alba Linnaeus, 1758",
        "rank": "SPECIES",
        "vernacular_name": "white frog",
        "genus": "Rana",
        "family": "Ranidae",
        "order": "",
        "class": "",
        "phylum": "",
        "kingdom": "",
        "authorship": "Linnaeus, 1758",
    }


def test_every_photograph_of_a_taxon_is_an_occurrence_of_its_own() -> None:
    media = Part(
        "multimedia",
        "id type identifier references",
        [("s", "StillImage", *urls) for urls in [(url("1"), ""), (url("2"), ""), ("", url("3")), ("", url("4"))]],
    )
    found = sort_out(publisher_files(TAXA, media))
    assert found.occurrences["gbif_id"].n_unique() == found.media["gbif_id"].n_unique() == 4
    assert all(gbif_id.startswith("photo-") for gbif_id in found.media["gbif_id"])
    assert found.media["gbif_id"].to_list() == sort_out(publisher_files(TAXA, media)).media["gbif_id"].to_list()


PHOTOGRAPH = "multimedia"
CORE = Part("occurrence", "id scientificName", [["1", "Rana alba"], ["2", "Bufo albus"]])


def urls_of(*extensions: Part, core: Part = CORE) -> dict[str, str]:
    """The URL of each photograph that is kept, and its occurrence."""
    media = sort_out(publisher_files(core, *extensions)).media
    return dict(media.select("url", "gbif_id").sort("url").iter_rows())


@pytest.mark.parametrize(
    "row_type",
    [
        "http://rs.gbif.org/terms/1.0/Image",
        "http://rs.tdwg.org/ac/terms/Multimedia",
        "http://rs.gbif.org/terms/1.0/Multimedia",
        "http://eol.org/schema/media/Document",
        "http://example.org/terms/Anything",
    ],
)
def test_the_address_is_where_the_table_has_it_whatever_its_row_type(row_type: str) -> None:
    rows = [
        ["1", "urn:uuid:1", "http://x.org/1.jpg", "image/jpeg", "Museum", "CC0", ""],
        ["1", "http://x.org/2.jpg", "", "image/jpeg", "", "", "http://creativecommons.org/licenses/by/4.0/"],
    ]
    terms = "id identifier accessURI format Owner UsageTerms WebStatement"
    found = sort_out(publisher_files(CORE, Part(row_type, terms, rows, name="media.txt"))).media
    assert found.select("url", "rights_holder", "license_id").sort("url").rows() == [
        ("http://x.org/1.jpg", "Museum", "CC0-1.0"),
        ("http://x.org/2.jpg", "", "CC-BY-4.0"),
    ]


@pytest.mark.parametrize(("term", "value"), [("format", "image/jpeg"), ("type", "StillImage")])
def test_an_extension_of_files_is_read_whatever_its_name(term: str, value: str) -> None:
    rows = [["1", "http://x.org/1", value]]
    attached = Part("http://example.org/terms/Anhang", f"id identifier {term}", rows, name="media.txt")
    assert urls_of(attached) == {"http://x.org/1": "1"}


def test_capitals_of_terms_do_not_matter() -> None:
    rows = [["1", "http://x.org/1.jpg", "urn:1", "CC0"]]
    media = Part("http://rs.tdwg.org/ac/terms/Multimedia", "id accessUri Identifier usageTerms", rows)
    found = sort_out(publisher_files(CORE, media)).media
    assert found.select("url", "license_id").rows() == [("http://x.org/1.jpg", "CC0-1.0")]


def test_an_unknown_extension_of_images_is_read_and_one_of_references_is_not() -> None:
    rows = [["1", "http://x.org/1.jpg"]]
    images = Part("http://example.org/terms/SpecimenPhotos", "id identifier", rows, name="photos.txt")
    others = [["1", "http://x.org/paper.jpg"]]
    references = Part("http://rs.gbif.org/terms/1.0/Reference", "id identifier", others, name="references.txt")
    assert urls_of(images, references) == {"http://x.org/1.jpg": "1"}


def test_images_listed_in_the_occurrence_are_read(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rows = [
        ["1", "Rana alba", "http://x.org/a.jpg | https://x.org/b;1.PNG;http://x.org/c.jpg, http://x.org/page"],
        ["2", "Bufo albus", "in the drawer"],
        ["3", "Bufo albus", ""],
        ["4", "Bufo albus", '<a href="http://x.org/e.jpg">photo</a>'],
        ["5", "Bufo albus", '{"url": "http://x.org/f.jpg", "title": "Bufo"}'],
        ["6", "Bufo albus", "[http://x.org/g_(front).jpg] a note"],
    ]
    core = Part("occurrence", "id scientificName associatedMedia", rows)
    found = sort_out(publisher_files(core))
    assert found.species == dict.fromkeys(("a.jpg", "b;1.PNG", "c.jpg"), "Rana alba") | dict.fromkeys(
        ("e.jpg", "f.jpg", "g_(front).jpg"), "Bufo albus"
    )
    assert found.counts == {"": 6, "not_a_photograph": 1}
    assert set(found.media["license_id"]) == {"unknown"}
    assert "7 addresses of media in associatedMedia of 5 occurrences; 1 other entries hold no address" in caplog.text
    both = sort_out(publisher_files(core, Part(PHOTOGRAPH, "id identifier", [["2", "http://x.org/d.jpg"]])))
    assert both.species == found.species | {"d.jpg": "Bufo albus"}


def test_images_listed_in_the_occurrences_of_an_event_belong_to_them() -> None:
    seen = [["e1", "o1", "Rana alba", "http://x.org/1.jpg"], ["e1", "o2", "Bufo albus", "http://x.org/2.jpg"]]
    occurrences = Part("occurrence", "id occurrenceID scientificName associatedMedia", seen)
    found = sort_out(publisher_files(Part("event", "id eventDate", [["e1", "2020-05-01"]]), occurrences))
    assert found.species == {"1.jpg": "Rana alba", "2.jpg": "Bufo albus"}


def test_rows_that_fit_in_no_way_are_dropped_with_a_reason_and_never_shifted() -> None:
    media = [["1", "http://x.org/1.jpg", "CC0"], ["2", "http://x.org/2.jpg", "a title, CC0", "http://by/4.0/", "Ann"]]
    core = Part(
        "occurrence", "id scientificName decimalLatitude", [["1", "Rana alba", "5"], ["2", "Bufo", "albus", "9"]]
    )
    found = sort_out(publisher_files(core, Part(PHOTOGRAPH, "id identifier license", media)))
    assert found.species == {"1.jpg": "Rana alba"}
    assert found.reasons == {1: MALFORMED_ROW}
    assert found.occurrences["gbif_id"].to_list() == ["1"]
