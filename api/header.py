"""The C header of a program: sizes, a table of its tensors, and plain functions over the native entries.

Made from the manifest alone. The header needs nothing but <stdint.h> and <stddef.h>, allocates nothing, and is C99 and
C++.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tapeless.abi.calls import CONTEXT, LINE, Field, barrier_bytes, pointer_count
from tapeless.abi.dtypes import by_numpy
from tapeless.ir.linkage import ascii_name
from tapeless.runtime.manifest import Entry, Manifest, TensorSpec


def identifier(name: str) -> str:
    """A model's name as C writes it: `DigitsNet` is `digits_net`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", re.sub(r"\W", "_", ascii_name(name))).lower()


def header(manifest: Manifest) -> str:
    """The text of the header."""
    name = identifier(manifest.model)
    parts = [
        _preamble(manifest, name),
        _sizes(manifest, name.upper()),
        _context(),
        _entries(manifest),
        _memory(name),
        _tensors(manifest, name),
        *_functions(manifest, name),
    ]
    return "\n".join(parts) + f"\n#ifdef __cplusplus\n}}\n#endif\n#endif /* {name.upper()}_H */\n"


def _preamble(manifest: Manifest, name: str) -> str:
    return f"""\
/* {manifest.model}: a model compiled by Tapeless, with its training.

   The caller owns three blocks of memory, each aligned to 64 bytes: the state (parameters, what the optimizer keeps,
   counters), the gradients, and a workspace that holds nothing between calls. Nothing else is allocated, and nothing is
   needed from outside. A checkpoint is the state, {name.upper()}_STATE_BYTES bytes.

   Every function runs on the calling thread. To share one step among several threads, fill in a {name}_call, set its
   `context.threads`, and have each thread call the native entry with its context and its own number, 0 to threads - 1:
   the results are the same bytes. Each thread beyond the first takes {name.upper()}_THREAD_BYTES more of workspace.
   Functions return 0, or 1 if the loss was not finite: training has then stopped before that batch's update. */
#ifndef {name.upper()}_H
#define {name.upper()}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif
"""


def _sizes(manifest: Manifest, upper: str) -> str:
    workspace = max((entry.workspace + entry.scratch for entry in manifest.entries.values()), default=0)
    more = max((entry.scratch for entry in manifest.entries.values()), default=0)
    lines = [
        f"#define {upper}_BATCH {manifest.capacity} /* the most rows of one step */",
        f"#define {upper}_STATE_BYTES {manifest.state.bytes}",
        f"#define {upper}_GRADIENT_BYTES {max(manifest.gradients.bytes, 64)}",
        f"#define {upper}_WORKSPACE_BYTES {max(workspace, 64)}",
        f"#define {upper}_THREAD_BYTES {more} /* more of it for each thread beyond the first */",
    ]
    results = _results(manifest)
    lines.append(f"#define {upper}_RESULTS {len(results)} /* losses and metrics, in this order: */")
    pointers = max(
        (pointer_count(len(entry.data), len(entry.outputs), len(entry.carries)) for entry in manifest.entries.values()),
        default=0,
    )
    taken = {*_SIZES}
    for k, result in enumerate(results):
        macro = _free(_macro(result), taken)
        lines.append(f"#define {upper}_{macro} {k}" + ("" if macro == _macro(result) else f" /* {result} */"))
    for spec in _tensors_of_rows(manifest):
        macro = _free(f"{_macro(spec.name)}_SIZE", taken)
        lines.append(f"#define {upper}_{macro} {_row_count(spec)} /* {_c_type(spec)}s for one row of {spec.name} */")
    if "step" in manifest.entries:
        step = manifest.entries["step"]
        lines.append(
            f"#define {upper}_PLACES {step.places or 0} /* the most steps of one sequence; 0: there is no end */"
        )
        for spec in (*step.data, *step.outputs):
            macro = _free(f"STEP_{_macro(spec.name)}_SIZE", taken)
            lines.append(
                f"#define {upper}_{macro} {_row_count(spec)} /* {_c_type(spec)}s for one row of {spec.name} at "
                "one place */"
            )
    lines.append(f"#define {upper}_POINTERS {max(pointers, 1)} /* the most that an entry takes */")
    return "\n".join(lines) + "\n"


_TENSOR = """\
typedef struct tl_tensor {
    const char *name;
    const char *role;  /* param, state, optimizer, hyper or counter */
    const char *type;  /* f32, f64, i32 or u32 */
    size_t count;      /* numbers in it */
    size_t offset;     /* bytes from the start of the state */
    ptrdiff_t gradient; /* bytes from the start of the gradients; -1: it has none */
} tl_tensor;
#endif
"""


