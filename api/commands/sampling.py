"""The command that lets a model of characters write: sample."""

from __future__ import annotations

from pathlib import Path

import click

from tapeless.commands.options import compilation_options, compile_model, load_model, model_arguments, weights_option
from tapeless.runtime.errors import UserError, printable


@click.command()
@model_arguments
@compilation_options
@weights_option(True)
@click.option("--prompt", default="\n", metavar="TEXT", help="What the text begins with.  [default: a new line]")
@click.option("--length", type=click.IntRange(0), default=300, show_default=True, help="How many characters to write.")
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Less is likelier text; 0: the likeliest character each time.",
)
@click.option("--top-k", type=click.IntRange(1), help="Draw among so many of the likeliest characters.")
@click.option(
    "--alphabet",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The characters in the order of their numbers, where the weights do not hold them.",
)
def sample(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    weights: str, prompt: str, length: int, temperature: float, top_k: int | None, alphabet: Path | None,
) -> None:  # fmt: skip
    """Writes text, one character after the other, each drawn from what the model predicts; --seed decides which.

    Which character each number is comes from the array `alphabet` of the data that the model was trained on.
    """
    from tapeless.runtime import sampling

    program = compile_model(load_model(file, sizes, model), dtype, threads, no_cache, seed, {}, batch=1, group="step")
    program.load(weights)
    characters = program.alphabet if alphabet is None else _read(alphabet)
    if characters is None:
        raise UserError(
            f"{weights} does not say which characters the model's numbers are; --alphabet names a file that does"
        )
    characters = sampling.checked_alphabet(characters, program)
    unknown = sorted(set(prompt) - set(characters))
    if not prompt or unknown:
        listed = (
            f"{', '.join(map(repr, unknown))} {'is' if len(unknown) == 1 else 'are'} not in the model's alphabet"
            if prompt
            else "it is empty"
        )
        raise UserError(f"the text can't begin with {prompt!r}: {listed}; --prompt says how to begin")
    click.echo(prompt, nl=False)
    beginning = [[characters.index(character) for character in prompt]]
    for drawn in sampling.continuation(program, beginning, length, temperature, top_k, seed):
        click.echo(printable(characters[drawn[0]]), nl=False)
    click.echo()


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text in UTF-8") from None
