"""The command line. Each command parses its flags, calls one function and reports.

flags.py makes flags from settings models, and terminal.py runs a command. Importing this module imports neither torch
nor ray: `--help` is instant.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import yaml
from cyclopts import App, Parameter

from aitax_ray import __version__, pipeline
from aitax_ray.dataset.export import ExportSettings, export
from aitax_ray.demand import show_demand
from aitax_ray.engine.purge import purge
from aitax_ray.errors import EngineError, SettingsError
from aitax_ray.flags import CONFIG, add_command
from aitax_ray.serving.serve import serve_until_interrupted
from aitax_ray.serving.settings import ServeSettings
from aitax_ray.settings import build_settings, read_config
from aitax_ray.terminal import make_safe, resumable, run_command
from aitax_ray.workspace import Workspace

DRY_RUN = "Print the CPUs and GPUs that the stage asks of Ray, and whether the cluster has them, and stop."

app = App(
    name="aitax",
    version=__version__,
    help="From a GBIF query to a species identification engine.",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # `terminal.run_command` says how to go on
    help_epilogue=f"{CONFIG} (or --config FILE) may hold settings too, one section per command. Flags win over it. "
    "--debug shows tracebacks.",
)


def _sections(config: Path) -> dict[str, dict[str, Any]]:
    sections, known = read_config(config), [*(stage.name for stage in pipeline.STAGES), "serve", "export"]
    for section in sections:
        if section not in known:
            raise SettingsError(f"{config}: no section is called `{section}:`, they are {', '.join(known)}")
    return sections


def _add_stage(stage: pipeline.Stage) -> None:
    def run(flags: dict[str, Any], config: Path) -> None:
        settings = build_settings(stage.settings, flags, _sections(config).get(stage.name, {}))
        with resumable(settings.force):
            pipeline.run_stage(stage, settings)

    def show(flags: dict[str, Any], config: Path) -> None:
        section = _sections(config).get(stage.name, {})
        settings = build_settings(stage.settings, flags, section, {"root": "."})
        sys.stdout.write(yaml.safe_dump({stage.name: settings.shown()}, sort_keys=False, allow_unicode=True))

    def dry_run(flags: dict[str, Any], config: Path) -> None:
        settings = build_settings(stage.settings, flags, _sections(config).get(stage.name, {}))
        show_demand(stage.name, settings)

    others = {"show": ("Print the settings in the form of aitax.yaml, and stop.", show)}
    if "dry_run" not in stage.settings.model_fields:
        others["dry_run"] = (DRY_RUN, dry_run)
    add_command(app, stage.name, {"Settings": stage.settings}, run, (stage.run.__doc__ or "").split("\n")[0], others)


def _build(flags: dict[str, Any], config: Path) -> None:
    sections = _sections(config)
    with resumable(flags.get("force", any(section.get("force") for section in sections.values()))):
        pipeline.build(flags, sections)
    if flags.get("dry_run", sections.get("manifest", {}).get("dry_run")):
        for stage, settings in pipeline.plan(flags, sections):
            show_demand(stage.name, settings)


def _serve(flags: dict[str, Any], config: Path) -> None:
    serve_until_interrupted(build_settings(ServeSettings, flags, _sections(config).get("serve", {})))


def _export(flags: dict[str, Any], config: Path) -> None:
    settings = build_settings(ExportSettings, flags, _sections(config).get("export", {}))
    with resumable():
        purge(Workspace(settings.root))  # no withdrawn photograph is exported
        export(settings)


add_command(
    app,
    "build",
    {s.name: s.settings for s in pipeline.STAGES},
    _build,
    "Run every stage, manifest to publish; skip what is complete.",
)
for _stage in pipeline.STAGES:
    _add_stage(_stage)
add_command(app, "serve", {"Settings": ServeSettings}, _serve, "Serve an engine over HTTP.")
add_command(app, "export", {"Settings": ExportSettings}, _export, (export.__doc__ or "").split("\n")[0])


@app.command
def identify(
    photos: Annotated[list[Path], Parameter(name="PHOTO", consume_multiple=True)],
    /,
    *,
    engine: str | None = None,
    url: str | None = None,
    together: bool = False,
    max_results: int = 5,
    num_illustrations: int = 6,
    no_reject: bool = False,
    json: bool = False,
) -> None:
    """Name the species on photographs.

    Parameters
    ----------
    photos
        Files with photographs.
    engine
        An engine: its folder, or a root where one is published. It answers in this process.
    url
        Address of a running service that answers instead. The environment variable AITAX_KEY holds the key for it.
    together
        All photographs show one individual: give one answer.
    max_results
        Maximum number of species in an answer.
    num_illustrations
        Maximum number of similar photographs per species. A service may give fewer.
    no_reject
        List species also when the right one is probably none that the engine knows.
    json
        Print JSON, one answer per line, instead of tables.
    """
    from aitax_ray.serving.client import identify_files

    identify_files(
        photos,
        engine=engine,
        url=url,
        together=together,
        max_results=max_results,
        num_illustrations=num_illustrations,
        no_reject=no_reject,
        as_json=json,
    )


@app.command
def cite(
    *, root: str, title: str | None = None, source_url: str | None = None, datasets: bool = False, json: bool = False
) -> None:
    """Say how to cite the data, and how to register the data set at GBIF for its own DOI. Nothing is sent.

    Parameters
    ----------
    root
        Folder, or URL, where `split` is complete.
    title
        Title of the data set; by default made from the query.
    source_url
        Permanent address of the data set, such as its record at Zenodo. GBIF needs it.
    datasets
        Also print the citations of the datasets that it comes from.
    json
        Print only the body of the request to GBIF.
    """
    from aitax_ray.dataset.cite import cite as cited

    sys.stdout.write(cited(root, title=title, source_url=source_url, datasets=datasets, as_json=json))


@app.command
def doctor(*, root: str | None = None, json: bool = False) -> None:
    """Check versions, cluster, machines, storage and artifacts; say what is wrong and what to do.

    It looks at the cluster at RAY_ADDRESS, or else at this machine. The exit status is 1 if something is broken.

    Parameters
    ----------
    root
        Folder, or URL, of a project: also check that every node can use it, and what the stages have written there.
    json
        Print JSON.
    """
    from aitax_ray.doctor.doctor import doctor as examine

    examine(root, as_json=json)


engines = App(name="engines", help="List, check, compare, roll back and delete published engines.")
app.command(engines)
Root = Annotated[str, Parameter(help="Root, a folder that `publish --to` wrote, or one engine: a folder or a URL.")]
Json = Annotated[bool, Parameter(help="Print JSON.", negative="")]


@engines.command(name="list")
def list_engines(*, root: Root, json: Json = False) -> None:
    """List the engines, the oldest first. A star marks the current one."""
    from aitax_ray.engine.engines import Engines
    from aitax_ray.engine.shown import show

    show(Engines(root).summaries(), as_json=json)


@engines.command(name="verify")
def verify_engines(version: str | None = None, /, *, root: Root, json: Json = False) -> None:
    """Compare every file with its checksum. The exit status is 1 if something is wrong.

    Parameters
    ----------
    version
        One engine; by default all of them.
    """
    from aitax_ray.engine.engines import Engines
    from aitax_ray.engine.shown import show

    found = Engines(root).verify(version)
    show(found, as_json=json)
    num_damaged = sum(bool(one.problems) for one in found)
    if num_damaged:
        raise EngineError(f"{num_damaged} of {len(found)} engines cannot be used: copy or publish them again")


@engines.command(name="diff")
def compare_engines(before: str, after: str, /, *, root: Root | None = None, json: Json = False) -> None:
    """Show what differs between two engines: species, photographs, figures, settings, files, packages.

    Parameters
    ----------
    before
        A version below the root, or the location of an engine.
    after
        The same.
    """
    from aitax_ray.engine.diff import find_difference
    from aitax_ray.engine.engines import open_version
    from aitax_ray.engine.shown import show

    show(find_difference(open_version(before, root), open_version(after, root)), as_json=json)


@engines.command
def rollback(version: str | None = None, /, *, root: Root, json: Json = False) -> None:
    """Make an earlier engine the current one, after a check of all its files.

    Parameters
    ----------
    version
        The engine; by default the last one before the current one.
    """
    from aitax_ray.engine.engines import Engines
    from aitax_ray.engine.shown import show

    show(Engines(root).rollback(version), as_json=json)


@engines.command
def prune(*, root: Root, keep: int, json: Json = False) -> None:
    """Delete the oldest engines. The current one stays, and every folder that `publish` did not make.

    Parameters
    ----------
    keep
        Number of engines to keep, at least 1.
    """
    from aitax_ray.engine.engines import Engines
    from aitax_ray.engine.shown import show

    show(Engines(root).prune(keep), as_json=json)


keys = App(
    name="keys", help="Add, list and revoke the API keys of a service. A service takes changes up within seconds."
)
app.command(keys)
Keys = Annotated[Path, Parameter(help="File of keys, that of `serve --keys`. It holds no key itself, only its sha256.")]


@keys.command(name="add")
def add_key(
    name: str,
    /,
    *,
    keys: Keys,
    per_day: int | None = None,
    per_minute: int | None = None,
    origins: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
) -> None:
    """Add a key and print it, once.

    Parameters
    ----------
    name
        Name of its holder. The key named `page` is for visitors of the page, who send no key.
    per_day
        Maximum number of identifications per day, in UTC.
    per_minute
        Maximum number of requests per minute.
    origins
        Web origins that may use it, such as https://frogs.example. By default all, and programs.
    """
    from aitax_ray.serving.keys import add_key as add

    sys.stdout.write(f"{add(keys, name, per_day, per_minute, origins or [])}\n")


@keys.command(name="list")
def list_keys(*, keys: Keys, json: Json = False) -> None:
    """List the keys that are valid."""
    from aitax_ray.serving.keys import show_keys

    show_keys(keys, as_json=json)


@keys.command(name="revoke")
def revoke_key(name: str, /, *, keys: Keys) -> None:
    """End a key: services refuse it within seconds.

    Parameters
    ----------
    name
        Name of its holder.
    """
    from aitax_ray.serving.keys import revoke_key as revoke

    revoke(keys, name)


_Several = Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())]


@app.command
def takedown(
    *,
    root: str | None = None,
    engine: str | None = None,
    image: _Several = None,
    url: _Several = None,
    creator: _Several = None,
    occurrence: _Several = None,
    reason: str = "",
    requested_by: str = "",
    dry_run: bool = False,
    purge: bool = False,
    restore: str | None = None,
    list: bool = False,
) -> None:
    """Withdraw photographs on request of their authors: from services at once, from all files with the next publish.

    Parameters
    ----------
    root
        Folder, or URL, of the project.
    engine
        In place of --root: folder of one engine that was copied elsewhere. Only its services are told.
    image
        image_id of photographs.
    url
        Addresses of photographs, or of their web pages.
    creator
        Names of authors or rights holders. Case, blanks and forms of Unicode make no difference.
    occurrence
        gbif_id of occurrences, or their pages at GBIF: all photographs of these.
    reason
        Why, for the log.
    requested_by
        Who asked, for the log.
    dry_run
        Only say what would be withdrawn.
    purge
        Delete from all files now, not with the next publish. Without photographs: those of earlier requests.
    restore
        Undo the request of this name.
    list
        List all requests.
    """
    from aitax_ray.engine import takedown as module

    given = {"image": image or [], "url": url or [], "creator": creator or [], "occurrence": occurrence or []}
    text = module.run(
        root, engine, given, reason, requested_by, dry_run=dry_run, purge=purge, restore=restore, show_list=list
    )
    sys.stdout.write(f"{make_safe(text)}\n")


@app.command
def demo(*, root: Path = Path("aitax-demo"), once: bool = False, port: int = 8000) -> None:
    """Build an engine from a small generated GBIF on loopback, identify a photograph, serve on.

    Parameters
    ----------
    root
        Folder for everything; stages that are complete there are skipped.
    once
        Stop after the identification.
    port
        Port of the service; 0 takes a free one.
    """
    from aitax_ray.demo.demo import run_demo

    with resumable():
        run_demo(root, once=once, port=port)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    run_command(app, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    main()
