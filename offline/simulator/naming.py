"""Names that look like a real catalogue, and ids that depend on nothing but their inputs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

CATEGORIES: dict[str, tuple[str, ...]] = {
    "painting": (
        "Watercolour Landscapes",
        "Oil Portraits",
        "Urban Sketching",
        "Botanical Illustration",
        "Abstract Acrylics",
        "Digital Painting",
    ),
    "photography": (
        "Street Photography",
        "Portrait Lighting",
        "Night Skies",
        "Food Photography",
        "Film Cameras",
        "Photo Editing",
    ),
    "cooking": (
        "Sourdough Baking",
        "Sichuan Cooking",
        "Knife Skills",
        "Fermentation",
        "French Pastry",
        "Weeknight Vegetarian",
    ),
    "languages": (
        "Conversational Spanish",
        "Business English",
        "Japanese Reading",
        "Mandarin Tones",
        "French Pronunciation",
        "Everyday Italian",
    ),
    "music": (
        "Fingerstyle Guitar",
        "Jazz Piano",
        "Singing Technique",
        "Music Production",
        "Ukulele Songs",
        "Music Theory",
    ),
    "fitness": (
        "Vinyasa Yoga",
        "Strength at Home",
        "Running Form",
        "Mobility",
        "Pilates Core",
        "Tai Chi",
    ),
    "programming": (
        "Python Projects",
        "Web Applications",
        "Data Structures",
        "Rust Systems",
        "Mobile Apps",
        "Game Development",
    ),
    "data": (
        "Practical Statistics",
        "SQL for Analysts",
        "Machine Learning",
        "Dashboards that Work",
        "Experiment Design",
        "Time Series",
    ),
    "finance": (
        "Personal Budgeting",
        "Index Investing",
        "Reading Balance Sheets",
        "Freelance Taxes",
        "Property Basics",
        "Options Explained",
    ),
    "craft": (
        "Hand Lettering",
        "Woodworking Joints",
        "Ceramics at the Wheel",
        "Knitting Sweaters",
        "Leather Goods",
        "Bookbinding",
    ),
    "writing": (
        "Short Stories",
        "Screenwriting",
        "Clear Business Writing",
        "Poetry Workshop",
        "Memoir",
        "Copywriting",
    ),
    "gardening": (
        "Balcony Vegetables",
        "Bonsai Care",
        "Garden Design",
        "Indoor Plants",
        "Fruit Trees",
        "Soil and Compost",
    ),
}
LEVELS = ("First Steps", "Building Skill", "Masterclass")
NUMERALS = ("I", "II", "III")
LANGUAGES = ("en", "es", "zh")
_GIVEN = [
    "Mara",
    "Tomas",
    "Aiko",
    "Nadia",
    "Leon",
    "Priya",
    "Elena",
    "Marcus",
    "Yuki",
    "Sofia",
    "Omar",
    "Ingrid",
    "Mateo",
    "Chen",
    "Fatima",
    "Hugo",
    "Lena",
    "Kofi",
    "Amelie",
    "Ravi",
    "Zoe",
    "Daniel",
    "Mei",
    "Clara",
    "Andre",
    "Noor",
    "Felix",
    "Hana",
    "Luca",
    "Esther",
]
_FAMILY = [
    "Lindqvist",
    "Okafor",
    "Tanaka",
    "Moreau",
    "Castillo",
    "Novak",
    "Iyer",
    "Haddad",
    "Brandt",
    "Silva",
    "Kowalski",
    "Zhang",
    "Rossi",
    "Mbeki",
    "Larsen",
    "Fontaine",
    "Suzuki",
    "Ibarra",
    "Keller",
    "Petrov",
    "Adeyemi",
    "Wong",
    "Marchetti",
    "Dahl",
    "Rahman",
    "Costa",
    "Vega",
]
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def category_names() -> list[str]:
    """Categories in order of their index."""
    return list(CATEGORIES)


def topic_names() -> list[str]:
    """Topics in order of their index: those of a category follow one another."""
    return [topic for topics in CATEGORIES.values() for topic in topics]


def topic_categories() -> list[int]:
    """Category index of each topic."""
    return [index for index, topics in enumerate(CATEGORIES.values()) for _ in topics]


def host_name(index: int) -> str:
    """A full name; the first 810 hosts have different ones."""
    given = _GIVEN[index % len(_GIVEN)]
    # Consecutive hosts differ in both parts, and no pair repeats before all were used.
    family = _FAMILY[(index * 7 + index // len(_GIVEN)) % len(_FAMILY)]
    rounds = index // (len(_GIVEN) * len(_FAMILY))
    return f"{given} {family}" if rounds == 0 else f"{given} {family} {rounds + 1}"


def course_title(topic: str, level: int, host: str) -> str:
    """``level`` counts from 1."""
    return f"{topic} {NUMERALS[level - 1]}: {LEVELS[level - 1]} with {host}"


def room_title(topic: str, host: str) -> str:
    """Title of a live room."""
    return f"{host.split(maxsplit=1)[0]} live: {topic}"


def video_title(topic: str, host: str, number: int) -> str:
    """Title of a short video."""
    shapes = ("{topic} in one minute", "Three mistakes in {topic}", "Inside {topic} with {given}")
    return shapes[number % 3].format(topic=topic, given=host.split(maxsplit=1)[0])


def user_id(person: int) -> str:
    """Raw id of an account."""
    return f"user_{person:05d}"


def device_id(person: int) -> str:
    """Raw id of a person's device."""
    return f"device_{person:05d}"


def course_id(index: int) -> str:
    """Id of a course."""
    return f"course_{index:05d}"


def host_id(index: int) -> str:
    """Id of a host."""
    return f"host_{index:04d}"


def room_id(number: int) -> str:
    """Id of a room."""
    return f"room_{number:06d}"


def video_id(index: int) -> str:
    """Id of a video."""
    return f"video_{index:05d}"


def entity_id(kind: str, number: int) -> str:
    """Id of a course, room, video or host."""
    return {"course": course_id, "room": room_id, "video": video_id, "host": host_id}[kind](number)


def seeded_ulid(time_ms: int, text: str) -> str:
    """A ULID whose 80 random bits are a hash of ``text``: equal inputs, equal id."""
    bits = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=10).digest())
    number = ((time_ms & ((1 << 48) - 1)) << 80) | bits
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def hash_fraction(text: str) -> float:
    """A number in [0, 1) that depends on ``text`` alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / (1 << 48)


@dataclass(slots=True)
class EventIds:
    """Ids in the order they are asked for: ``prefix`` and a number from 1."""

    prefix: str
    issued: int = 0

    def new(self) -> str:
        """The next id."""
        self.issued += 1
        return f"{self.prefix}{self.issued}"
