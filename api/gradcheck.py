"""`tapeless check --gradients`: derivatives against central differences, in float64, through machine code.

Every function that states its derivative is compared at random numbers, and the gradient of the whole loss along one
random direction of each parameter. What agrees is not proved, but what disagrees is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeless.compiler.language import ast, parser
from tapeless.model import Model
from tapeless.runtime.errors import UserError

if TYPE_CHECKING:
    from tapeless.compiler.model import Data
    from tapeless.runtime.program import Program

Array = npt.NDArray[Any]

POINTS = 64  # at which a function is compared, drawn from [-SPREAD, SPREAD]
SPREAD = 2.0
ROWS = 8  # of the data made up for a model
# The rounding of a value of size 1 spoils a difference by 1e-16 / STEP = 1e-11, the third derivative by STEP ** 2 =
# 1e-10; a second, smaller step is for kinks between the two points of the first.
STEPS = (1e-5, 3e-7)
RELATIVE, ABSOLUTE = 1e-5, 1e-7


@dataclass(frozen=True)
class Comparison:
    """One derivative and what a difference gives for it; `where` says at what numbers, if that matters."""

    subject: str
    derivative: float
    difference: float
    agrees: bool
    where: str = ""


def compare(model: Model, data: Mapping[str, Any] | None = None) -> list[Comparison]:
    """All comparisons for a model: its functions' stated derivatives, then its loss's gradient by each parameter.

    `data` are the arrays for the loss, of which the first few rows are taken; numbers are made up without. Raises
    UserError where the model has faults, or the loss is not finite.
    """
    return [*_functions(model), *_parameters(model, data)]


def table(found: list[Comparison]) -> str:
    """The comparisons, one on a line."""
    rows = [("derivative", "computed", "difference", "")]
    rows += [
        (one.subject, f"{one.derivative:.9g}", f"{one.difference:.9g}", "agree" if one.agrees else f"DIFFER{one.where}")
        for one in found
    ]
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return "".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() + "\n" for a, b, c, d in rows)


# --- Functions


def _functions(model: Model) -> Iterator[Comparison]:
    """By each argument of each function with a stated derivative, the point where the two differ most."""
    stated = _stated(model)
    if not stated:
        return
    rng = np.random.default_rng(0)
    data = {_input(one, p): rng.uniform(-SPREAD, SPREAD, POINTS) for one in stated for p in one.parameters}
    program = Model(model.text + _probe(stated), model.file, _PROBE, {}, (), model.imports).compile(
        dtype="float64", batch=POINTS
    )
    here = _by_name(program, data)
    for one in stated:
        for parameter in one.parameters:
            name = _input(one, parameter)
            computed = here[f"{name}_slope"]
            differences = np.stack([_difference(program, data, name, one.name, step) for step in STEPS])
            known = np.isfinite(here[f"{one.name}_value"]) & np.isfinite(differences).all(axis=0)
            if not known.any():
                raise UserError(
                    f"`{one.name}` has no finite value between {-SPREAD:g} and {SPREAD:g}, so its derivative "
                    "can't be checked"
                )
            errors = np.where(known, _error(computed, differences, 1.0), 0.0)
            worst = int(np.argmax(errors))
            at = ", ".join(f"{p.name} = {data[_input(one, p)][worst]:.4g}" for p in one.parameters)
            nearest = int(np.argmin(np.abs(differences[:, worst] - computed[worst])))
            yield Comparison(f"{one.name} by {parameter.name}", float(computed[worst]),
                float(differences[nearest, worst]),
                             bool(errors[worst] <= 1), f" at {at}")  # fmt: skip


_PROBE = "Stated_derivatives"


def _stated(model: Model) -> list[ast.Definition]:
    """The functions of the file, and of those it imports, that state their derivative."""
    found: dict[str, ast.Definition] = {}
    for source in model.pipeline("float64").model.sources:
        for one in parser.parse(source)[0].declarations:
            if isinstance(one, ast.Definition) and one.derivatives:
                found.setdefault(one.name, one)
    return list(found.values())


def _input(function: ast.Definition, parameter: ast.Parameter) -> str:
    return f"{function.name}_{parameter.name}"


def _probe(stated: list[ast.Definition]) -> str:
    """A model whose outputs are the functions' values and derivatives."""
    lines = [f"\n\nmodel {_PROBE}:"]
    lines += [f"    input {_input(one, parameter)}: [batch]" for one in stated for parameter in one.parameters]
    for one in stated:
        names = [_input(one, parameter) for parameter in one.parameters]
        lines.append(f"    output {one.name}_value = {one.name}({', '.join(names)})")
        lines += [f"    output {name}_slope = grad({one.name}_value, {name})" for name in names]
    return "\n".join(lines) + "\n"


def _by_name(program: Program, data: Mapping[str, Array]) -> dict[str, Array]:
    found = program.predict(data)
    return found if isinstance(found, dict) else {program.output_names[0]: found}


def _difference(program: Program, data: Mapping[str, Array], name: str, function: str, step: float) -> Array:
    up, down = (_by_name(program, {**data, name: data[name] + sign * step})[f"{function}_value"] for sign in (1, -1))
    return np.asarray((up - down) / (2 * step))


def _error(computed: Any, differences: Any, scale: float) -> Any:
    """How far a derivative is from the nearest difference, in units of what is tolerated; more where it is no
    number.
    """
    allowed = RELATIVE * np.maximum(np.abs(computed), np.abs(differences)) + ABSOLUTE * scale
    return np.nan_to_num(np.abs(differences - computed) / allowed, nan=np.inf).min(axis=0)


# --- The loss


def _parameters(model: Model, data: Mapping[str, Any] | None) -> Iterator[Comparison]:
    """By each parameter that is trained, the derivative along one random direction."""
    sized = model if data is None else model.sized_for(data)
    pipeline = sized.pipeline("float64")
    if "gradients" not in pipeline.available():
        return
    rng = np.random.default_rng(0)
    arrays = (
        _made_up(pipeline.model.data, rng)
        if data is None
        else {name: np.asarray(array)[:POINTS] for name, array in data.items()}
    )
    program = sized.compile(dtype="float64", batch=ROWS)
    start = program.vector()
    loss, gradient = program.value_and_grad(start, arrays)
    if not np.isfinite(loss):
        where = "made-up data; give it data with --data" if data is None else "this data"
        raise UserError(f"the loss is {loss} on {where}")
    place = 0
    for slot, view in zip(program.manifest.gradients.slots, program.trainable(), strict=True):
        direction = np.zeros_like(start)
        part = rng.normal(size=view.size)
        direction[place : place + view.size] = part / np.linalg.norm(part)
        place += view.size
        computed = gradient @ direction
        differences = []
        for step in STEPS:
            up, down = (program.value_and_grad(start + sign * step * direction, arrays)[0] for sign in (1, -1))
            differences.append((up - down) / (2 * step))
        error = _error(computed, np.array(differences), 1.0 + abs(loss))
        nearest = min(differences, key=lambda difference: abs(difference - computed))
        yield Comparison(f"loss by {slot.name}", float(computed), float(nearest), bool(error <= 1))
    program.set_vector(start)


def _made_up(data: tuple[Data, ...], rng: np.random.Generator) -> dict[str, Array]:
    """Normal numbers, and integers and booleans that the model admits."""
    found: dict[str, Array] = {}
    for one in data:
        shape = one.type.at(ROWS)
        found[one.name] = rng.normal(size=shape) if one.type.dtype.is_float else rng.integers(0, one.bound or 2, shape)
        if one.type.dtype.record.is_boolean:
            found[one.name] = found[one.name].astype(bool)
    return found