def _context() -> str:
    fields = "".join(map(_field, CONTEXT))
    return f"""\
#ifndef TL_CONTEXT
#define TL_CONTEXT
typedef struct tl_context {{
{fields}\
    /* Here follow pointers: of the data, then of the outputs. */
}} tl_context;
{_TENSOR}"""


def _field(field: Field) -> str:
    declared = (
        field.type.replace("(*)", f"(*{field.name})")
        if "(*)" in field.type
        else f"{field.type}{'' if field.type.endswith('*') else ' '}{field.name}"
    )
    return f"    {declared};" + (f" /* {field.meaning} */" if field.meaning else "") + "\n"


def _entries(manifest: Manifest) -> str:
    lines = ["/* The native entries. */"]
    lines += [f"int32_t {entry.symbol}(tl_context *, int32_t thread);" for entry in manifest.entries.values()]
    return "\n".join(lines) + "\n"


def _memory(name: str) -> str:
    return f"""\
/* The blocks of memory that the caller owns. */
typedef struct {name}_memory {{
    void *state;     /* {name.upper()}_STATE_BYTES */
    void *gradients; /* {name.upper()}_GRADIENT_BYTES; only {name}_gradients and {name}_apply use it */
    void *workspace; /* {name.upper()}_WORKSPACE_BYTES */
}} {name}_memory;
/* What a native entry is called with: the address of `context`. */
typedef struct {name}_call {{
    tl_context context;
    void *pointers[{name.upper()}_POINTERS]; /* data, then outputs */
}} {name}_call;
"""


def _tensors(manifest: Manifest, name: str) -> str:
    gradients = {slot.name: slot.offset for slot in manifest.gradients.slots}
    rows = [
        f'    {{"{slot.name}", "{slot.role}", "{by_numpy(slot.dtype.name)}", {slot.size}, {slot.offset}, '
        f"{gradients.get(slot.name, -1)}}}, /* [{', '.join(map(str, slot.shape))}] */"
        for slot in manifest.state.slots
    ]
    count = f"#define {name.upper()}_TENSORS {len(rows)}"
    return "\n".join([count, f"static const tl_tensor {name}_tensors[] = {{", *rows, "};", ""])


def _functions(manifest: Manifest, name: str) -> list[str]:
    """The plain functions, for the entries that the program has."""
    entries = manifest.entries
    counters = {slot.name: slot.offset for slot in manifest.state.slots if slot.role == "counter"}
    parts = [_run(name)]
    if "init" in entries:
        parts.append(
            _function(
                "Fills the state: fresh parameters from the seed, everything else at its start.",
                f"{name}_init({name}_memory memory, uint64_t seed)",
                entries["init"],
                name,
                arguments="{(uint32_t)seed, (uint32_t)(seed >> 32), 0, 0}",
            )
        )
    if "steps" in counters:
        parts.append(
            f"/* Says how many steps are planned, for schedules of the learning rate. */\n"
            f"static inline void {name}_plan({name}_memory memory, int32_t steps) {{\n"
            f"    *(int32_t *)((char *)memory.state + {counters['steps']}) = steps;\n}}\n"
        )
    if "permutation" in entries:
        seed, epoch = counters.get("seed"), counters.get("epoch")
        words = f"(uint32_t *)((char *)memory.state + {seed})"
        before = f"    *(int32_t *)((char *)memory.state + {epoch}) = epoch;\n" if epoch is not None else ""
        parts.append(
            _function(
                "Begins an epoch: writes the order in which it takes the rows, from the seed and the epoch's number.",
                f"{name}_shuffle({name}_memory memory, int32_t epoch, int64_t rows, int32_t *order)",
                entries["permutation"],
                name,
                pointers=("order",),
                before=before,
                arguments=f"{{({words})[0], ({words})[1], (uint32_t)epoch, 0}}" if seed is not None else None,
            )
        )
    texts = {
        "predict": ("predict", "The outputs for any number of rows.", "int64_t rows", "0, rows, NULL"),
        "evaluate": ("loss", "Losses and metrics over any number of rows.", "int64_t rows", "0, rows, NULL"),
        "gradients": (
            "gradients",
            f"Losses and metrics, and the gradient of the loss, over at most {name.upper()}_BATCH rows.",
            "int64_t rows",
            "0, rows, NULL",
        ),
        "train_step": (
            "train_step",
            f"Trains on the rows order[begin] to order[end - 1] (order may be null: as they lie), a step for every\n"
            f"   {name.upper()}_BATCH of them. The losses and metrics are means over these rows.",
            "const int32_t *order, int64_t begin, int64_t end",
            "begin, end, order",
        ),
    }
    for entry_name, (short, text, extent, call) in texts.items():
        if entry_name not in entries:
            continue
        entry = entries[entry_name]
        taken = {*_TAKEN}
        names = [_free(_plain(spec.name), taken) for spec in (*entry.data, *entry.outputs)]
        count = len(entry.data)
        data = [f"const {_c_type(spec)} *{plain}" for spec, plain in zip(entry.data, names[:count], strict=True)]
        outputs = [f"{_c_type(spec)} *{plain}" for spec, plain in zip(entry.outputs, names[count:], strict=True)]
        results = [f"double results[{name.upper()}_RESULTS]"] if entry.results else []
        signature = ", ".join([f"{name}_memory memory", extent, *data, *outputs, *results])
        parts.append(_function(text, f"{name}_{short}({signature})", entry, name, tuple(names), call))
    if "step" in entries:
        parts.append(_step(entries["step"], name))
    if "apply" in entries:
        text = "One step of the optimizer with what is in the gradients."
        parts.append(_function(text, f"{name}_apply({name}_memory memory)", entries["apply"], name))
    return parts


