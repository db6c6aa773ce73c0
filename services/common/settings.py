"""Settings of the services, read from the environment. The only module that reads it.

Each setting has a type, a default and a sentence; ``podium serve NAME --help`` prints them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.errors import ConfigError
from services.common.pseudonym import DEVELOPMENT_KEYS
from services.common.token_keys import DEVELOPMENT_TOKEN_KEYS

PREFIX = "PODIUM_"

Settings = TypeVar("Settings", bound="CommonSettings")


class CommonSettings(BaseSettings):
    """What every service reads."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    environment: Literal["dev", "prod"] = Field(
        default="dev", description="Kind of deployment; prod refuses the development keys."
    )
    bind_address: str = Field(
        default="127.0.0.1", description="Address to listen on, for calls and for metrics."
    )
    domain_file: Path = Field(
        default=Path("config/live_courses.yaml"), description="YAML file of the domain."
    )
    experiments_file: Path = Field(
        default=Path("config/experiments.yaml"),
        description="YAML file of the experiments in force.",
    )
    pseudonym_keys: SecretStr = Field(
        default=SecretStr(DEVELOPMENT_KEYS),
        description="Keys of the pseudonyms, VERSION:BASE64_OF_64_BYTES, separated by commas; "
        "the highest version encrypts.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest level that is logged."
    )
    drain_seconds: float = Field(
        default=20.0,
        ge=0,
        le=600,
        description="Longest time calls in flight get to finish on SIGTERM.",
    )
    lame_duck_seconds: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="Time on SIGTERM during which calls are still taken while health says "
        "NOT_SERVING, so that balancers can look elsewhere first.",
    )
    max_concurrent_calls: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="Calls worked on at once; more are RESOURCE_EXHAUSTED.",
    )
    max_request_bytes: int = Field(
        default=4 << 20,
        ge=1024,
        le=64 << 20,
        description="Largest request; a larger one is refused.",
    )


class FeatureSettings(CommonSettings):
    """The feature service."""

    feature_port: int = Field(
        default=50051, ge=0, le=65535, description="Port of the feature service."
    )
    feature_metrics_port: int = Field(
        default=9101, ge=0, le=65535, description="Port of the feature service's metrics."
    )
    log_dir: Path = Field(default=Path("data/log"), description="Directory of the event log.")
    store_dir: Path = Field(
        default=Path("data/store"),
        description="Directory of the embedded stores; with Redis, of notes on which is in use.",
    )
    store: Literal["embedded", "redis", "redis_cluster"] = Field(
        default="embedded",
        description="Where what is derived from the log is kept: in files of this machine, or in "
        "Redis or Valkey, which several replicas may share.",
    )
    store_max_bytes: int = Field(
        default=64 << 30,
        ge=1 << 20,
        le=1 << 46,
        description="Most that the embedded store may take on disk; when it is full, applying "
        "pauses until this is raised.",
    )
    redis_url: SecretStr = Field(
        default=SecretStr("redis://localhost:6379/0"),
        description="Where Redis or Valkey listens, redis://USER:PASSWORD@HOST:PORT/NUMBER, "
        "rediss:// for TLS; of a Cluster any node. It must not evict: maxmemory-policy noeviction.",
    )
    redis_timeout_ms: int = Field(
        default=1_000,
        ge=1,
        le=60_000,
        description="Longest wait for an answer of Redis; lookups are UNAVAILABLE after it.",
    )
    max_unapplied_events: int = Field(
        default=200_000,
        ge=1,
        le=100_000_000,
        description="Logged events that may wait to be applied to the store; beyond, Ingest is "
        "RESOURCE_EXHAUSTED.",
    )


