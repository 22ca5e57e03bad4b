"""How fast does an archive become a manifest, in how much memory, and how do both grow?

The claim: at least 5 times as fast as gbif-dl 0.1.1, the reader that ai-taxonomist is built on, from the zip, in less
than 1.5 GB; and ten times the occurrences take at most 11 times the time and 1.5 times the memory. Both sides run here
as a user would start them, one after the other. Theirs writes a line of CSV for each photograph; ours does the whole
stage: it joins the occurrences, names the licences, finds URLs under several species, and writes every table.

    python benchmarks/bench_manifest.py                                             generated archives, some minutes
    python benchmarks/bench_manifest.py --archive 500k.zip [--larger 5m.zip]        archives of your own

gbif-dl pins old versions of what we use: it is put into a virtual environment of its own, or --peer names a Python that
has it. Memory is the peak of the resident set of all processes together.
"""

import argparse
import contextlib
import csv
import io
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

PEER = "gbif-dl==0.1.1"
PEER_SCRIPT = """
import csv, sys
from gbif_dl.generators.dwca import dwca_generator
with open(sys.argv[2], "w", newline="") as file:
    writer = None
    for row in dwca_generator(sys.argv[1], one_media_per_occurrence=False):
        if writer is None:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
        writer.writerow(row)
"""
DWC, DCTERMS, GBIF = "http://rs.tdwg.org/dwc/terms/", "http://purl.org/dc/terms/", "http://rs.gbif.org/terms/1.0/"
GBIF_TERMS = ("gbifID", "mediaType", "taxonKey", "acceptedTaxonKey", "speciesKey", "species", "acceptedScientificName")
LOOK_EVERY_S = 0.25  # looking at all processes takes a core away from who uses both
NUM_COLUMNS = 241  # of occurrence.txt in GBIF's downloads of 2020 to 2022
ORDERS = ("Anura", "Ixodida", "Lepidoptera", "Poales")
TERMS = re.findall(
    r"\w+",
    "gbifID license publisher basisOfRecord recordedBy eventDate countryCode decimalLatitude decimalLongitude "
    "coordinateUncertaintyInMeters scientificName kingdom phylum class order family genus specificEpithet taxonRank "
    "vernacularName datasetKey mediaType taxonKey acceptedTaxonKey speciesKey species acceptedScientificName",
)
MEDIA_TERMS = re.findall(
    r"\w+",
    "gbifID type format identifier references title description source audience created creator contributor publisher "
    "license rightsHolder",
)


@dataclass(frozen=True)
class Run:
    """What a command took."""

    seconds: float
    bytes: int


def measure(command: Sequence[str | Path]) -> Run:
    """Run a command to its end; time, and the peak of what it and its children hold."""
    begin = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        top = psutil.Process(process.pid)
        while not ended.wait(LOOK_EVERY_S):
            total = 0
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end at any moment
                for one in [top, *top.children(recursive=True)]:
                    total += one.memory_info().rss
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - begin
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{errors.decode(errors='replace')[-2000:]}")
    return Run(seconds, peak)


def ours(archive: Path, folder: Path) -> Run:
    """The manifest stage from the command line."""
    root = folder / f"root-{archive.stem}"
    return measure([sys.executable, "-m", "aitax_ray.cli", "manifest", "--root", root, "--archive", archive, "--force"])


def theirs(archive: Path, folder: Path, python: Path) -> Run:
    """gbif-dl's generator, written to CSV."""
    script = folder / "peer.py"
    script.write_text(PEER_SCRIPT, encoding="utf-8")
    return measure([python, script, archive, folder / "peer.csv"])


def peer_python(folder: Path) -> Path:
    """A Python that has gbif-dl."""
    venv.create(folder / "peer", with_pip=True)
    python = folder / "peer" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
    return python


