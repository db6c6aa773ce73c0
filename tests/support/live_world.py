"""A little live-course catalogue and its users, as rows that the feature service would serve."""

from __future__ import annotations

from typing import Any

CATEGORIES = ("cooking", "guitar", "python")


def little_catalogue(courses: int = 30, rooms: int = 12) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows by entity type and id. Every third room is off air; course_3 is sold out."""
    hosts = {
        f"host_{n}": {"title": f"Host {n}", "category": CATEGORIES[n % 3], "clicks_7d": n}
        for n in range(6)
    }
    items = {
        f"course_{n}": {
            "title": f"Course {n}",
            "host_id": f"host_{n % 6}",
            "category": CATEGORIES[n % 3],
            "level": n % 4,
            "price_minor": 100 * (n + 1),
            "seats_left": 0 if n == 3 else 10,
            "clicks_7d": n % 7,
        }
        for n in range(courses)
    }
    live = {
        f"room_{n}": {
            "title": f"Room {n}",
            "host_id": f"host_{n % 6}",
            "category": CATEGORIES[n % 3],
            "live": int(n % 3 != 2),
            "heard": 1,
            "viewers": n,
            "selling_course_id": f"course_{n}",
        }
        for n in range(rooms)
    }
    videos = {
        f"video_{n}": {
            "title": f"Video {n}",
            "host_id": f"host_{n % 6}",
            "course_id": f"course_{n}",
            "category": CATEGORIES[n % 3],
        }
        for n in range(10)
    }
    return {"course": items, "host": hosts, "room": live, "video": videos}


def little_users() -> dict[str, dict[str, Any]]:
    """One user with a history, who bought course_1 and blocked host_2."""
    history = ["course_0", "course_4", "course_7"]
    return {
        "ann": {
            "recent_courses": history,
            "recent_actions": ["click", "cart", "watch"],
            "purchased_courses": ["course_1"],
            "blocked_hosts": ["host_2"],
            "user_clicks_7d": 3,
        }
    }
