"""The command tree: names, groups and global options."""

from collections.abc import Callable
from typing import Annotated

import typer

import learning_engine
from learning_engine.cli import access, adapters, deployments, inspection, settings, training
from learning_engine.cli.exit_codes import MEANINGS

EXITS = "\b\nExit codes:\n" + "\n".join(f"  {code}  {meaning}" for code, meaning in MEANINGS.items())
Command = Callable[..., None]
COMMANDS: dict[str, Command] = {
    "login": access.log_in,
    "logout": access.log_out,
    "health": inspection.health,
    "live": inspection.live,
    "preflight": inspection.preflight,
    "train": training.train,
    "status": training.status,
    "fisher": training.fisher,
    "rollback": deployments.rollback,
    "deployments": deployments.deployments,
    "metrics": inspection.metrics,
    "storage": inspection.storage,
}
GROUPS: dict[str, tuple[str, dict[str, Command]]] = {
    "adapters": (
        "The published versions.",
        {
            "list": adapters.list_all,
            "show": adapters.show,
            "download": adapters.download,
            "deploy": deployments.deploy,
            "rollback": deployments.rollback,
        },
    ),
    "config": ("The settings on this machine.", {"show": settings.show, "check": settings.check}),
}


def _group(help_text: str | None = None) -> typer.Typer:
    # Plain help: importing rich would double the start-up time, and it would draw frames into pipes.
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=help_text is None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = _group()
for name, function in COMMANDS.items():
    app.command(name)(function)
for name, (about, functions) in GROUPS.items():
    group = _group(about)
    for inner, function in functions.items():
        group.command(inner)(function)
    app.add_typer(group, name=name)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(learning_engine.__version__)
        raise typer.Exit


@app.callback(epilog=EXITS)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Inspect and control Learning Engine through its REST API.

    Log in once with `learning-engine login`; LEARNING_ENGINE_URL and LEARNING_ENGINE_TOKEN override that. Results go
    to stdout, messages to stderr.
    """
