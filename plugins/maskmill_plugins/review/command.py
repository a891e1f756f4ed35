"""The command `maskmill review`: the run, the file of decisions, and the server of the page."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sys
import threading
import urllib.parse
import webbrowser
from pathlib import Path
from typing import Any

import click

from maskmill import MaskmillError, Problem, Run, UsageError
from maskmill.corrections import default_path
from maskmill.wording import count_noun
from maskmill_plugins._shared.http.wire import TOKEN_VARIABLE

from ..server.command import FILE, client_host, current_user, find_free_port, require_packages

#: The same at every start, so that a page that is still open reconnects.
PORT = 5030


def read_share(_: click.Context, parameter: click.Parameter, text: str) -> float:
    """A share of the images, 0 to 1: `5%` is 0.05.

    Raises:
        click.BadParameter: it is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*[%％]\s*", text)
    if not found or float(found[1]) > 100:
        raise click.BadParameter(f"{text!r} is not a share of the images; write, for example, 5%", param=parameter)
    return float(found[1]) / 100


@click.command("review")
@click.argument("output", type=FILE)
@click.option("--reviewer", metavar="NAME", help="Who reviews; the page asks, this user's name by default.")
@click.option("--label", metavar="L", help="Begin with the images that have an object of this label.")
@click.option("--corrections", type=FILE, metavar="FILE", help="Where decisions are saved; the pipeline's by default.")
@click.option("--images", type=FILE, metavar="FOLDER", help="Contains the images, if they were moved.")
@click.option("--overlap", default="0%", callback=read_share, metavar="5%", help="Give this share to two people.")
@click.option("--team", is_flag=True, help="Print the figures of the team instead: pace, agreement, when to stop.")
@click.option("--json", "as_json", is_flag=True, help="With --team: print one JSON object.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), help=f"0 for any free port; {PORT} by default, if free.")
@click.option("--token", help=f"Bearer token to require, or `none`; better set the variable {TOKEN_VARIABLE}.")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
def review(output: Path, **chosen: Any) -> None:
    """Look at the results of a run in the browser, the most doubtful first, and decide what holds.

    OUTPUT is the output folder of a run. What you accept, change or reject is saved in a file beside the pipeline;
    no later run changes it.
    """
    if chosen["team"]:
        print_team(output, chosen["corrections"], chosen["as_json"])
        return
    if chosen["as_json"]:
        raise UsageError(Problem("--json is of --team", hint="add --team"))
    require_packages()
    from maskmill.stored.originals import OriginalImages

    from ..server.http.request_log import configure_logging
    from .corrections_file import CorrectionsFile
    from .ratings import RatingCache

    configure_logging("text", True)
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(Run(output))
        path, notice = find_corrections(run, chosen["corrections"])
        file = stack.enter_context(CorrectionsFile(path, lambda line: click.echo(line, err=True)))
        originals = stack.enter_context(OriginalImages(run, chosen["images"]))
        cache = stack.enter_context(RatingCache(run.folder))
        _serve(run, file, originals, cache, notice, chosen)


def print_team(output: Path, corrections: Path | None, as_json: bool) -> None:
    """The figures of the team; a server may be running."""
    from .team import describe_run, format_team

    with Run(output) as run:
        team = describe_run(run, find_corrections(run, corrections)[0])
        lines = [json.dumps({"name": run.name, **team}, ensure_ascii=False, indent=2)] if as_json else format_team(team)
        for line in lines:
            click.echo(line)


def find_corrections(run: Run, given: Path | None) -> tuple[Path, str]:
    """The file of decisions about a run, and a line for the user if its pipeline does not name that file yet.

    Raises:
        UsageError: the pipeline's file is unknown and none was given, or it would lie in the output folder.
    """
    pipeline = run.about.get("file")
    named = _find_named(run, pipeline)
    if given is None and named is None and not isinstance(pipeline, str):
        text = "the run does not say which pipeline file made it"
        hint = "give --corrections FILE.jsonl, and name that file as `corrections:` in the pipeline"
        raise UsageError(Problem(text, str(run.folder), hint=hint))
    path = (given or named or default_path(Path(str(pipeline)))).absolute()
    if path.is_relative_to(run.folder.absolute()):
        text = "decisions must not lie in the output folder, which may be deleted or moved aside"
        raise UsageError(Problem(text, str(path), hint="give --corrections FILE.jsonl, beside the pipeline file"))
    if named is not None and named.absolute() == path:
        return path, ""
    file = Path(pipeline) if isinstance(pipeline, str) else None
    written = path.name if file is not None and path.parent == file.parent else str(path)
    return path, f"add `corrections: {written}` to {file.name if file else 'the pipeline'}, so that runs respect it"


def _find_named(run: Run, pipeline: object) -> Path | None:
    """The corrections that the pipeline names: in its file as it is now, else when it ran."""
    if isinstance(pipeline, str) and Path(pipeline).is_file():
        from maskmill.config.load import load_config

        with contextlib.suppress(MaskmillError):  # a broken file, which the next run explains
            return load_config(Path(pipeline), complete=False).corrections
    found = {each.get("corrections") for each in run.pipelines()}
    return Path(name) if len(found) == 1 and isinstance(name := found.pop(), str) else None


def _serve(run: Run, file: Any, originals: Any, cache: Any, notice: str, chosen: dict[str, Any]) -> None:
    from ..server import process
    from ..server.http.security import is_loopback, resolve_token
    from ..server.settings import Settings
    from .leases import Leases
    from .pictures import Pictures
    from .review_queue import ReviewQueue, list_reviewable
    from .routes import build_review_application
    from .second_opinions import choose_overlap
    from .session import ReviewSession

    host, token = chosen["host"], chosen["token"] or os.environ.get(TOKEN_VARIABLE)
    loopback = is_loopback(host)
    token = resolve_token(token or (None if loopback else secrets.token_urlsafe(16)), loopback)
    settings = Settings(token=token, local_names=loopback and token is None)
    queue = ReviewQueue(run.folder, list_reviewable(run, file.lines()), cache)
    if not len(queue):
        raise UsageError(Problem("the run has no finished image to review", str(run.folder)))
    reviewer = chosen["reviewer"] or current_user()
    pictures, ask = Pictures(originals), chosen["reviewer"] is None
    twice = choose_overlap(queue.keys(), chosen["overlap"])
    leases = Leases(cache.lease_file)
    session = ReviewSession(run.name, run.folder, queue, file, pictures, settings, reviewer, notice, ask, twice, leases)
    requests = build_review_application(session)
    port = chosen["port"] if chosen["port"] is not None else find_free_port(host, PORT)

    def announce(server: object, loop: object, port: int) -> None:
        queue.start()
        fragment = {name: text for name, text in (("label", chosen["label"]), ("token", token)) if text}
        url = f"http://{client_host(host)}:{port}/review/"
        if fragment:
            url += f"#{urllib.parse.urlencode(fragment)}"
        _print_start(run, len(queue), file.path, notice, url)
        if twice:
            click.echo(
                f"{count_noun(len(twice), 'image')} of them for two people, who do not see each other's decision"
            )
        if not chosen["no_browser"]:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    try:
        process.listen(requests, session, process.ListenAddress(host, port), announce)
    finally:
        queue.stop()


def _print_start(run: Run, count: int, path: Path, notice: str, url: str) -> None:
    click.echo(f"{count_noun(count, 'image')} of {run.name}; decisions are saved in {path}")
    if notice:
        click.echo(f"note: {notice}")
    if run.is_running():
        click.echo("note: a run is working in this folder; images whose results it replaces are shown anew")
    failed = sum(number for status, number in run.counts().items() if status in ("failed", "quarantined"))
    if failed:
        have = "has" if failed == 1 else "have"
        click.echo(f"note: {count_noun(failed, 'image')} {have} no result; see: maskmill status {run.folder}")
    click.echo(f"open {url}")
    click.echo('press Ctrl-C to stop; everything shown as "Saved" on the page is on disk')
    sys.stdout.flush()
