"""Standard normals by counter: Philox4x32-10 and a Box-Muller transform without branches.

The 128-bit counter is `path 48 | pair of steps 48 | stream tag 16 | draw 16`, lowest bits first. One call gives
the normals of steps 2k and 2k+1 of one path, so a number depends on (key, path, step, tag, draw) alone: the
same bits for every block size and thread count. Every rounding is spelt out (fused where `fma` stands, nowhere
else), so vector body and remainder of a loop agree too.

What the job needs, per normal. Integers: half a Philox call, 10 rounds of 2 multiplications 32x32->64, 2 shifts and
2 exclusive ors of three, 30 operations. Floats: half a transform, about 26 operations, half a division and half a
square root. Memory: 32 bytes through scratch that stays in the first-level cache, nothing beyond. With 8 lanes and 2
vector operations per cycle (AVX-512 on Zen 4) that is 1.9 cycles for the integers. A round takes 5 cycles before the
next can begin, so four groups of 8 lanes go side by side (`_philox_lanes`); a compiler takes one after the other. The
division and the root hold one of the two multipliers for 25 cycles per 16 normals and 24 multiplications need both:
2.3 cycles for the floats. At 3.65 GHz: 0.51 + 0.63 ns. Measured there: 0.58 + 0.63 ns in loops of their own, 1.23 ns
as `fill_normal_pairs`. `python benchmarks/particles.py` measures it again, beside other generators.

Sources: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011); Box and Muller (1958).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from fpsolve.kernels.compile import kernel

U = np.uint64
_LOW = U(0xFFFFFFFF)
_EXPONENT_OF_ONE = U(0x3FF0000000000000)

# Chebyshev interpolants, lowest power first, with largest error of log, sin, cos below 3e-13:
# (log m - 2 s) / (s w) in w = s², s = (m - 1)/(m + 1), sqrt(1/2) <= m <= sqrt(2)
_L0, _L1, _L2 = 0.6666666666737507, 0.39999998797358854, 0.2857175453276251
_L3, _L4 = 0.22191400993958613, 0.19362650945097218
# (sin a / a - 1) / q and (cos a - 1) / q in q = a², |a| <= pi/4
_S0, _S1, _S2 = -0.16666666666663876, 0.00833333333107598, -0.00019841266914578842
_S3, _S4 = 2.755599032240784e-06, -2.4805587221774413e-08
_C0, _C1, _C2 = -0.4999999999996386, 0.04166666663738631, -0.001388888509068149
_C3, _C4 = 2.4799862008533785e-05, -2.723712566795856e-07


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c with one rounding."""
    signature = types.float64(types.float64, types.float64, types.float64)
    return signature, lambda context, builder, signature, args: builder.fma(*args)


@intrinsic
def as_bits(typing_context: Any, x: Any) -> Any:
    """Return the bits of a float64."""
    return types.uint64(types.float64), lambda context, builder, signature, a: builder.bitcast(a[0], ir.IntType(64))


@intrinsic
def as_float(typing_context: Any, bits: Any) -> Any:
    """Return the float64 that has these bits."""
    return types.float64(types.uint64), lambda context, builder, signature, a: builder.bitcast(a[0], ir.DoubleType())


