"""Vectors of floats as values inside numba functions.

numba's own loops over so few lanes do not become vector code, so these intrinsics emit it: each is one LLVM operation
on `<LANES x float>`. LLVM splits what the processor's registers cannot hold, with the same results. Memory is a flat
C-contiguous array and an element index, **unchecked**: a kernel is called only through a wrapper that checks shapes.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import models, register_model

# numba's own annotations describe the undecorated function, or are missing
intrinsic: Any = numba_intrinsic
numba_config: Any = config
function_of_module: Any = cgutils.get_or_insert_function


def _lanes() -> int:
    """Two AVX-512 registers a vector, or two AVX2 registers.

    One cell waits for its neighbour, so a single register leaves the units idle: two of them run 1.3 times faster. With
    the sixteen registers of AVX2, four times eight lanes would spill.
    """
    features = numba_config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return 32 if "+avx512f" in features else 16


LANES: Final = _lanes()
"""Patterns to a vector, and to a block of the library: 32 with AVX-512, else 16."""

_FLOATS: Final = ir.VectorType(ir.FloatType(), LANES)
_BITS: Final = ir.VectorType(ir.IntType(32), LANES)
_INDEX: Final = ir.IntType(32)
_FLOAT_BYTES: Final = 4


class FloatVector(types.Type):
    """The numba type of one vector."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


FLOAT_VECTOR: Final = FloatVector()


@register_model(FloatVector)
class _FloatVectorModel(models.PrimitiveModel):
    def __init__(self, data_model_manager: Any, numba_type: Any) -> None:
        super().__init__(data_model_manager, numba_type, _FLOATS)  # type: ignore[no-untyped-call]


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """load(flat float32 array, element index): LANES neighbours; any alignment of a float is allowed."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.load(address, align=_FLOAT_BYTES, typ=_FLOATS)

    return FLOAT_VECTOR(array, types.intp), codegen


@intrinsic
def store(typing_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """store(flat float32 array, element index, vector)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        builder.store(arguments[2], address, align=_FLOAT_BYTES)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def splat(typing_context: Any, scalar: Any) -> Any:
    """splat(float32): the scalar in every lane."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], ir.Constant(_INDEX, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(_BITS, [0] * LANES))

    return FLOAT_VECTOR(types.float32), codegen


@intrinsic
def subtract(typing_context: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fsub(arguments[0], arguments[1])

    return a(a, b), codegen


@intrinsic
def multiply(typing_context: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(arguments[0], arguments[1])

    return a(a, b), codegen


@intrinsic
def maximum(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger of two finite numbers, lane by lane."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", arguments[0], arguments[1]), arguments[0], arguments[1])

    return a(a, b), codegen


@intrinsic
def minimum_non_negative(typing_context: Any, a: Any, b: Any) -> Any:
    """The smaller of two non-negative numbers (infinity allowed).

    Their bit patterns order as integers, and the integer minimum has half the latency of the float one.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, y = (builder.bitcast(value, _BITS) for value in arguments)
        return builder.bitcast(builder.select(builder.icmp_signed("<", x, y), x, y), _FLOATS)

    return a(a, b), codegen


@intrinsic
def multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once where the processor has the instruction (fmuladd: never a library call a lane)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
        function = function_of_module(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
        return builder.call(function, arguments)

    return a(a, b, c), codegen


@intrinsic
def square_root(typing_context: Any, a: Any) -> Any:
    """The correctly rounded square root of non-negative numbers."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS])
        function = function_of_module(builder.module, kind, f"llvm.sqrt.v{LANES}f32")
        return builder.call(function, arguments)

    return a(a), codegen


@intrinsic
def smallest_lane(typing_context: Any, a: Any) -> Any:
    """smallest_lane(vector of non-negative numbers) -> float32."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], _BITS)
        undefined = ir.Constant(_BITS, ir.Undefined)
        width = LANES
        while width > 1:
            width //= 2
            order = [(lane + width) % LANES for lane in range(LANES)]
            other = builder.shuffle_vector(bits, undefined, ir.Constant(_BITS, order))
            bits = builder.select(builder.icmp_signed("<", bits, other), bits, other)
        return builder.extract_element(builder.bitcast(bits, _FLOATS), ir.Constant(_INDEX, 0))

    return types.float32(a), codegen
