"""Philox4x32-10 as loop IR, and the uniform numbers made of its words.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011). The graph's operation
`random_uniform` fixes which element takes which word; this module makes the same bits, lane by lane.
"""

from __future__ import annotations

from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Operand, Value, vector

__all__ = ["Words", "philox", "uniform_double", "uniform_single"]

Words = tuple[Value, Value, Value, Value]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox(b: Builder, counter: tuple[Operand, Operand, Operand, Operand], key: tuple[Operand, Operand]) -> Words:
    """Ten rounds, in a loop: written out, they would be most of a model's machine code. All are u32 of equal lanes."""
    type = counter[0].type
    first, second = (Constant(multiplier, type) for multiplier in _MULTIPLIERS)
    loop = b.open_loop(index_constant(0), index_constant(10), 1, (*counter, *key))
    with b.inside(loop.block):
        c0, c1, c2, c3, k0, k1 = loop.parameters
        high0, low0 = b.compute("mulhi", c0, first, type=type), b.mul(c0, first)
        high1, low1 = b.compute("mulhi", c2, second, type=type), b.mul(c2, second)
        mixed0, mixed2 = b.bits("xor", b.bits("xor", high1, c1), k0), b.bits("xor", b.bits("xor", high0, c3), k1)
        keys = [b.add(word, Constant(weyl, type)) for word, weyl in zip((k0, k1), _WEYL, strict=True)]
    words = b.close_loop(loop, (mixed0, low1, mixed2, low0, *keys))
    return words[0], words[1], words[2], words[3]


def uniform_single(b: Builder, word: Operand) -> Value:
    """24 bits of a word as f32 in [0, 1)."""
    upper = b.convert(b.bits("shr", word, 8), "i32")
    return b.mul(b.convert(upper, "f32"), Constant(2.0**-24, vector("f32", word.type.lanes)))


def uniform_double(b: Builder, first: Operand, second: Operand) -> Value:
    """53 bits of two words as f64 in [0, 1)."""
    type = vector("f64", first.type.lanes)
    high = b.convert(b.convert(b.bits("shr", first, 5), "i32"), "f64")
    low = b.convert(b.convert(b.bits("shr", second, 6), "i32"), "f64")
    return b.mul(b.fma(high, Constant(2.0**26, type), low), Constant(2.0**-53, type))