class RankerSettings(CommonSettings):
    """The ranker."""

    ranker_port: int = Field(default=50052, ge=0, le=65535, description="Port of the ranker.")
    ranker_metrics_port: int = Field(
        default=9102, ge=0, le=65535, description="Port of the ranker's metrics."
    )
    bundles_dir: Path = Field(
        default=Path("data/bundles"), description="Directory of the published bundles."
    )
    spool_dir: Path = Field(
        default=Path("data/spool"),
        description="Directory where slates and exposures wait to be shipped to the log.",
    )
    replica_dir: Path = Field(
        default=Path("data/replica"),
        description="Directory of the last copies of the catalogue and of the experiments' "
        "definitions, and of what this replica set aside (quarantine.json).",
    )
    capture_dir: Path = Field(
        default=Path("data/captures"),
        description="Directory of captured requests; of one ranker alone.",
    )
    capture_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of slates whose request is captured with all that was read, to be "
        "ranked again by podium replay; debug requests always are.",
    )
    capture_max_bytes: int = Field(
        default=256 << 20,
        ge=1 << 20,
        le=1 << 40,
        description="Most that captures may take on disk; beyond, the oldest are removed.",
    )
    capture_max_age_days: float = Field(
        default=30.0,
        gt=0,
        le=3_650,
        description="Days for which captures are kept; then they are removed.",
    )
    debug_callers: str = Field(
        default="",
        description="Callers that may ask for debug, by name, separated by commas; in dev, where "
        "none is named, all may.",
    )
    feature_target: str = Field(
        default="localhost:50051", description="Where the feature service listens, HOST:PORT."
    )
    experiment_target: str = Field(
        default="",
        description="Where the experiment service listens, HOST:PORT; where it is empty, the "
        "experiments file decides.",
    )
    definitions_stale_seconds: float = Field(
        default=10.0,
        gt=0,
        le=86_400,
        description="Age from which on the experiments' definitions count as stale.",
    )
    exposure_window_hours: float = Field(
        default=24.0,
        gt=0,
        le=168,
        description="Pieces of time in which a unit's exposure to an experiment is logged once.",
    )
    exposure_memory: int = Field(
        default=200_000,
        ge=1,
        le=10_000_000,
        description="Exposures that are remembered as logged, at least; what is forgotten is "
        "shipped again and not logged twice.",
    )
    feature_timeout_ms: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="Longest wait for the users' features of a micro-batch.",
    )
    rank_target_ms: int = Field(
        default=100,
        ge=1,
        le=60_000,
        description="Time from arrival to answer in which 99 of 100 requests are to be ranked: "
        "while they are not, they get fewer candidates.",
    )
    candidates_floor: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Share of the configured candidates that a request gets at least.",
    )
    last_known_users: int = Field(
        default=20_000,
        ge=0,
        le=10_000_000,
        description="Users whose features are remembered as they were last, for when the feature "
        "service does not answer.",
    )
    last_known_seconds: float = Field(
        default=3600.0, gt=0, le=86_400, description="How long a user's features are remembered."
    )
    source_budget_ms: float = Field(
        default=50.0,
        gt=0,
        le=10_000,
        description="Longest time that a micro-batch waits for a source; one that takes longer is "
        "left out, and one that fails or is late three times in a row for a while.",
    )
    source_rest_seconds: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="How long such a source is left out before it is tried again.",
    )
    max_batch: int = Field(
        default=16,
        ge=1,
        le=64,
        description="Most requests that are ranked together; none waits for the batch to fill.",
    )
    queue_limit: int = Field(
        default=24,
        ge=1,
        le=4096,
        description="Most requests that wait beside those of the next micro-batch; more are "
        "RESOURCE_EXHAUSTED.",
    )
    bundle_poll_seconds: float = Field(
        default=1.0, gt=0, le=3600, description="Time between looks for a newly promoted bundle."
    )
    quarantine_requests: int = Field(
        default=200,
        ge=1,
        le=1_000_000,
        description="Answers of a bundle in a row by which it is judged.",
    )
    quarantine_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Share of them above which, degraded by faults of the bundle, it is set aside.",
    )
    shadow_waiting: int = Field(
        default=64,
        ge=1,
        le=65_536,
        description="Most answered requests that wait for the shadow bundle; more are dropped.",
    )
    shadow_wait_seconds: float = Field(
        default=2.0, gt=0, le=3600, description="How long they wait before they are dropped."
    )
    catalogue_stale_seconds: float = Field(
        default=10.0, gt=0, le=3600, description="Age from which on the catalogue counts as stale."
    )
    logged_feature_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of slates that are logged with the user's features as they were served; "
        "podium features diff compares them with the offline tables.",
    )
    token_keys: SecretStr = Field(
        default=SecretStr(DEVELOPMENT_TOKEN_KEYS),
        description="Keys that sign page and refresh tokens, VERSION:BASE64_OF_64_BYTES, separated "
        "by commas; the first signs.",
    )
    token_seconds: int = Field(
        default=3_600,
        ge=1,
        le=7 * 86_400,
        description="How long page and refresh tokens hold.",
    )
    background_limit: int = Field(
        default=512,
        ge=1,
        le=65_536,
        description="Most actors of RankBatch that wait to be ranked; more are RESOURCE_EXHAUSTED.",
    )
    catalogue_save_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="How far the catalogue's copy on disk may be behind.",
    )
    exact_search_rows: int = Field(
        default=4096,
        ge=0,
        le=1_000_000,
        description="Up to that many items that may be shown are searched exactly, not by index.",
    )
    model_threads: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Threads of one run of a model and of one index search.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where models run; auto takes CUDA where it is present."
    )


class ExperimentSettings(CommonSettings):
    """The experiment service."""

    experiment_port: int = Field(
        default=50053, ge=0, le=65535, description="Port of the experiment service."
    )
    experiment_metrics_port: int = Field(
        default=9103, ge=0, le=65535, description="Port of the experiment service's metrics."
    )
    experiment_database_url: SecretStr = Field(
        default=SecretStr(""),
        description="Database of the registry, sqlite:///PATH or postgresql://USER:PASSWORD@HOST/"
        "NAME; where it is empty, the experiments file decides, and nothing can be changed.",
    )
    experiment_dir: Path = Field(
        default=Path("data/experiment"),
        description="Directory of the last copy of the registry's definitions, to decide by while "
        "its database is gone; of one replica alone.",
    )
    experiment_editors: str = Field(
        default="",
        description="Callers that may change experiments, by name, separated by commas; in dev, "
        "where none is named, all may.",
    )
    experiment_reporters: str = Field(
        default="",
        description="Callers that may store reports beside the editors, by name, separated by "
        "commas.",
    )
    experiment_tokens: SecretStr = Field(
        default=SecretStr(""),
        description="Tokens by which callers are known, NAME:TOKEN, separated by commas; a caller "
        "sends its own as authorization: Bearer TOKEN.",
    )


class SettingDescription(NamedTuple):
    """One setting as ``--help`` shows it."""

    variable: str
    default: str
    sentence: str


def load_settings(kind: type[Settings]) -> Settings:
    """Reads ``kind`` from the environment. Raises ``ConfigError`` naming the variable."""
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        variable = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        raise ConfigError("environment", 0, variable, first["msg"]) from error


def describe_settings(kind: type[CommonSettings]) -> list[SettingDescription]:
    """Every setting of a service, its own first."""
    shared = CommonSettings.model_fields
    own = [name for name in kind.model_fields if name not in shared]
    rows = []
    for name in [*own, *shared]:
        field = kind.model_fields[name]
        secret = isinstance(field.default, SecretStr)
        default = str(field.default) or "none"
        if secret and field.default.get_secret_value():
            default = "a key for development" if name.endswith("_keys") else "on this machine"
        rows.append(SettingDescription(PREFIX + name.upper(), default, field.description or ""))
    return rows
