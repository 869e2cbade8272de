"""Every stage of a compilation as text, with the source lines between, and graphs as drawings for Graphviz.

It looks, and changes nothing: what it prints is what `compile` makes.
"""

from __future__ import annotations

import difflib
import html
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path

from tapeless.cache import stage_folders
from tapeless.codegen.program.assemble import Image
from tapeless.codegen.program.shares import joint
from tapeless.compiler.passes.rematerialise import Choice
from tapeless.formulas import Formulas
from tapeless.ir import text as ir_text
from tapeless.ir.graph import Graph, Node, Span, Value
from tapeless.ir.types import IRTypeError
from tapeless.pipeline import Pipeline, target_named
from tapeless.runtime.errors import UserError
from tapeless.runtime.writing import refusal, write_atomically

GRAPH_STAGES = ("forward", "backward", "update", "simplified", "fused", "scheduled")


class Inspection:
    """The stages of one model: `inspection.stage("backward")` is a text."""

    def __init__(self, pipeline: Pipeline, batch: int | None = None, target: str | None = None) -> None:
        self._pipeline = pipeline
        self._batch = batch
        self._target = target
        target_named(target)  # refused here, whether or not a stage asks for it
        self._sources = _Sources(pipeline)

    def graph(self, stage: str, entry: str | None = None) -> Graph:
        """The graph of a stage that is one. UserError for another stage or an unknown entry."""
        if stage == "forward":
            # these are made of the forward graph; the others hold it whole
            if entry in ("predict", "step", "evaluate"):
                return self._pipeline.entry(entry)
            return self._pipeline.model.forward[True]
        if stage == "update":
            return self._pipeline.model.update
        if stage == "backward":
            return self._pipeline.entry(entry) if entry else self._pipeline.backward()
        name = entry or "train_step"
        if stage == "simplified":
            return self._pipeline.simplified(name)
        if stage == "fused":
            return self._pipeline.bounded(name, target_named(self._target), self._batch).graph
        if stage == "scheduled":
            return self._lowered(name).schedules[name].graph
        raise UserError(f"the stage {stage!r} is not a graph; {', '.join(GRAPH_STAGES)} are")

    def stage(self, stage: str, entry: str | None = None, source: bool = True) -> str:
        """A stage as text. With `source`, a graph is written as formulas below the source lines they come from;
        without, as the text that parses back to the identical graph.
        """
        if stage in GRAPH_STAGES:
            graph = self.graph(stage, entry)
            return self._annotated(stage, graph) if source else ir_text.write(graph)
        printers: dict[str, Callable[[str], str]] = {
            "ast": lambda entry: self._pipeline.syntax(),
            "loops": self._loops,
            "llvm": lambda entry: self._lowered(entry).llvm,
            "asm": lambda entry: self._lowered(entry).assembly,
            "memory": self._memory,
            "timing": self._timing,
        }
        if stage not in printers:
            raise UserError(f"there is no stage {stage!r}; there are {', '.join([*GRAPH_STAGES, *printers])}")
        return printers[stage](entry or "train_step")

    def backward_formulas(self) -> str:
        """The backward half alone, as formulas."""
        text = self.stage("backward")
        return text[max(text.find("  # ---- backward"), 0) :].rpartition("\n\n")[0] + "\n"

    def _annotated(self, stage: str, graph: Graph) -> str:
        """The graph's formulas; where derivatives stand, how many operations they are before and after
        simplification.
        """
        if stage in ("forward", "backward"):
            self._sources.derived = _by_line(self._pipeline.model.derived)
        back = _simplified(*self._pipeline.backward_operations()) if stage == "backward" else ""
        try:
            return annotated(graph, self._sources, back)
        finally:
            self._sources.derived = {}

    def dot(self, stage: str, entry: str | None = None) -> str:
        """A stage that is a graph, drawn: text for Graphviz."""
        return drawing(self.graph(stage, entry))

    def save(self, path: str | Path) -> None:
        """All stages of the training step in one file: a page with a heading for each if it ends in .html, else
        text.
        """
        path = Path(path)
        texts = {stage: self.stage(stage) for stage in ("ast", *GRAPH_STAGES, "loops", "memory", "llvm")}
        if path.suffix in (".html", ".htm"):
            links = " ".join(f'<a href="#{stage}">{stage}</a>' for stage in texts)
            parts = [f'<h2 id="{stage}">{stage}</h2><pre>{html.escape(text)}</pre>' for stage, text in texts.items()]
            title = html.escape(f"{self._pipeline.model.name}: every stage")
            head = f'<!doctype html><meta charset="utf-8"><title>{title}</title><h1>{title}</h1><nav>{links}</nav>'
            content = "\n".join([head, *parts]) + "\n"
        else:
            content = "\n".join(f"#### {stage}\n\n{text}" for stage, text in texts.items())
        try:
            write_atomically(path, content.encode())
        except OSError as error:
            raise UserError(refusal(path, error)) from error

    def _lowered(self, entry: str) -> Image:
        self._pipeline.entry(entry)  # an unknown entry is the user's fault, and said so
        return self._pipeline.lowered(entry, self._batch, self._target)

    def _loops(self, entry: str) -> str:
        """The loops of the entry's kernels, in the order of its tasks, each once, below the lines they compute."""
        from tapeless.codegen.loops import text as loops_text

        scheduled = self._lowered(entry).schedules[entry]
        texts: dict[str, str] = {}
        for task in scheduled.graph.walk():
            if task.op != "task" or task.attrs["function"] in texts:
                continue
            function = scheduled.functions[task.attrs["function"]]
            spans = [node.span for node in (task, *(inner for region in task.regions for inner in region.nodes))]
            headings = dict.fromkeys(self._sources.heading(span) for span in spans if span is not None)
            texts[function.name] = "\n".join([*headings, loops_text.format_function(function).rstrip(), ""])
        return "\n".join(texts.values())

    def _memory(self, entry: str) -> str:
        """Where every tensor lies, and what is made again so that they take no more."""
        image = self._lowered(entry)
        choices = self._pipeline.bounded(entry, target_named(self._target), self._batch).choices
        return memory_text(image, entry) + remade_text(choices)

    def _timing(self, entry: str) -> str:
        """How long the stages of the compilation take in this process, and one run of the entry on zeros."""
        from tapeless.timing import stage_times

        return stage_times(self._pipeline, entry, self._batch)