def _step(entry: Entry, name: str) -> str:
    """The carries lie in one block each way, as `abi.calls.carry_offsets` has them."""
    taken = {*_TAKEN, "carry", "next", "at"}
    names = [_free(_plain(spec.name), taken) for spec in (*entry.data, *entry.outputs)]
    data, outputs = names[: len(entry.data)], names[len(entry.data) :]
    signature = ", ".join(
        [
            f"{name}_memory memory, int64_t rows, const void *carry, void *next",
            *(f"const {_c_type(spec)} *{plain}" for spec, plain in zip(entry.data, data, strict=True)),
            *(f"{_c_type(spec)} *{plain}" for spec, plain in zip(entry.outputs, outputs, strict=True)),
        ]
    )
    sizes = [_bytes(spec) for spec in entry.carries]
    pointers = [f"(void *){plain}" for plain in data]
    pointers += [f"(void *)((const char *)carry + at[{k}])" for k in range(len(sizes))]
    pointers += [f"(void *){plain}" for plain in outputs]
    pointers += [f"(void *)((char *)next + at[{k}])" for k in range(len(sizes))]
    at = [f"    at[0] = 0; /* {entry.carries[0].name} */\n"]
    at += [
        f"    at[{k}] = at[{k - 1}] + {sizes[k - 1]}; /* {spec.name} */\n" for k, spec in enumerate(entry.carries) if k
    ]
    end = f"    if (*(const int32_t *)carry >= {name.upper()}_PLACES) return 2;\n" if entry.places else ""
    return f"""\
/* The bytes of what steps leave for each other, for so many rows. */
static inline size_t {name}_carry_bytes(int64_t rows) {{
    return (size_t)({" + ".join(sizes)});
}}
/* The outputs at one place of a sequence. `carry` is what the step before left, or {name}_carry_bytes(rows) of zeros;
   what this one leaves goes to `next`, another block of that size, aligned to 64 bytes. Returns 2 where the sequence is
   at its end. */
static inline int32_t {name}_step({signature}) {{
    {name}_call native;
    int64_t at[{len(sizes)}];
{"".join(at)}{end}    native.context.arguments = NULL;
{"".join(f"    native.pointers[{k}] = {pointer};{chr(10)}" for k, pointer in enumerate(pointers))}\
    return {name}_run({entry.symbol}, &native.context, memory, 0, rows, NULL, NULL, 0);
}}
"""


def _bytes(spec: TensorSpec) -> str:
    """The bytes of a carry for `rows` rows, in C, up to the next multiple of a line."""
    size = f"{spec.bytes(1)}" + (" * rows" if spec.bytes(2) > spec.bytes(1) else "")
    return f"({size} + {LINE - 1}) / {LINE} * {LINE}"


def _run(name: str) -> str:
    return f"""\
static inline int32_t {name}_run(int32_t (*entry)(tl_context *, int32_t), tl_context *context, {name}_memory memory,
                                 int64_t begin, int64_t end, const int32_t *order, double *results, int32_t count) {{
    unsigned char room[{barrier_bytes(2)}];
    int32_t k;
    for (k = 0; k < {barrier_bytes(2)}; k++) room[k] = 0;
    context->state = memory.state;
    context->gradients = memory.gradients;
    context->workspace = memory.workspace;
    context->threads = 1;
    context->barrier = room + ({LINE} - (uintptr_t)room % {LINE}) % {LINE};
    context->yield_ = NULL;
    context->begin = begin;
    context->end = end;
    context->order = order;
    context->sums = results;
    context->status = 0;
    context->done = begin;
    for (k = 0; k < count; k++) results[k] = 0;
    entry(context, 0);
    for (k = 0; k < count; k++) results[k] /= (double)(context->done > begin ? context->done - begin : 1);
    return (int32_t)context->status;
}}
"""


