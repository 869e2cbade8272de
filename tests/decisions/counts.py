"""What the compiler decided for a training step, in numbers that need no clock: python -m tests.decisions.counts
[--write] [NAME...]

For a target that is fixed, so that every machine counts the same. A fusion, a packing, a partition or a reuse of
memory that is lost shows in one of them; `--write` keeps the new ones in `counts.json`, for a change that is meant.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tapeless.codegen.loops.language import Compute, For, Gather, If, Instruction, Load
from tapeless.codegen.program import schedule
from tapeless.codegen.program.assemble import Image, compile_image
from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.ir.target import TARGETS, Target
from tapeless.ir.types import DType, Examples

from ..compiler.examples import EXAMPLES, name_of

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "counts.json"
TARGET = TARGETS["x86-64-v3"]
MODELS = {
    str(path.relative_to(ROOT).with_suffix("")): path
    for path in (*sorted(ROOT.glob("benchmarks/models/*.tl")), *EXAMPLES)
}
ROWS = 64  # in which bytes are counted


def image_of(path: Path, target: Target = TARGET) -> Image:
    """The training step of a file's first model."""
    model = load(path.read_text("utf-8"), str(path), dtype=DType.F32, model=name_of(path))
    step = lowered(simplified(entries.train_step(model)), target.machine, model.settings.batch)
    return compile_image(model, [("train_step", step)], target, model.settings.batch)


def counts(image: Image) -> dict[str, int | str]:
    """The numbers of one training step."""
    scheduled = image.schedules["train_step"]
    tasks = [node for node in scheduled.graph.walk() if node.op == "task"]
    families = sorted({str(task.attrs["family"]) for task in tasks})
    products = [scheduled.functions[task.attrs["function"]] for task in tasks if task.attrs["family"] == "matmul"]
    inner = [loads_and_products(loop.body) for function in products for loop in innermost(function.body)]
    return {
        "kernels": " ".join(f"{family}:{sum(task.attrs['family'] == family for task in tasks)}" for family in families),
        "phases": len({task.attrs["phase"] for task in scheduled.graph.nodes if task.op in ("task", "loop")}),
        "parts": sum(int(node.attrs["parts"]) for node in scheduled.graph.walk() if node.op in ("task", "loop")),
        "cost": sum(schedule.cost(task, TARGET.machine, ROWS) for task in tasks),
        "bytes": sum(
            value.type.bytes(ROWS)
            for task in tasks
            for value in (*task.operands, *task.results)
            if value.type.shape[:1] != (Examples(),)
        ),
        "workspace": scheduled.workspace,
        "scratch": scheduled.scratch,
        "loads": sum(loads for loads, _ in inner),
        "multiply_adds": sum(made for _, made in inner),
    }


def innermost(body: Sequence[Instruction]) -> Iterator[For]:
    """The loops that hold no other."""
    for one in body:
        if isinstance(one, For):
            inside = list(innermost(one.body))
            yield from inside or [one]
        elif isinstance(one, If):
            yield from innermost([*one.then, *one.otherwise])


def loads_and_products(body: Sequence[Instruction]) -> tuple[int, int]:
    """Loads from memory, and multiply-adds, of vectors."""
    loads = sum(isinstance(one, (Load, Gather)) for one in body)
    return loads, sum(isinstance(one, Compute) and one.op == "fma" and one.result.type.is_float for one in body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    for name in given.names or MODELS:
        made = counts(image_of(MODELS[name]))
        print(name, made, "" if made == kept.get(name) else f"(kept: {kept.get(name)})", flush=True)
        kept[name] = made
    if given.write:
        KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
