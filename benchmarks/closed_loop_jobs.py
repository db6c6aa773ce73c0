"""One world of the closed loop, from its simulation to its figures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from benchmarks.closed_loop_arms import (
    GUARANTEE,
    NO_RANKER,
    SHOWN,
    arms_of,
    guaranteeing,
    unchanged,
)
from benchmarks.closed_loop_order import learned_curve, orders
from benchmarks.closed_loop_ranker import SURFACE, Positioned, Ranker, Unscored
from benchmarks.closed_loop_run import LENGTH, Found, Loop, NewCourse
from benchmarks.closed_loop_world import (
    SHIPPED,
    UNPOSITIONED,
    OnlineFeatures,
    PreparedWorld,
    prepare_world,
)
from offline.simulator import naming
from offline.simulator.parameters import DAY_MS, HOUR_MS, WorldParameters
from services.common.domain import load_domain
from services.ranker.bundle_spec import bundle_spec
from services.ranker.plan import BundleSpec

END_MS = 1_790_000_000_000
SEEDS, BIASED_SEEDS = (411, 412, 413), (421, 422)
STRONG_BIAS = 1.5
CURVE_COURSES, CURVE_PEOPLE = 200, 20
DOMAIN_FILE = Path(__file__).parent.parent / "config" / "live_courses.yaml"


@dataclass(frozen=True)
class Size:
    """How large worlds and loops are. ``guarantee``: impressions for each new course within
    ``guarantee_hours``, in a loop of ``guarantee_slates``; ``judged``: people whose whole order of
    courses is looked at."""

    users: int
    courses: int
    weeks: int
    days: int
    slates: int
    biased_slates: int
    guarantee: int
    guarantee_hours: int
    guarantee_slates: int
    judged: int


FULL = Size(700, 1_000, 6, 7, 500, 250, 4, 72, 2_000, 150)
QUICK = Size(60, 100, 2, 1, 12, 8, 1, 12, 24, 4)


@dataclass(frozen=True)
class Job:
    """One world: of the default settings, where every arm is tried, or with strong position bias,
    where the two ways of training are. ``guarantees``: also runs the loop with a guarantee."""

    seed: int
    size: Size
    biased: bool = False
    guarantees: bool = False

    @property
    def name(self) -> str:
        """What its result is kept under."""
        kind = "biased" if self.biased else "default"
        size = self.size
        return f"{kind}-{self.seed}-{size.users}x{size.courses}x{size.weeks}-{size.slates}"


class NewCourses(BaseModel):
    """What became of courses that were published in a loop: one entry a course. ``age_hours`` at
    its end; ``until``: the impressions guaranteed ``within_hours``; ``impressions``: those had in
    that time, ``placed``: slates whose slot was theirs."""

    until: int
    within_hours: int
    slates: int
    age_hours: list[float]
    impressions: list[int]
    placed: list[int]

    @classmethod
    def of(cls, found: Found, until: int, within_hours: int, end_ms: int) -> NewCourses:
        """Of what a loop that ended at ``end_ms`` found."""
        courses: Sequence[NewCourse] = found.new_courses
        return cls(
            until=until,
            within_hours=within_hours,
            slates=len(found.person),
            age_hours=[(end_ms - course.published_ms) / HOUR_MS for course in courses],
            impressions=[course.impressions_within(within_hours * HOUR_MS) for course in courses],
            placed=[course.placed for course in courses],
        )


class Orders(BaseModel):
    """Position bias of one world: rank correlation of each person judged, by way of training; the
    share of a click's chance at the first position that is left at each, learned and true."""

    correlations: dict[str, list[float]]
    learned: list[float]
    true: list[float]


class WorldResult(BaseModel):
    """Figures of one world. By arm and slate: purchases, opened courses and revenue (minor units)
    to expect; ``person``: who saw each slate."""

    seed: int
    biased: bool
    person: list[int]
    purchases: dict[str, list[float]]
    opens: dict[str, list[float]]
    revenue_minor: dict[str, list[float]]
    new_courses: list[NewCourses]
    orders: Orders | None
    seconds: dict[str, float]


def jobs_of(*, quick: bool) -> list[Job]:
    """All worlds of a run, the longest first."""
    if quick:
        return [
            Job(SEEDS[0], QUICK, guarantees=True),
            Job(BIASED_SEEDS[0], QUICK, biased=True),
        ]
    return [
        *(Job(seed, FULL, guarantees=seed == SEEDS[0]) for seed in SEEDS),
        *(Job(seed, FULL, biased=True) for seed in BIASED_SEEDS),
    ]