def _function(
    text: str,
    signature: str,
    entry: Entry,
    name: str,
    pointers: Sequence[str] = (),
    call: str | None = None,
    arguments: str | None = None,
    before: str = "",
) -> str:
    """One plain function over a native entry."""
    extent = call or ("0, rows, NULL" if "int64_t rows" in signature else "0, 0, NULL")
    results = ("results", len(entry.results)) if entry.results else ("NULL", 0)
    body = before + f"    {name}_call native;\n"
    if arguments is not None:
        body += f"    uint32_t arguments[4] = {arguments};\n    native.context.arguments = arguments;\n"
    else:
        body += "    native.context.arguments = NULL;\n"
    for k, pointer in enumerate(pointers):
        body += f"    native.pointers[{k}] = (void *){pointer};\n"
    if any(result.role == "part" for result in entry.results):
        body += f"    double sums[{len(entry.results)}];\n"
        body += (
            f"    int32_t status = {name}_run({entry.symbol}, &native.context, memory, {extent}, sums, "
            f"{len(entry.results)});\n"
        )
        body += "".join(f"    results[{k}] = {text};\n" for k, text in enumerate(_quotients(entry)))
        body += "    return status;\n"
    else:
        body += (
            f"    return {name}_run({entry.symbol}, &native.context, memory, {extent}, {results[0]}, {results[1]});\n"
        )
    return f"/* {text} */\nstatic inline int32_t {signature} {{\n{body}}}\n"


def _quotients(entry: Entry) -> list[str]:
    """Each loss or metric in C, from the sums of its parts; dividing them all by the rows has left quotients as they
    were.
    """
    found: list[str] = []
    for place, result in enumerate(entry.results):
        if result.role == "part":
            continue
        terms: dict[int, dict[str, int]] = {}
        text = ""
        for k, part in enumerate(entry.results):
            if part.role == "part" and part.name == result.name and part.part == "rest":
                text = f"sums[{k}]"
            elif part.role == "part" and part.name == result.name:
                terms.setdefault(part.term, {})[part.part] = k
        for term in terms.values():
            above, below = term["numerator"], term["denominator"]
            text += f"{' + ' if text else ''}(sums[{below}] != 0 ? sums[{above}] / sums[{below}] : 0)"
        found.append(text or f"sums[{place}]")
    return found


def _results(manifest: Manifest) -> list[str]:
    for entry in ("train_step", "evaluate", "gradients"):
        if entry in manifest.entries:
            return [result.name for result in manifest.entries[entry].results if result.role != "part"]
    return []


def _tensors_of_rows(manifest: Manifest) -> list[TensorSpec]:
    found: dict[str, TensorSpec] = {}
    for entry in manifest.entries.values():
        if entry.name not in ("permutation", "step"):
            found.update({spec.name: spec for spec in (*entry.data, *entry.outputs)})
    return list(found.values())


def _row_count(spec: TensorSpec) -> int:
    return math.prod(spec.concrete(1))


def _c_type(spec: TensorSpec) -> str:
    return by_numpy(spec.dtype.name).record.c


_SIZES = (
    "BATCH",
    "STATE_BYTES",
    "GRADIENT_BYTES",
    "WORKSPACE_BYTES",
    "THREAD_BYTES",
    "RESULTS",
    "TENSORS",
    "POINTERS",
    "PLACES",
    "H",
)
"""What the header itself defines, after the model's name."""

_WORDS = """
    memory rows order begin end results arguments native sums status seed epoch steps
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
    alignas alignof asm bool catch class compl concept consteval constexpr constinit const_cast co_await co_return
    co_yield decltype delete dynamic_cast explicit export false friend mutable namespace new noexcept not not_eq nullptr
    operator and and_eq bitand bitor or or_eq xor xor_eq private protected public reinterpret_cast requires
    static_assert static_cast template this thread_local throw true try typeid typename typeof typeof_unqual using
    virtual wchar_t linux unix i386 near far offsetof
"""
_TAKEN = frozenset(_WORDS.split())
"""The words of C and C++, what their compilers define, and the other names in the functions."""


def _plain(name: str) -> str:
    """A tensor's name as an argument in C. Names in capitals, in which macros are written, and those of types such as
    `int32_t` gain an underscore."""
    plain = re.sub(r"\W", "_", ascii_name(name))
    return f"{plain}_" if plain.isupper() or plain.endswith("_t") else plain


def _free(name: str, taken: set[str]) -> str:
    """The name, with underscores after it until it is none of those taken, to which it is added."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _macro(name: str) -> str:
    return re.sub(r"\W", "_", ascii_name(name)).upper()
