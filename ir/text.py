"""The text form of graphs: `write` prints one, `read` parses it back to the identical graph.

    graph square {
      input data x: %x : f32[batch, 3] !m.tl:2:5-2:6
      %y : f32[batch, 3] = square(%x) !m.tl:3:9-3:13
      output output y: %y
    }

A region follows its node in brackets: `= scan(%a, %b) {carries=1} [ graph body { ... } ]`. Lines may end in a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tapeless.ir.graph import PART_KINDS, Graph, Node, Part, Port, Span, Value
from tapeless.ir.types import DType, Examples, Rows, Tensor


class TextError(Exception):
    """The text is not a graph: the message names the line and what was expected."""


def write(graph: Graph) -> str:
    """The text of a graph; `read` gives the graph back."""
    return "\n".join(_lines(graph, "")) + "\n"


def _lines(graph: Graph, indent: str) -> Iterator[str]:
    yield f"{indent}graph {graph.name} {{"
    for port in graph.inputs:
        yield f"{indent}  {input_text(port)}"
    for node in graph.nodes:
        yield from node_lines(node, indent + "  ")
    for port in graph.outputs:
        yield f"{indent}  {output_text(port)}"
    yield f"{indent}}}"


def input_text(port: Port) -> str:
    return f"input {port.role} {port.label}: {port.value} : {port.value.type}{_port_facts(port)}{_span_text(port.span)}"


def output_text(port: Port) -> str:
    return f"output {port.role} {port.label}: {port.value}{_port_facts(port)}{_span_text(port.span)}"


def _port_facts(port: Port) -> str:
    facts: dict[str, Any] = {}
    if port.part is not None:
        facts |= {"part": port.part.kind, "term": port.part.term}
    if port.places is not None:
        facts["places"] = port.places
    if port.turns:
        facts["turns"] = True
    return _braced(facts)


def _braced(attrs: Mapping[str, Any]) -> str:
    inner = ", ".join(f"{key}={attribute_text(value)}" for key, value in attrs.items())
    return f" {{{inner}}}" if inner else ""


def node_lines(node: Node, indent: str = "", spans: bool = True) -> Iterator[str]:
    """The lines of one node, its regions indented below it."""
    results = ", ".join(f"{value} : {value.type}" for value in node.results)
    operands = ", ".join(map(str, node.operands))
    tail = _braced(node.attrs) + (" [" if node.regions else "")
    span = _span_text(node.span) if spans else ""
    yield f"{indent}{results} = {node.op}({operands}){tail}" + ("" if node.regions else span)
    if node.regions:
        for region in node.regions:
            yield from _lines(region, indent + "  ")
        yield f"{indent}]{span}"


def _span_text(span: Span | None) -> str:
    return f" !{span}" if span else ""


def attribute_text(value: Any) -> str:
    """An attribute as the text form writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "(" + "".join(attribute_text(item) + ", " for item in value).rstrip() + ")"
    return str(value) if isinstance(value, (DType, Rows, int)) else repr(float(value))


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<comment>\#.*)
    | (?P<span>![^\n#]+:\d+:\d+-\d+:\d+)
    | (?P<value>%[\w.'\u0080-\U0010ffff-]+)
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<number>-?(?:inf|nan)\b|-?\d+\.?\d*(?:[eE][+-]?\d+)?)
    | (?P<word>[A-Za-z_\u0080-\U0010ffff][\w.'$\u0080-\U0010ffff-]*)
    | (?P<mark>[{}\[\]():=,*])
    )""",
    re.VERBOSE,
)
_SPAN = re.compile(r"!(.*):(\d+):(\d+)-(\d+):(\d+)$")


def read(text: str) -> Graph:
    """Parse one graph. Raises TextError."""
    (graph,) = read_all(text)
    return graph


def read_all(text: str) -> list[Graph]:
    """Parse a file of graphs, one after another. Raises TextError."""
    reader = _Reader(text)
    graphs = []
    while reader.kind != "end":
        graphs.append(reader.graph())
    return graphs


class _Reader:
    """A recursive-descent reader over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self.tokens = list(self._tokens(text))
        self.at = 0

    @staticmethod
    def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
        position, line = 0, 1
        end = len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if not match or match.lastgroup is None:
                raise TextError(f"line {line}: cannot read {text[position : position + 20].strip()!r}")
            line += text.count("\n", position, match.start(match.lastgroup))
            position = match.end()
            if match.lastgroup != "comment":
                yield match.lastgroup, match[match.lastgroup], line
        yield "end", "", line

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0]

    @property
    def token(self) -> str:
        return self.tokens[self.at][1]

    def fail(self, wanted: str) -> TextError:
        return TextError(f"line {self.tokens[self.at][2]}: expected {wanted}, found {self.token or 'the end'!r}")

    def take(self, kind: str, text: str | None = None) -> str:
        if self.kind != kind or (text is not None and self.token != text):
            raise self.fail(repr(text) if text else f"a {kind}")
        token = self.token
        self.at += 1
        return token

    def accept(self, mark: str) -> bool:
        if self.token == mark and self.kind == "mark":
            self.at += 1
            return True
        return False

    def graph(self) -> Graph:
        self.take("word", "graph")
        name = self.take("word")
        self.take("mark", "{")
        inputs: list[Port] = []
        nodes: list[Node] = []
        outputs: list[Port] = []
        known: dict[str, Value] = {}
        while not self.accept("}"):
            if self.token == "input":
                inputs.append(self.input(known))
            elif self.token == "output":
                outputs.append(self.output(known))
            else:
                nodes.append(self.node(known))
        return Graph(name, tuple(inputs), tuple(nodes), tuple(outputs))

    def input(self, known: dict[str, Value]) -> Port:
        self.take("word", "input")
        role, label = self.take("word"), self.take("word")
        self.take("mark", ":")
        value = self.definition(known)
        return self.port(label, value, role)

    def output(self, known: Mapping[str, Value]) -> Port:
        self.take("word", "output")
        role, label = self.take("word"), self.take("word")
        self.take("mark", ":")
        value = self.use(known)
        return self.port(label, value, role)

    def port(self, label: str, value: Value, role: str) -> Port:
        start = self.at
        facts = self.attributes()
        kind, term, places = (facts.pop(name, None) for name in ("part", "term", "places"))
        turns = facts.pop("turns", False)
        counts = all(one is None or (type(one) is int and one >= 0) for one in (term, places))
        sound = kind in (None, *PART_KINDS) and counts and isinstance(turns, bool)
        if facts or not sound or (kind is None and term is not None):
            self.at = start
            raise self.fail("a port's part, term, places or turns")
        part = None if kind is None else Part(kind, term or 0)
        return Port(label, value, role, self.span(), part, places, turns)

    def node(self, known: dict[str, Value]) -> Node:
        made: dict[str, Value] = {}
        results = [self.definition(made)]
        while self.accept(","):
            results.append(self.definition(made))
        self.take("mark", "=")
        op = self.take("word")
        self.take("mark", "(")
        operands = []
        while not self.accept(")"):
            operands.append(self.use(known))
            self.accept(",")
        attrs = self.attributes()
        regions = []
        if self.accept("["):
            while not self.accept("]"):
                regions.append(self.graph())
        known.update(made)
        return Node(op, tuple(operands), tuple(results), attrs, tuple(regions), self.span())

    def attributes(self) -> dict[str, Any]:
        attrs: dict[str, Any] = {}
        if self.accept("{"):
            while not self.accept("}"):
                key = self.take("word")
                self.take("mark", "=")
                attrs[key] = self.attribute()
                self.accept(",")
        return attrs

    def definition(self, known: dict[str, Value]) -> Value:
        name = self.take("value")[1:]
        self.take("mark", ":")
        value = Value(name, self.type())
        known[name] = value
        return value

    def use(self, known: Mapping[str, Value]) -> Value:
        if self.kind == "value" and self.token[1:] not in known:
            raise self.fail("a value defined above")
        return known[self.take("value")[1:]]

    def type(self) -> Tensor:
        dtype = self.dtype(self.take("word"))
        shape = []
        self.take("mark", "[")
        while not self.accept("]"):
            shape.append(self.dim())
            self.accept(",")
        return Tensor(dtype, tuple(shape))

    def dtype(self, word: str) -> DType:
        try:
            return DType(word)
        except ValueError:
            raise self.fail("an element type") from None

    def dim(self) -> int | Rows:
        if self.kind == "word":
            if self.token == str(Examples()):
                self.take("word")
                return Examples()
            self.take("word", "batch")
            return Rows()
        size = int(self.take("number"))
        if self.accept("*"):
            self.take("word", "batch")
            return Rows(size)
        return size

    def attribute(self) -> Any:
        if self.accept("("):
            items = []
            while not self.accept(")"):
                items.append(self.attribute())
                self.accept(",")
            return tuple(items)
        if self.kind == "string":
            return re.sub(r"\\(.)", r"\1", self.take("string")[1:-1])
        if self.kind == "number":
            if re.fullmatch(r"-?\d+", self.token):
                dim = self.dim()
                return dim
            return float(self.take("number"))
        word = self.take("word")
        if word in ("true", "false"):
            return word == "true"
        return Rows() if word == "batch" else self.dtype(word)

    def span(self) -> Span | None:
        if self.kind != "span":
            return None
        match = _SPAN.match(self.take("span"))
        if not match:
            raise self.fail("a source span")
        file, *numbers = match.groups()
        return Span(file, *map(int, numbers))
