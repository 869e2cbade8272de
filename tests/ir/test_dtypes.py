"""The records of types against NumPy, C and LLVM, which they name."""

import ctypes

import numpy as np
import pytest
from llvmlite import binding

from tapeless.abi.dtypes import PRECISIONS, TYPES, DType, by_numpy
from tapeless.codegen.llvm.storage import CONVERSIONS
from tapeless.ir.interpreter import computed_dtypes

C_TYPES = {"float": ctypes.c_float, "double": ctypes.c_double} | {
    f"{name}_t": getattr(ctypes, f"c_{name}")
    for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
}
ALL = pytest.mark.parametrize("type", TYPES.values(), ids=TYPES)


@ALL
def test_a_type_has_one_size_however_it_is_spelled(type):
    assert type.bytes == np.dtype(type.numpy).itemsize == ctypes.sizeof(C_TYPES[type.c])
    text = f"@x = global [2 x {type.llvm}] zeroinitializer"
    (made,) = binding.parse_assembly(text).global_variables
    assert binding.create_target_data("e").get_abi_size(made.global_value_type) == 2 * type.bytes


@ALL
def test_the_facts_of_real_types_are_those_of_numpy(type):
    if not type.is_real or type.computed != type.name:
        assert type.computed in TYPES and TYPES[type.computed].computed == type.computed
        return
    known = np.finfo(type.numpy)
    assert (type.largest, type.smallest_normal) == (float(known.max), float(known.smallest_normal))
    assert (type.epsilon, type.mantissa) == (float(known.eps), known.nmant)


def test_what_is_another_type_in_memory_is_converted():
    assert {name for name, type in TYPES.items() if type.computed != name} == set(CONVERSIONS)


@pytest.mark.parametrize("dtype", DType)
def test_element_types_are_found_by_both_names(dtype):
    assert DType(str(dtype)) is dtype and by_numpy(dtype.numpy) is dtype
    assert (dtype.numpy in PRECISIONS) == dtype.is_float
    assert [dtype.is_number, dtype.is_float or dtype.is_integer].count(True) in (0, 2)


def test_the_reference_computes_in_the_wanted_precision():
    found = computed_dtypes(DType.F64)
    assert found[DType.F32] == np.float64 and found[DType.I32] == np.int32 and found[DType.BOOL] == np.bool_
