"""The random numbers of elements: which block of Philox and which of its words an element takes, one or a chunk."""

from __future__ import annotations

from collections.abc import Sequence

from tapeless.abi.dtypes import INTEGER, WORD
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Operand, vector
from tapeless.codegen.nests.open_loops import OpenLoops, Values
from tapeless.codegen.nests.philox import Words, philox, uniform_double, uniform_single
from tapeless.codegen.nests.sizes import ONE
from tapeless.codegen.nests.terms import Uniform

__all__ = ["Uniforms"]


class Uniforms:
    def __init__(self, builder: Builder, buffers: Sequence[Buffer], loops: OpenLoops) -> None:
        self.b, self.buffers, self.open = builder, buffers, loops

    def draw(self, term: Uniform) -> Values:
        base = self.open.address(term.strides)
        if not self.open.varies(term):
            return (self.element(term, self.b.convert(base, WORD)),)
        if self.shares_words(term):
            return self.shared(term, base)
        step = self.open.step(term.strides)
        return tuple(self.element(term, number) for number in self.open.numbers(base, step, WORD))

    def shares_words(self, term: Uniform) -> bool:
        """Whether a chunk is 64 consecutive elements from a multiple of 64: then 16 blocks give all of its words."""
        lanes, chunk = self.open.lanes, self.open.chunk
        return (
            term.takes_one_word
            and chunk.aligned
            and chunk.vectors * lanes == 64
            and 1 < lanes <= 16
            and all(
                stride == ONE if axis == self.open.vector_axis else stride.coefficient % 64 == 0
                for axis, stride in term.strides.items()
            )
        )

    def shared(self, term: Uniform, base: Operand) -> Values:
        lanes = self.open.lanes
        type = vector(WORD, lanes)
        block = self.b.splat(self.b.convert(self.b.arithmetic("div", base, index_constant(4)), WORD), lanes)
        runs = [
            self.words(term, self.b.add(block, Constant(tuple(range(first, first + lanes)), type)))
            for first in range(0, 16, lanes)
        ]
        return tuple(uniform_single(self.b, run[word]) for word in range(4) for run in runs)

    def element(self, term: Uniform, number: Operand) -> Operand:
        if not term.takes_one_word:
            words = self.words(term, number)
            return uniform_double(self.b, words[0], words[1])
        block = self.b.bits("or", self.b.bits("shl", self.b.bits("shr", number, 6), 4), self.b.bits("and", number, 15))
        words = self.words(term, block)
        low = self.b.compare("ne", self.b.bits("and", number, 16), 0)
        high = self.b.compare("ne", self.b.bits("and", number, 32), 0)
        chosen = self.b.select(high, self.b.select(low, words[3], words[2]), self.b.select(low, words[1], words[0]))
        return uniform_single(self.b, chosen)

    def words(self, term: Uniform, block: Operand) -> Words:
        lanes = block.type.lanes
        first, second, step, turn = self.key(term, lanes)
        site = Constant(term.site, vector(WORD, lanes))
        return philox(self.b, (block, site, step, turn), (first, second))

    def key(self, term: Uniform, lanes: int) -> Values:
        """The seed's two words, the training step and the step of the loops around, spread over lanes, in the outermost
        scope."""
        memo = self.open.scopes[0].memo
        name = ("key", term.seed, term.counters, lanes)
        if name not in memo:
            with self.open.at(0):
                seed = self.buffers[term.seed].name
                words: list[Operand] = [self.b.load(seed, WORD, index_constant(k)) for k in range(2)]
                for place, number in (*term.counters, (None, 0))[:2]:
                    word: Operand = Constant(number, vector(WORD, 1))
                    if place is not None:
                        word = self.b.convert(self.b.load(self.buffers[place].name, INTEGER, index_constant(0)), WORD)
                    words.append(word)
                memo[name] = tuple(self.b.splat(word, lanes) for word in words)
        found: Values = memo[name]
        return found
