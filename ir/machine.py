"""What passes and plans know of the processor that code is made for: one value, with a row for each kind of processor.

A row states what a processor says of itself: vector registers, multiply-adds a cycle, caches. All else follows from
these, with the clock that work is reckoned at, which is the same for all processors of a kind: the count of parts that
work is cut into, and with it the order of sums, must not depend on which of them makes the code. Nothing here knows how
code is made, and no pass or kernel has numbers about processors of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Shares:
    """How near the peak of multiply-adds the inner loop of a product comes, by its tile's accumulators.

    Measured on Zen 5: with one vector a row, each multiply-add broadcasts an element itself, and loads are the limit;
    with few accumulators, multiply-adds wait for each other. Text is the cheaper the longer a product takes.
    """

    one_vector: float = 0.91
    twelve: float = 0.97
    ten: float = 0.93
    fewer: float = 0.84
    load: float = 0.2  # what a load for each multiply-add costs
    text: float = 0.001  # what each instruction of the tiles costs at most, as it is compiled
    text_steps: int = 1400  # and in multiply-adds of vectors: a fifth of a microsecond


@dataclass(frozen=True)
class Products:
    """How products of matrices are cut up.

    A tile has at most `most_rows` rows; one whose rows may be fewer `held_rows`: their addresses, held at the last row,
    fit the integer registers.
    `inline` counts the instructions up to which an epilogue is written out on the registers.
    A copy of a panel pays where it is read by `paying_tiles` tiles.
    """

    most_rows: int = 16
    held_rows: int = 8
    inline: int = 160
    paying_tiles: int = 8


@dataclass(frozen=True)
class Instructions:
    """How many instructions stand for what is more than one, on a machine that has them all.

    A value that takes as many as `dear` is better stored and loaded than made again.
    """

    gather: int = 27
    scatter: int = 34
    across: int = 12  # combining the lanes of one vector
    dear: int = 12


@dataclass(frozen=True)
class Machine:
    """One kind of processor.

    `vector_bytes` is the width of the vectors that code is written in; 0 means scalars only.
    `registers` counts the vector registers.
    `fma` says that a fused multiply-add is one instruction; without it, a product and a sum are rounded apart.
    `multiply_adds` of vectors are begun in a cycle, and `loads` of vectors.
    `clock` is in cycles a microsecond.
    `near_cache`, `core_cache`, `last_cache` are bytes: of the first level, of what a core has for itself, and of all.
    `ways` of the first level hold lines whose addresses are equal modulo `near_cache / ways`.
    `page` is the memory that one entry of the nearest table of translations covers.
    `far` is how many bytes come in a cycle from beyond what a core has for itself.
    `streaming` says that stores can go past the caches.
    `line` is the size of a line of the caches, and of the widest vector.
    What is prefetched into the nearest cache is asked for so many cycles `ahead`.
    `latency` of a multiply-add is in cycles, and `window` counts the instructions that are looked at while others wait.
    Work is cut into at most `most_parts` parts of at least `part_microseconds`.
    A task takes `task_nanoseconds`, and one more for so many `task_bytes`; products go at `product_share` of the peak:
    only for sharing out.
    Threads that meet take `meeting_nanoseconds` for each of them; one that waits looks `spins` times before it lets
    others run.
    `cheap_flops` are fewer than the store and the load that computing an element again saves.
    `largest_kernel` counts nodes: beyond this, what they compute no longer stays in registers.
    `cut` says how products are cut up.
    """

    vector_bytes: int
    registers: int
    fma: bool
    multiply_adds: int = 2
    loads: int = 2
    clock: int = 3500
    near_cache: int = 32 * KIB
    core_cache: int = MIB
    last_cache: int = 32 * MIB
    ways: int = 8
    page: int = 4 * KIB
    far: int = 8
    streaming: bool = False
    line: int = 64
    ahead: int = 100
    latency: int = 4
    window: int = 256
    shares: Shares = Shares()
    costs: Instructions = Instructions()
    cut: Products = Products()
    part_microseconds: int = 5
    most_parts: int = 16
    cheap_flops: int = 4
    task_nanoseconds: int = 20
    task_bytes: int = 20
    product_share: float = 0.8
    meeting_nanoseconds: int = 100
    spins: int = 400
    largest_kernel: int = 48

    def lanes(self, element_bytes: int) -> int:
        """How many elements of the given size one vector holds (1 where there are no vectors)."""
        return max(1, self.vector_bytes // element_bytes)

    def parts(self, microseconds: float) -> int:
        """Into how many parts work is cut that takes so long."""
        return max(1, min(self.most_parts, int(microseconds / self.part_microseconds)))

    # What work takes, for a microsecond.

    @property
    def products(self) -> int:
        """Vector multiply-adds of a product, at the peak."""
        return self.multiply_adds * self.clock

    def product_flops(self, element_bytes: int) -> float:
        """Flops of a product in a nanosecond, as it goes with packing and edges."""
        return 2 * self.lanes(element_bytes) * self.products * self.product_share / 1000

    @property
    def instructions(self) -> int:
        """Vector instructions of a nest: 16 in 7 cycles."""
        return self.clock * 16 // 7

    def nest_flops(self, lanes: int) -> float:
        """Flops of a nest in a nanosecond: every other instruction loads, stores or waits."""
        return lanes * self.instructions / 2000

    @property
    def far_instructions(self) -> float:
        """Vector instructions of a nest in the time that a byte comes from beyond what a core has for itself."""
        return self.instructions / (self.clock * self.far)

    @property
    def bytes(self) -> int:
        """Bytes that a nest reads and writes, out of the core's own cache."""
        return self.clock * 120 // 7

    def moved(self, bytes: int) -> int:
        """Bytes that a nest of so many reads and writes: most of what fills half the core's own cache comes from
        beyond it, as other threads wrote it, or other kernels worked on as much since.
        """
        return self.clock * self.far if 2 * bytes > self.core_cache else self.bytes

    @property
    def scores(self) -> int:
        """Vector multiply-adds of attention, which makes and takes exponentials beside them."""
        return self.products * 9 // 14

    @property
    def eliminations(self) -> int:
        """Multiply-adds of a factorisation, row after row."""
        return self.products * 3 // 14

    @property
    def recurrences(self) -> int:
        """Vector steps of a recurrence, each waiting for the one before."""
        return self.clock * 9 // 35

    @property
    def merges(self) -> int:
        """Elements moved by one round of a merge sort."""
        return self.clock * 4 // 35

    @property
    def scattered(self) -> int:
        """Elements added at computed places."""
        return self.clock // 7

    @property
    def transposed_tiles(self) -> int:
        """Squares of one register a lane, transposed in registers."""
        return self.clock // 140

    @property
    def accumulators(self) -> int:
        """How many sums must go on at once for multiply-adds not to wait for each other."""
        return self.multiply_adds * self.latency

    # Where operands stay.

    @property
    def near_block(self) -> int:
        """Bytes that stay in the nearest cache while as much again comes and goes."""
        return self.near_cache // 2

    @property
    def crowding(self) -> int:
        """Bytes between rows that share the sets of the nearest cache."""
        return self.near_cache // self.ways

    @property
    def streamed(self) -> int:
        """Bytes from which stores go past the caches; 0: never."""
        return self.last_cache if self.streaming else 0


X86_64_V4 = Machine(64, 32, fma=True, streaming=True)
X86_64_V3 = Machine(32, 16, fma=True, streaming=True)
X86_64 = Machine(16, 16, fma=False)
AARCH64 = Machine(16, 32, fma=True)
APPLE = Machine(16, 32, fma=True)
WASM = Machine(16, 16, fma=False)
RISCV64 = Machine(0, 32, fma=True)
CORTEX_M7 = Machine(0, 16, fma=True)
UNKNOWN = Machine(0, 32, fma=False)