def make_archive(path: Path, num_occurrences: int) -> Path:
    """Write an archive in the layout of a GBIF download: 300 species, some 1.3 photographs to an occurrence."""
    rng = random.Random(0)
    filler = [f"filler{i}" for i in range(NUM_COLUMNS - len(TERMS))]
    blank = [rng.choice(["", "", "", "some text", "0.5", "2020-01-01T00:00:00"]) for _ in filler]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("meta.xml", _meta_xml([*TERMS, *filler]))
        for name, header in (("occurrence.txt", [*TERMS, *filler]), ("multimedia.txt", MEDIA_TERMS)):
            rng = random.Random(1)
            with archive.open(name, "w", force_zip64=True) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
                rows = csv.writer(text, "excel-tab", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
                rows.writerow(header)
                for number in range(num_occurrences):
                    gbif_id, species, photos = 10**9 + 7 * number, rng.randrange(300), rng.choice([0, 1, 1, 1, 2, 3])
                    if name == "occurrence.txt":
                        rows.writerow([*_occurrence(gbif_id, species, number), *blank])
                    else:
                        rows.writerows(_photo(gbif_id, photo, number) for photo in range(photos))
    return path


def _occurrence(gbif_id: int, species: int, number: int) -> list[str]:
    name, order = f"Genus{species % 40} species{species}", ORDERS[species % len(ORDERS)]
    day = f"20{number % 23:02}-0{1 + number % 9}-1{number % 10}T12:00:00"
    return [
        str(gbif_id), "CC_BY_NC_4_0", "Somebody", "HUMAN_OBSERVATION", f"observer {number % 5000}", day, "NA",
        f"{number % 89}.{number % 9973}", f"{number % 179}.{number % 9967}", str(number % 500), f"{name} L., 1758",
        "Animalia", "Phylum", "Class", order, f"Family{species % 20}", f"Genus{species % 40}", f"species{species}",
        "SPECIES", "", f"50c9509d-22c7-4a22-a47d-8c48425e{species % 50:04}", "StillImage", str(species), str(species),
        str(species), name, f"{name} L., 1758",
    ]  # fmt: skip


def _photo(gbif_id: int, photo: int, number: int) -> list[str]:
    who = f"photographer {number % 5000}"
    return [
        str(gbif_id), "StillImage", "image/jpeg", f"https://photos.example/{gbif_id}/{photo}/original.jpg?{number}",
        f"https://photos.example/{gbif_id}", "", "", "", "", "2020-06-01T00:00:00Z", who, "", "Somebody",
        "http://creativecommons.org/licenses/by-nc/4.0/", who,
    ]  # fmt: skip


def _meta_xml(terms: Sequence[str]) -> str:
    def table(tag: str, key: str, row_type: str, name: str, columns: Sequence[str]) -> str:
        space = DWC if tag == "core" else DCTERMS
        fields = "".join(
            f'<field index="{i}" term="{GBIF if c in GBIF_TERMS else space}{c}"/>' for i, c in enumerate(columns)
        )
        return (
            f'<{tag} encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" '
            f'ignoreHeaderLines="1" rowType="{row_type}"><files><location>{name}</location></files>'
            f'<{key} index="0"/>{fields}</{tag}>'
        )

    core = table("core", "id", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence.txt", terms)
    media = table("extension", "coreid", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt", MEDIA_TERMS)
    return f'<archive xmlns="http://rs.tdwg.org/dwc/text/">{core}{media}</archive>'


def main() -> None:
    """Measure and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--occurrences", type=int, default=500_000)
    parser.add_argument("--growth", type=int, default=5_000_000, help="occurrences of a larger archive, 0 for none")
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--larger", type=Path)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--runs", type=int, default=3, help="of ours and theirs in turn; the medians count")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aitax-bench-") as name:
        folder = Path(name)
        archive = given.archive or make_archive(folder / "archive.zip", given.occurrences)
        python = given.peer or peer_python(folder)
        pairs = [(ours(archive, folder), theirs(archive, folder, python)) for _ in range(given.runs)]
        mine, peer = (sorted(side, key=lambda run: run.seconds)[given.runs // 2] for side in zip(*pairs, strict=True))
        print(  # noqa: T201  a benchmark reports
            f"{archive.name} ({archive.stat().st_size / 1e6:,.0f} MB): ours {mine.seconds:.1f} s, "
            f"{mine.bytes / 1e6:,.0f} MB; gbif-dl {peer.seconds:.1f} s, {peer.bytes / 1e6:,.0f} MB; "
            f"ratio {peer.seconds / mine.seconds:.1f}"
        )
        larger = given.larger
        if not larger and not given.archive and given.growth:
            larger = make_archive(folder / "larger.zip", given.growth)
        if larger:
            grown = ours(larger, folder)
            print(  # noqa: T201
                f"{larger.name} ({larger.stat().st_size / 1e6:,.0f} MB): ours {grown.seconds:.1f} s, "
                f"{grown.bytes / 1e6:,.0f} MB; {grown.seconds / mine.seconds:.1f} times the time, "
                f"{grown.bytes / mine.bytes:.2f} times the memory"
            )


if __name__ == "__main__":
    main()
