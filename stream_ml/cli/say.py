"""The one place where a verb writes to the terminal: what came out of anybody's record steers none."""

import typer

from stream_ml.observe.problems import printable


def say(text: str, *, err: bool = False) -> None:
    """Write lines for a person; escape sequences in them are shown as text.

    Values out of records go through `printable` where a line is made of them: only there is a newline theirs.
    """
    typer.echo("\n".join(map(printable, text.split("\n"))), err=err)


def say_over(text: str) -> None:
    """Write one line to a terminal in the place of the one before: how far something is."""
    typer.echo(f"\r\x1b[K{printable(text)}", nl=False, err=True)