@kernel(inline="always")
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Philox4x32-10: four words of a counter and two of a key (32 bits each, held in uint64) to four words."""
    for _ in range(10):
        p0, p1 = U(0xD2511F53) * c0, U(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> U(32)) ^ c1 ^ k0, p1 & _LOW, (p0 >> U(32)) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + U(0x9E3779B9)) & _LOW, (k1 + U(0xBB67AE85)) & _LOW
    return c0, c1, c2, c3


@kernel(inline="always")
def box_muller(u, v):  # type: ignore[no-untyped-def]
    """Two normals from 128 random bits: radius from the upper 52 of `u`, angle from `v` (2 signs, a swap, 52 bits)."""
    # (k + 1/2) / 2^52, exactly: never 0 or 1, radius up to 8.57
    uniform = as_float((u >> U(12)) | _EXPONENT_OF_ONE) - 0.9999999999999999
    bits = as_bits(uniform)
    exponent = (bits + U(0x00095F619980C433)) >> U(52)  # rounds up from sqrt(2) on
    m = as_float(bits - ((exponent - U(1023)) << U(52)))
    s = (m - 1.0) / (m + 1.0)
    w = s * s
    log_m = s * fma(w, fma(w, fma(w, fma(w, fma(w, _L4, _L3), _L2), _L1), _L0), 2.0)
    # adding 2^52 as bits turns the small integer into a float without a conversion
    log_uniform = fma(as_float(exponent | U(0x4330000000000000)) - 4503599627371519.0, 0.6931471805599453, log_m)
    radius = math.sqrt(-2.0 * log_uniform)
    a = (as_float(((v << U(3)) >> U(12)) | _EXPONENT_OF_ONE) - 1.5) * 1.5707963267948966
    q = a * a
    sine = a * fma(q, fma(q, fma(q, fma(q, fma(q, _S4, _S3), _S2), _S1), _S0), 1.0)
    cosine = fma(q, fma(q, fma(q, fma(q, fma(q, _C4, _C3), _C2), _C1), _C0), 1.0)
    swap = (v & U(0x2000000000000000)) != U(0)
    first, second = radius * (cosine if swap else sine), radius * (sine if swap else cosine)
    sign = U(0x8000000000000000)
    return as_float(as_bits(first) ^ (v & sign)), as_float(as_bits(second) ^ ((v << U(1)) & sign))


# paths whose rounds go side by side: as many as the vector registers hold
_LANES = 32 if binding.get_host_cpu_features().get("avx512f") else 16
_WORDS = types.Array(types.uint64, 1, "C")


@intrinsic
def _philox_lanes(typing_context, u, v, place, c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Fill u and v[place : place + _LANES] with the 128 bits of the counters c0, c0 + 1, ... (c0 without a carry)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer, index = ir.IntType(64), ir.IntType(32)
        vector = ir.VectorType(integer, _LANES)

        def of(value: int) -> Any:
            return ir.Constant(vector, [value] * _LANES)

        def spread(word: Any) -> Any:
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), word, index(0))
            return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(index, _LANES), [0] * _LANES))

        def mixed(upper: Any, word: Any, key: Any) -> Any:
            return builder.xor(builder.xor(upper, word), spread(key))

        half, low = of(32), of(0xFFFFFFFF)
        k0, k1 = args[7:]
        c0, c1, c2, c3 = (spread(word) for word in args[3:7])
        c0 = builder.and_(builder.add(c0, ir.Constant(vector, list(range(_LANES)))), low)
        for _ in range(9):
            p0, p1 = builder.mul(of(0xD2511F53), c0), builder.mul(of(0xCD9E8D57), c2)
            c0, c1 = mixed(builder.lshr(p1, half), c1, k0), builder.and_(p1, low)
            c2, c3 = mixed(builder.lshr(p0, half), c3, k1), builder.and_(p0, low)
            k0 = builder.and_(builder.add(k0, integer(0x9E3779B9)), integer(0xFFFFFFFF))
            k1 = builder.and_(builder.add(k1, integer(0xBB67AE85)), integer(0xFFFFFFFF))
        # in the tenth round the two words of a product already stand where they belong in the 64 bits
        bits = (
            builder.xor(builder.mul(of(0xCD9E8D57), c2), builder.shl(builder.xor(c1, spread(k0)), half)),
            builder.xor(builder.mul(of(0xD2511F53), c0), builder.shl(builder.xor(c3, spread(k1)), half)),
        )
        for array_type, array, words in zip(signature.args[:2], args[:2], bits, strict=True):
            start = builder.gep(context.make_array(array_type)(context, builder, array).data, [args[2]])
            builder.store(words, builder.bitcast(start, vector.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(_WORDS, _WORDS, types.int64, *[types.uint64] * 6), codegen


@kernel
def fill_normal_pairs(first_path, pair, tag, draw, key, u, v, z0, z1):  # type: ignore[no-untyped-def]
    """Fill z0 and z1 (n,) with the normals of steps 2 pair and 2 pair + 1 of paths first_path ...; u, v are scratch."""
    step, n = U(pair), z0.size
    tail = (U(tag) & U(0xFFFF)) | ((U(draw) & U(0xFFFF)) << U(16))
    k0, k1 = U(key) & _LOW, U(key) >> U(32)
    step_low, step_high = (step & U(0xFFFF)) << U(16), (step >> U(16)) & _LOW
    low, high = U(first_path) & _LOW, ((U(first_path) >> U(32)) & U(0xFFFF)) | step_low
    # where the lower word of the path number overflows, and for what is left over, path by path
    lanes = n - n % _LANES if low + U(n) <= _LOW else 0
    # integers first and floats after: both together do not fit the registers
    for j in range(0, lanes, _LANES):
        _philox_lanes(u, v, j, low + U(j), high, step_high, tail, k0, k1)
    for j in range(lanes, n):
        path = U(first_path) + U(j)
        c0, c1, c2, c3 = philox(path & _LOW, ((path >> U(32)) & U(0xFFFF)) | step_low, step_high, tail, k0, k1)
        u[j], v[j] = (c0 << U(32)) | c1, (c2 << U(32)) | c3
    for j in range(n):
        z0[j], z1[j] = box_muller(u[j], v[j])


def normal_pairs(
    first_path: int, pair: int, n: int, key: int, tag: int = 0, draw: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the normals of steps 2 pair and 2 pair + 1 of `n` paths from `first_path` on: two arrays (n,)."""
    u, v = np.empty(n, np.uint64), np.empty(n, np.uint64)
    z0, z1 = np.empty(n), np.empty(n)
    fill_normal_pairs(U(first_path), U(pair), U(tag), U(draw), U(key), u, v, z0, z1)
    return z0, z1