class _Sources:
    """Lines of the model's files and of the standard library, by file and number."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.main = pipeline.model.source.file
        self._lines: dict[str, tuple[str, ...]] = {source.file: source.lines for source in pipeline.model.sources}
        self.derived: dict[tuple[str, int], str] = {}  # remarks on derivatives, by file and line

    def heading(self, span: Span) -> str:
        """The comment before the nodes of a line."""
        lines = self._of(span.file)
        text = lines[span.line - 1].rstrip() if 0 < span.line <= len(lines) else ""
        place = str(span.line) if span.file == self.main else f"{Path(span.file).name}:{span.line}"
        remark = self.derived.get((span.file, span.line))
        return f"# {place} | {text}" + (f"  -- derivative{remark}" if remark else "")

    def _of(self, file: str) -> tuple[str, ...]:
        if file not in self._lines:
            path = stage_folders()["tapeless.compiler"] / "std" / Path(file).name
            self._lines[file] = tuple(path.read_text("utf-8").splitlines()) if path.is_file() else ()
        return self._lines[file]


def annotated(graph: Graph, sources: _Sources, back: str = "") -> str:
    """A graph as formulas, below the source lines they come from; `back` is a remark on its backward half."""
    return "\n".join(_graph_lines(graph, sources, "", _primal(graph), back=back)) + "\n"


def _by_line(derived: Mapping[Span, tuple[int, int]]) -> dict[tuple[str, int], str]:
    """Remarks for lines with derivatives, those of one line added up."""
    sums: dict[tuple[str, int], tuple[int, int]] = {}
    for span, (asked, written) in derived.items():
        known = sums.get((span.file, span.line), (0, 0))
        sums[span.file, span.line] = (known[0] + asked, known[1] + written)
    return {place: _simplified(*counts) for place, counts in sums.items()}


def _simplified(asked: int, left: int) -> str:
    return f": {asked} operations, {left} after simplification"


def _primal(graph: Graph) -> set[Value]:
    """The values of the forward half, of a graph that has a backward half too; of another, none."""
    primal = [port.value for port in graph.outputs if port.role in ("loss", "metric", "part", "output")]
    if not primal or all(port.role != "gradient" for port in graph.outputs):
        return set()
    return graph.ancestors(primal)


def _graph_lines(
    graph: Graph,
    sources: _Sources,
    indent: str,
    primal: Set[Value] = frozenset(),
    last: tuple[str, int] | None = None,
    back: str = "",
    meets: bool = True,
) -> Iterator[str]:
    """`primal` holds the values of the forward half, if a backward one follows; `last` is the line shown last; `meets`:
    threads do so between phases.
    """
    inner = indent + "  "
    if not indent:
        yield f"graph {graph.name}"
        for role in dict.fromkeys(port.role for port in graph.inputs):
            yield f"{inner}{role}: " + ", ".join(f"{p.label}: {p.value.type}" for p in graph.inputs if p.role == role)
    phase = None
    for node, formula in Formulas(graph).lines():
        if primal and primal.isdisjoint(node.results):
            primal, sources.derived = set(), {}  # the remarks are on the forward half
            yield from ("", f"{inner}# ---- backward: from the loss to the parameters{back}")
            last = None
        if node.attrs.get("phase", phase) != phase:
            phase = node.attrs["phase"]
            yield from (
                "",
                f"{inner}# ---- phase {phase}" + (", after all threads have met" if phase and meets else ""),
            )
            last = None
        if node.span is not None and (node.span.file, node.span.line) != last:
            last = (node.span.file, node.span.line)
            yield from ("", inner + sources.heading(node.span))
        yield from _node_lines(node, formula, sources, inner, meets)
    if not indent:
        yield ""
        for port in graph.outputs:
            turns = " (in turns)" if port.turns else ""
            yield f"{inner}{port.role} {port.label} = {port.value.name}{turns}"


def _node_lines(node: Node, formula: str, sources: _Sources, indent: str, meets: bool) -> Iterator[str]:
    """A line for a value; for a kernel or a task, what it reads and writes and where, then its body."""
    if not node.regions:
        (value,) = node.results
        yield f"{indent}{value.name} : {value.type} = {formula}"
        return
    attrs = node.attrs
    parts = f", {attrs['parts']} parts" if attrs.get("parts", 1) > 1 else ""
    if "length" in attrs:
        order = ", the last one first" if attrs["reverse"] else ""
        shared = f"{parts} of the rows" if parts else ""
        yield f"{indent}{node.op} over {attrs['length']} steps{order}{shared}"
    else:
        yield f"{indent}{node.op} {attrs.get('name', '')} ({attrs.get('family', node.op)}{parts})"
    places = attrs.get("places", ("",) * (len(node.operands) + len(node.results)))
    placed = [
        f"{value.name}" + (f" @ {place}" if place else "")
        for value, place in zip((*node.operands, *node.results), places, strict=True)
    ]
    yield f"{indent}  reads  {', '.join(placed[: len(node.operands)])}"
    yield f"{indent}  writes {', '.join(placed[len(node.operands) :])}"
    if "plan" in attrs:
        yield f"{indent}  plan   {attrs['plan']}"
    for region in node.regions:
        line_shown = (node.span.file, node.span.line) if node.span else None
        together = meets and (node.op != "loop" or joint(node))
        yield from _graph_lines(region, sources, indent + "  ", last=line_shown, meets=together)


def drawing(graph: Graph) -> str:
    """A graph for Graphviz: inputs as boxes, outputs as double boxes, an edge for every use."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    out = [f"digraph {quoted(graph.name)} {{", '  node [fontname="monospace", fontsize=10];']
    places: dict[object, str] = {}
    for k, port in enumerate(graph.inputs):
        places[port.value] = f"i{k}"
        out.append(
            f"  i{k} [shape=box, label={quoted(f'{port.role} {port.label}')}, tooltip={quoted(str(port.value.type))}];"
        )
    for k, node in enumerate(graph.nodes):
        name = str(node.attrs.get("name", node.op))
        result = node.results[0]
        line = f"\nline {node.span.line}" if node.span else ""
        out.append(f"  n{k} [label={quoted(f'{name}{chr(10)}{result.name}: {result.type}{line}')}];")
        for position, value in enumerate(node.operands):
            label = f" [taillabel={position}]" if len(node.operands) > 1 else ""
            out.append(f"  {places[value]} -> n{k}{label};")
        places.update(dict.fromkeys(node.results, f"n{k}"))
    for k, port in enumerate(graph.outputs):
        out.append(f"  o{k} [shape=box, peripheries=2, label={quoted(f'{port.role} {port.label}')}];")
        out.append(f"  {places[port.value]} -> o{k};")
    return "\n".join([*out, "}", ""])


def memory_text(image: Image, entry: str) -> str:
    """Where every tensor lies: the block of state, the block of gradients, and the entry's workspace with lifetimes."""
    out = []
    for block in ("state", "gradients"):
        description = image.manifest[block]
        out.append(f"{block}: {description['bytes']:,} bytes")
        for slot in description["slots"]:
            shape = f"{slot['dtype']}[{', '.join(map(str, slot['shape']))}]"
            out.append(f"  {slot['offset']:>10,}  {slot['name']:<24} {shape:<16} {slot['role']}")
    scheduled = image.schedules[entry]
    spans: dict[str, list[int]] = {}
    places: dict[str, str] = {}
    types: dict[str, str] = {}
    for node in scheduled.graph.nodes:
        for value, place in zip((*node.operands, *node.results), node.attrs.get("places", ()), strict=False):
            if place.startswith("workspace+"):
                spans.setdefault(value.name, []).append(node.attrs["phase"])
                places[value.name], types[value.name] = place.partition("+")[2], str(value.type)
    own = f", and {scheduled.scratch:,} for each thread" if scheduled.scratch else ""
    out.append(f"workspace of {entry}: {scheduled.workspace:,} bytes{own}")
    for turn in scheduled.turns:
        out.append(f"  {turn.other.offset:>10,}  {turn.slot:<24} {f'{turn.bytes:,} bytes':<16} by turns with the state")
    for name in sorted(spans, key=lambda name: (int(places[name]), min(spans[name]))):
        phases = f"phases {min(spans[name])} to {max(spans[name])}"
        out.append(f"  {int(places[name]):>10,}  {name:<24} {types[name]:<16} {phases}")
    return "\n".join(out) + "\n"


def remade_text(choices: Sequence[Choice]) -> str:
    """What is kept and what is made again of each stretch of the forward half; nothing where all is kept."""
    if not choices:
        return ""
    out = [f"made again in the backward half: {sum(choice.nanoseconds for choice in choices) / 1000:,.1f} us of work"]
    for choice in sorted(choices, key=lambda choice: choice.stretch):
        out.append(f"  stretch {choice.stretch}")
        for title, names in (("keeps", [v.name for v in choice.kept]), ("again", [v.name for v in choice.again])):
            listed = textwrap.fill(", ".join(names) or "nothing but what it begins with", 100, break_on_hyphens=False)
            out.append(textwrap.indent(listed, " " * 10).replace(" " * 10, f"    {title} ", 1))
    return "\n".join(out) + "\n"


def operations_text() -> str:
    """The names of all operations."""
    from tapeless.ir.ops import OPERATIONS

    return textwrap.fill("  ".join(sorted(OPERATIONS)), 100) + "\n"


def operation_text(name: str) -> str:
    """An operation's definition: its parts, each with file and line."""
    from tapeless.ir.ops import OPERATIONS, operation

    try:
        definition = operation(name)
    except IRTypeError:
        near = difflib.get_close_matches(name, OPERATIONS, 3, 0.5)
        raise UserError(
            f"there is no operation {name!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
        ) from None
    out = [f"operation {name}"]
    for part, value in vars(definition).items():
        if part == "name":
            continue
        if part == "samples":
            value = "; ".join(", ".join(map(str, sample.operands)) for sample in value)
        place = ""
        target = getattr(value, "func", value)
        if callable(target) and hasattr(target, "__code__"):
            file = Path(inspect.getsourcefile(target) or "")
            place = f"  {file.parent.name}/{file.name}:{target.__code__.co_firstlineno}"
            value = getattr(target, "__qualname__", target)
        elif isinstance(value, types.BuiltinFunctionType):
            value = f"{value.__module__}.{value.__name__}"
        out.append(f"  {part + ':':<12} {value}{place}")
    return "\n".join(out) + "\n"


__all__ = ["GRAPH_STAGES", "Inspection", "annotated", "drawing", "operation_text"]
