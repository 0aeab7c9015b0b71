"""Philox against published answers and a plain reference, Box-Muller against NumPy's functions.

Statistical tests use fixed keys; the false-alarm rate of each is stated where it is tested.
"""

import numpy as np
import pytest
from scipy import stats

from fpsolve.kernels.normals import box_muller, normal_pairs, philox

LOW = 0xFFFFFFFF


def reference_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 in Python's integers, after Salmon et al. (2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & LOW, (p0 >> 32) ^ c[3] ^ k[1], p0 & LOW]
        k = [(k[0] + 0x9E3779B9) & LOW, (k[1] + 0xBB67AE85) & LOW]
    return c


def reference_normals(path: int, pair: int, key: int, tag: int, draw: int) -> tuple[float, float]:
    """The layout path 48 | pair 48 | tag 16 | draw 16 and a Box-Muller transform with NumPy's functions."""
    counter = path | pair << 48 | tag << 96 | draw << 112
    words = reference_philox([counter >> 32 * j & LOW for j in range(4)], [key & LOW, key >> 32])
    u, v = words[0] << 32 | words[1], words[2] << 32 | words[3]
    radius = np.sqrt(-2.0 * np.log(((u >> 12) + 0.5) / 2**52))
    angle = (((v << 3 & (2**64 - 1)) >> 12) / 2**52 - 0.5) * np.pi / 2
    first, second = np.sin(angle), np.cos(angle)
    if v >> 61 & 1:
        first, second = second, first
    return radius * first * (1 - 2 * (v >> 63)), radius * second * (1 - 2 * (v >> 62 & 1))


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        (0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (LOW, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
    ids=["zeros", "ones"],
)
def test_philox_gives_the_answers_of_random123(word: int, answer: tuple[int, ...]) -> None:
    assert tuple(int(w) for w in philox(*[np.uint64(word)] * 6)) == answer
    assert tuple(reference_philox([word] * 4, [word] * 2)) == answer


@pytest.mark.parametrize("path", [0, 5, 2**32 - 2, 2**32, 2**33 + 7, 2**48 - 3])
@pytest.mark.parametrize("pair", [0, 2**16 + 1, 2**47 + 2**20 + 3])
@pytest.mark.parametrize(("tag", "draw"), [(0, 0), (3, 65535)])
def test_normals_against_reference(path: int, pair: int, tag: int, draw: int) -> None:
    key = 0x0123456789ABCDEF
    z0, z1 = normal_pairs(path, pair, 3, key, tag, draw)
    expected = [reference_normals(path + j, pair, key, tag, draw) for j in range(3)]
    np.testing.assert_allclose(np.column_stack([z0, z1]), expected, rtol=0, atol=3e-12)


@pytest.mark.parametrize("n", [1, 3, 7, 8, 64, 511, 513])
def test_bits_do_not_depend_on_the_block(n: int) -> None:
    whole = normal_pairs(2**32 - 100, 9, 1000, 77)
    for part, all_ in zip(normal_pairs(2**32 - 100 + 41, 9, n, 77), whole, strict=True):
        np.testing.assert_array_equal(part[: 900 - 41], all_[41 : 41 + n])


def test_extreme_bits_stay_finite_and_reach_far() -> None:
    ones, zero = np.uint64(2**64 - 1), np.uint64(0)
    far = np.hypot(*box_muller(zero, np.uint64(2**60)))
    np.testing.assert_allclose(far, np.sqrt(2 * 53 * np.log(2)), rtol=1e-12)
    near = np.hypot(*box_muller(ones, ones))
    np.testing.assert_allclose(near, np.sqrt(-2 * np.log1p(-(2.0**-53))), rtol=1e-9)


def test_normals_are_standard_and_uncorrelated() -> None:
    # one Kolmogorov-Smirnov test and 5 z-tests at |z| < 4.5: false alarm below 2e-4 in all
    n = 400_000
    z = np.array([normal_pairs(12345, pair, n, 2**63 + 11) for pair in (4, 5)]).reshape(4, n)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4
    assert abs(z.mean()) * np.sqrt(z.size) < 4.5
    assert abs((z**2).mean() - 1) * np.sqrt(z.size / 2) < 4.5
    assert abs((z**4).mean() - 3) * np.sqrt(z.size / 96) < 4.5
    correlations = (np.corrcoef(z) - np.eye(4)) * np.sqrt(n)
    squares = (np.corrcoef(z**2) - np.eye(4)) * np.sqrt(n)
    assert np.abs(correlations).max() < 4.5
    assert np.abs(squares).max() < 4.5
