"""`maskmill models`: what is known, and what is on this machine."""

from __future__ import annotations

import click

from maskmill_plugins._shared.hub.cached import list_cached_models
from maskmill_plugins._shared.hub.known import KNOWN


@click.command("models")
def models() -> None:
    """List models of the Hugging Face hub for the backend hf and the prompt source detect.

    Sizes are rounded. Other models of the same types work, too, also fine-tuned ones in a folder.
    """
    here = {cached.name: cached for cached in list_cached_models()}
    width = max(len(name) for name in [*here, *(model.name for model in KNOWN)])
    for model in KNOWN:
        state = f"here, {here[model.name].folder}" if model.name in here else "not on this machine"
        about = f"{model.use:6s}  {model.megabytes:5,d} MB  {model.licence:18s}"
        click.echo(f"{model.name:{width}s}  {model.kind:17s}  {about}  {state}")
    click.echo("\nDownload one: maskmill weights pull NAME")
