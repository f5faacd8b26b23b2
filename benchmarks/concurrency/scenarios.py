"""The places where Sealift runs, as scenarios of the model."""

from __future__ import annotations

import random

from benchmarks.concurrency.model import KIB, MIB, Scenario


def _small(_: random.Random) -> int:
    return 16 * KIB


def _large(_: random.Random) -> int:
    return 8 * MIB


def _mixture(rng: random.Random) -> int:
    """The log-normal sizes of the benchmarks, in parts of at most 8 MiB: mean 0.8 MiB, median 100 KiB."""
    return min(8 * MIB, max(1, int(rng.lognormvariate(11.5, 2.0))))


def _halves_and_recovers(now: float) -> float:
    return 0.5 if 10 <= now < 20 else 1.0


def _stalls(now: float) -> float:
    """A disk that does nothing for 0.3 s of every 4."""
    return 0.0 if now % 4 > 3.7 else 1.0


SCENARIOS = [
    Scenario(
        name="laptop: 50 Mb/s, 40 ms, 8 MiB parts",
        size=_large, seconds=120, link=50e6 / 8, per_connection=85e6, first_byte=0.04, noise=0.2,
    ),
    Scenario(
        name="2 cores, loopback, 16 KiB",
        size=_small, seconds=10, link=2e9, per_connection=1e9, first_byte=0.0005, crowding=300, noise=0.1,
    ),
    Scenario(
        name="2 cores, loopback, 8 MiB",
        size=_large, seconds=20, link=1.6e9, per_connection=1.2e9, first_byte=0.0005, crowding=300, noise=0.1,
    ),
    Scenario(
        name="10 Gb/s, 30 ms, 16 KiB",
        size=_small, seconds=10, link=10e9 / 8, per_connection=85e6, first_byte=0.03, noise=0.2,
    ),
    Scenario(
        name="100 Gb/s, 100 ms, 8 MiB parts",
        size=_large, seconds=15, link=100e9 / 8, per_connection=85e6, first_byte=0.1, cpu_byte=1 / 15e9, noise=0.2,
    ),
    Scenario(
        name="S3 refuses beyond 3,500 GETs/s, 40 ms",
        size=_small, seconds=20, link=10e9 / 8, per_connection=85e6, first_byte=0.04, cap=3500.0, noise=0.1,
    ),
    Scenario(
        name="1 Gb/s halves and recovers, 30 ms, 1 MiB",
        size=lambda _: MIB, seconds=30, link=125e6, per_connection=20e6, first_byte=0.03, noise=0.2,
        weather=_halves_and_recovers,
    ),
    Scenario(
        name="log-normal sizes, 5 Gb/s, 60 ms",
        size=_mixture, seconds=20, link=5e9 / 8, per_connection=85e6, first_byte=0.06, spread=0.5, noise=0.2,
    ),
    Scenario(
        name="a disk that stalls, 2 Gb/s, 30 ms, 1 MiB",
        size=lambda _: MIB, seconds=30, link=250e6, per_connection=85e6, first_byte=0.03, noise=0.2, weather=_stalls,
    ),
    Scenario(
        name="2,000 × 16 KiB, 30 ms",
        size=_small, seconds=60, objects=2000, link=10e9 / 8, per_connection=85e6, first_byte=0.03, spread=0.05,
        set_up=0.1,
    ),
    Scenario(
        name="2,000 × 16 KiB, 30 ms, TLS",
        size=_small, seconds=60, objects=2000, link=10e9 / 8, per_connection=85e6, first_byte=0.03, spread=0.05,
        set_up=2, cpu_set_up=1e-3, cpu_get=60e-6,
    ),
    Scenario(
        name="100,000 × 16 KiB, 30 ms",
        size=_small, seconds=60, objects=100_000, link=10e9 / 8, per_connection=85e6, first_byte=0.03, spread=0.05,
        set_up=0.1,
    ),
    Scenario(
        name="3 GiB in 8 MiB parts, 30 ms",
        size=_large, seconds=60, objects=384, link=2.5e9, per_connection=80e6, first_byte=0.03, spread=0.05,
        crowding=300, noise=0.1,
    ),
    Scenario(
        name="3 GiB in 8 MiB parts, 100 ms",
        size=_large, seconds=60, objects=384, link=2.5e9, per_connection=80e6, first_byte=0.1, crowding=300, noise=0.1,
    ),
    Scenario(
        name="2 cores, loopback, 300 × 8 MiB, TLS",
        size=_large, seconds=60, objects=300, link=1.6e9, per_connection=1.2e9, first_byte=0.0005, crowding=300,
        cpu_byte=1 / 0.8e9, cpu_set_up=1e-3, noise=0.1,
    ),
]  # fmt: skip
