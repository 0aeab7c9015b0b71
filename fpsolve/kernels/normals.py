"""Standard normals by counter: Philox4x32-10 and a Box-Muller transform without branches.

The 128-bit counter is `path 48 | pair of steps 48 | stream tag 16 | draw 16`, lowest bits first. One call gives
the normals of steps 2k and 2k+1 of one path, so a number depends on (key, path, step, tag, draw) alone: the
same bits for every block size and thread count. Every rounding is spelt out (fused where `fma` stands, nowhere
else), so vector body and remainder of a loop agree too.

What the job needs, per normal. Integers: half a Philox call, 10 rounds of about 9 operations (2 multiplications
32x32->64, 2 shifts, 2 masks, 4 xor of which two pairs fuse), 45 operations. Floats: half a transform, about 25
operations, half a division and half a square root. Memory: 32 bytes through scratch that stays in the first-level
cache, nothing beyond. With 8 lanes and 2 vector operations per cycle (AVX-512 on Zen 4) that is 2.8 cycles for the
integers; the division and the root, 34 cycles for 8 pairs, bound the floats at 2.1. Near 3.7 GHz: 0.76 + 0.57 ns.
Measured there: 0.78 + 0.70 ns in loops of their own, 1.5 ... 1.7 ns as `fill_normal_pairs`; the Euler-Maruyama step
of an OU process adds 0.7 ns. `python benchmarks/particles.py` measures it again, beside NumPy's generator.

Sources: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011); Box and Muller (1958).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
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


@kernel
def fill_normal_pairs(first_path, pair, tag, draw, key, u, v, z0, z1):  # type: ignore[no-untyped-def]
    """Fill z0 and z1 (n,) with the normals of steps 2 pair and 2 pair + 1 of paths first_path ...; u, v are scratch."""
    step = U(pair)
    tail = (U(tag) & U(0xFFFF)) | ((U(draw) & U(0xFFFF)) << U(16))
    k0, k1 = U(key) & _LOW, U(key) >> U(32)
    step_low, step_high = (step & U(0xFFFF)) << U(16), (step >> U(16)) & _LOW
    # integers first and floats after: each loop vectorises, both together do not fit the registers
    for j in range(z0.size):
        path = U(first_path) + U(j)
        c0, c1, c2, c3 = philox(path & _LOW, ((path >> U(32)) & U(0xFFFF)) | step_low, step_high, tail, k0, k1)
        u[j], v[j] = (c0 << U(32)) | c1, (c2 << U(32)) | c3
    for j in range(z0.size):
        z0[j], z1[j] = box_muller(u[j], v[j])


def normal_pairs(
    first_path: int, pair: int, n: int, key: int, tag: int = 0, draw: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the normals of steps 2 pair and 2 pair + 1 of `n` paths from `first_path` on: two arrays (n,)."""
    u, v = np.empty(n, np.uint64), np.empty(n, np.uint64)
    z0, z1 = np.empty(n), np.empty(n)
    fill_normal_pairs(U(first_path), U(pair), U(tag), U(draw), U(key), u, v, z0, z1)
    return z0, z1
