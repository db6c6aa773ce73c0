"""What can be set about a simulated world, with ranges.

Knob               Default  Range        Meaning
users              1,300    10..1e6      people with an account; guests come on top
hosts              60       2..10,000    streamers at the start; a few come and go
courses            400      10..100,000  courses at the start
weeks              6        1..520       length of the log; it ends at ``end_ms``
position_bias      0.7      0..3         examination falls as (1 + position) ** -bias; 0 is none
drift              1.0      0..5         changes of interest: 0.25 x drift per person-week
herding            0.6      0..3         how far recent sales and clicks of others attract
refund_rate        0.06     0..0.9       mean share of purchases refunded; poor fits more often
personal_signal    1.0      0..3         weight of all that is personal; at 0 people choose by
                                         popularity, position and budget only
activity           2.0      0.1..20      mean sessions per person and week
partial_refunds    0.3      0..1         share of refunds that give back only a part
anonymous_share    0.06     0..0.9       share of account holders' visits without signing in;
                                         guests (15 % more people) come on top
arrival_rate       0.08     0..1         new courses a week, as a share of ``courses``
rooms_live         6        1..1,000     mean number of rooms on air; twelve (or 60 % of the hosts,
                                         where that is less) in the last three hours and after
late_purchases     0.25     0..1         chance, per strong interest, to buy days later instead
heartbeat_minutes  30       1..120       interval of room heartbeats

Prices are in minor units of ``currency``. Equal parameters give equal events.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from services.common.errors import FieldViolation, InvalidArgument

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS

RANGES: dict[str, tuple[float, float]] = {
    "weeks": (1, 520),
    "users": (10, 1_000_000),
    "hosts": (2, 10_000),
    "courses": (10, 100_000),
    "seed": (0, 2**63 - 1),
    "position_bias": (0, 3),
    "drift": (0, 5),
    "herding": (0, 3),
    "refund_rate": (0, 0.9),
    "personal_signal": (0, 3),
    "activity": (0.1, 20),
    "partial_refunds": (0, 1),
    "anonymous_share": (0, 0.9),
    "arrival_rate": (0, 1),
    "rooms_live": (1, 1_000),
    "late_purchases": (0, 1),
    "heartbeat_minutes": (1, 120),
}


@dataclass(frozen=True)
class WorldParameters:
    """See the module's table. Raises ``InvalidArgument`` naming each field out of its range.

    ``end_ms`` is the exclusive end of the log in epoch milliseconds.
    """

    end_ms: int
    weeks: int = 6
    users: int = 1_300
    hosts: int = 60
    courses: int = 400
    seed: int = 1
    position_bias: float = 0.7
    drift: float = 1.0
    herding: float = 0.6
    refund_rate: float = 0.06
    personal_signal: float = 1.0
    activity: float = 2.0
    partial_refunds: float = 0.3
    anonymous_share: float = 0.06
    arrival_rate: float = 0.08
    rooms_live: float = 6.0
    late_purchases: float = 0.25
    heartbeat_minutes: int = 30
    currency: str = "USD"

    def __post_init__(self) -> None:
        violations = [
            FieldViolation(name, f"must lie between {low:g} and {high:g}")
            for name, (low, high) in RANGES.items()
            if not low <= getattr(self, name) <= high
        ]
        if self.start_ms < 0:
            violations.append(FieldViolation("end", "the world would start before 1970"))
        if violations:
            text = "; ".join(f"{v.field}: {v.description}" for v in violations)
            raise InvalidArgument(text, violations=violations)

    @property
    def start_ms(self) -> int:
        """Start of the log, epoch milliseconds: ``weeks`` before ``end_ms``."""
        return self.end_ms - self.weeks * WEEK_MS

    @property
    def guests(self) -> int:
        """Visitors who never have an account."""
        return max(1, round(0.15 * self.users))

    def as_dict(self) -> dict[str, int | float | str]:
        """Every parameter by name."""
        return dataclasses.asdict(self)