def run_job(job: Job, workspace: Path) -> WorldResult:
    """One world, or what was found of it before."""
    kept = workspace / f"{job.name}.json"
    if kept.is_file():
        return WorldResult.model_validate_json(kept.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(dir=workspace) as directory:
        result = _run(job, Path(directory))
    kept.write_text(result.model_dump_json() + "\n", encoding="utf-8")
    return result


def _run(job: Job, directory: Path) -> WorldResult:
    size, clock = job.size, _Clock()
    parameters = WorldParameters(
        end_ms=END_MS, seed=job.seed, users=size.users, courses=size.courses, weeks=size.weeks
    )
    if job.biased:
        parameters = replace(parameters, position_bias=STRONG_BIAS)
    domain = load_domain(DOMAIN_FILE)
    trained = (SHIPPED, UNPOSITIONED) if job.biased else (SHIPPED,)
    prepared = prepare_world(domain, parameters, directory, trained=trained)
    clock.done("prepare")
    specs = {way: bundle_spec(bundle, domain) for way, bundle in prepared.bundles.items()}
    slates = size.biased_slates if job.biased else size.slates
    end_ms = END_MS + size.days * DAY_MS
    with OnlineFeatures(domain, prepared.log, directory / "store", END_MS) as features:
        rankers = _rankers(job, prepared, specs, features)
        loop = Loop(prepared, features, rankers, SHOWN)
        found = loop.run(size.days, slates)
        clock.done("loop")
        judged = _judge(job, prepared, specs, features, loop) if job.biased else None
        clock.done("judge")
    new_courses: list[NewCourses] = []
    if job.guarantees:
        kept = _guarantee_loop(job, prepared, specs[SHIPPED], directory / "guarantee")
        new_courses = [NewCourses.of(kept, size.guarantee, size.guarantee_hours, end_ms)]
        clock.done("guarantee")
    return WorldResult(
        seed=job.seed,
        biased=job.biased,
        person=found.person,
        purchases=found.purchases,
        opens=found.opens,
        revenue_minor=found.revenue_minor,
        new_courses=new_courses,
        orders=judged,
        seconds=clock.seconds,
    )


def _rankers(
    job: Job,
    prepared: PreparedWorld,
    specs: Mapping[str, BundleSpec],
    features: OnlineFeatures,
) -> list[Ranker]:
    """Rankers of all arms, that of the shipped bundle first."""
    bundle, spec = prepared.bundles[SHIPPED], specs[SHIPPED]
    if job.biased:
        ways = {SHOWN: SHIPPED, UNPOSITIONED: UNPOSITIONED}
        return [
            Ranker(prepared.bundles[way], specs[way], {arm: unchanged}, features, features.clock_ms)
            for arm, way in ways.items()
        ]
    arms = arms_of(spec.surfaces[SURFACE], spec.objectives)
    return [
        Ranker(bundle, spec, arms, features, features.clock_ms),
        Ranker(Unscored(bundle), spec, {NO_RANKER: unchanged}, features, features.clock_ms),
    ]


def _judge(
    job: Job,
    prepared: PreparedWorld,
    specs: Mapping[str, BundleSpec],
    features: OnlineFeatures,
    loop: Loop,
) -> Orders:
    """Position bias at the end of a loop."""
    people = loop.visitors(job.size.judged)
    shipped, unpositioned = loop.rankers
    ways = {SHIPPED: shipped, UNPOSITIONED: unpositioned}
    correlations = orders(loop.world, ways, people, features.now_ms)
    at = []
    for position in range(LENGTH):
        bundle = Positioned(prepared.bundles[SHIPPED], position)
        ranker = Ranker(bundle, specs[SHIPPED], {SHOWN: unchanged}, features, features.clock_ms)
        ranker.take(loop.tables)
        at.append(ranker)
    courses = np.flatnonzero(loop.world.catalogue.sellable(features.now_ms))[:CURVE_COURSES]
    ids = [naming.course_id(row) for row in courses.tolist()]
    # Of what was scrolled to: only that is in the log.
    true = (1.0 + np.arange(LENGTH)) ** -loop.world.parameters.position_bias
    return Orders(
        correlations={way: values.tolist() for way, values in correlations.items()},
        learned=learned_curve(at, people[:CURVE_PEOPLE], ids).tolist(),
        true=true.tolist(),
    )


def _guarantee_loop(job: Job, prepared: PreparedWorld, spec: BundleSpec, directory: Path) -> Found:
    """A loop that shows the slates of the surface with the smaller guarantee."""
    end_ms = prepared.world.parameters.end_ms
    size = job.size
    arms = {GUARANTEE: guaranteeing(size.guarantee, f"{size.guarantee_hours}h")}
    with OnlineFeatures(prepared.domain, prepared.log, directory, end_ms) as features:
        bundle = prepared.bundles[SHIPPED]
        ranker = Ranker(bundle, spec, arms, features, features.clock_ms)
        loop = Loop(prepared, features, [ranker], GUARANTEE, follows=True)
        return loop.run(size.days, size.guarantee_slates)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def done(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._since, 1)
        self._since = now
