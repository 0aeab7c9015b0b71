"""Euler-Maruyama in JAX and diffrax, as benchmarks/particles.py times them: float64, compiled, every device in use.

Importing it needs jax and diffrax. XLA runs these programs on one core per device, so the caller asks for as many
devices as there are cores, by XLA_FLAGS=--xla_force_host_platform_device_count=N, before jax is imported.
"""

from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

jax.config.update("jax_enable_x64", True)
Drift = Callable[[jax.Array], jax.Array]


def on_every_device(local: Callable[[jax.Array], jax.Array]) -> Callable[[], np.ndarray]:
    """Compile `local`, which maps one key to an array, with a key and a thread of its own on every device."""
    mesh = jax.make_mesh((jax.device_count(),), ("device",), axis_types=(AxisType.Auto,))
    apart = PartitionSpec("device")
    compiled = jax.jit(
        jax.shard_map(lambda keys: local(keys[0]), mesh=mesh, in_specs=apart, out_specs=apart, check_vma=False)
    )
    keys = jax.random.split(jax.random.key(0), jax.device_count())
    return lambda: np.asarray(compiled(keys))


def scan(drift: Drift, noise: float, n_paths: int, n_steps: int) -> Callable[[], np.ndarray]:
    """A scan over the steps of all paths of a device, one key per step."""
    h, share = 1.0 / n_steps, n_paths // jax.device_count()

    def local(key: jax.Array) -> jax.Array:
        def step(x: jax.Array, of_step: jax.Array) -> tuple[jax.Array, None]:
            return x + drift(x) * h + noise * h**0.5 * jax.random.normal(of_step, (share,)), None

        return jax.lax.scan(step, jnp.zeros(share), jax.random.split(key, n_steps))[0]

    return on_every_device(local)


def solved(drift: Drift, noise: float, n_paths: int, n_steps: int) -> Callable[[], np.ndarray]:
    """diffrax: its Euler solver on UnsafeBrownianPath, which takes no adjoint but ForwardMode, mapped over keys."""
    h, share = 1.0 / n_steps, n_paths // jax.device_count()

    def one(key: jax.Array) -> jax.Array:
        path = diffrax.UnsafeBrownianPath(shape=(), key=key)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, x, _: drift(x)), diffrax.ControlTerm(lambda t, x, _: jnp.asarray(noise), path)
        )
        end = diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            0.0,
            1.0,
            h,
            jnp.zeros(()),
            max_steps=None,
            adjoint=diffrax.ForwardMode(),
            throw=False,
        )
        return end.ys[0]

    return on_every_device(lambda key: jax.vmap(one)(jax.random.split(key, share)))


def normals(rows: int, columns: int) -> Callable[[], np.ndarray]:
    """Sum of `rows` blocks of `columns` normals on one device: what `scan` draws, and nothing else."""

    @jax.jit
    def summed(key: jax.Array) -> jax.Array:
        def step(x: jax.Array, of_row: jax.Array) -> tuple[jax.Array, None]:
            return x + jax.random.normal(of_row, (columns,)), None

        return jax.lax.scan(step, jnp.zeros(columns), jax.random.split(key, rows))[0]

    key = jax.random.key(0)
    return lambda: np.asarray(summed(key))
