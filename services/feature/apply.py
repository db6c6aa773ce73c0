"""Applies the log to the store: what was applied, up to which position, commits in one transaction.

Runs in a process of its own, since a busy thread would slow the lookups down. Killed at any
moment, it goes on after the last committed transaction: nothing is lost, nothing counted twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from services.common.domain import Domain
from services.common.errors import FailedPrecondition
from services.common.event_log import LogReader, Salvage, last_payload_before
from services.feature.codec import DecodedRecord, RecordDecoder, fingerprint
from services.feature.definitions import DEDUPLICATION_MS, catalogue_entities
from services.feature.keys import Key, KeyRules
from services.feature.refunds import RefundLedger, take_refund
from services.feature.state_codec import decode_state, encode_state
from services.feature.store.protocol import FeatureStore, StoreTransaction
from services.feature.windows import AppliedEvent, KeyState, compile_plans

DAY_MS = 86_400_000
BATCH_RECORDS = 32_768
CACHED_STATES = 20_000
KEPT_CHANGES = 100_000
FORGOTTEN_PER_BATCH = 5_000
STATE_FORMAT = 2
"""Raised when stored states change their form: stores are then rebuilt from the log."""

_logger = logging.getLogger(__name__)


def schema_of(domain: Domain) -> str:
    """Hash of what states depend on: entities, event types, features and the states' form."""
    parts = domain.model_dump(mode="json", include={"entities", "events", "features"})
    return hashlib.sha256(json.dumps([STATE_FORMAT, parts]).encode()).hexdigest()


def remembered_days(now_ms: int) -> range:
    """Days (since the epoch) whose arrivals are remembered by id, the latest first.

    Tomorrow is one of them: a clock may have been ahead, and set back over midnight.
    """
    today = now_ms // DAY_MS
    return range(today + 1, today - DEDUPLICATION_MS // DAY_MS - 1, -1)


class Applier:
    """Folds records into the store. It keeps decoded states between batches, so it must be the
    store's only writer; another one's commit is noticed and refused."""

    def __init__(self, domain: Domain, store: FeatureStore, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._schema = schema_of(domain)
        self._plans = compile_plans(domain)
        self._decoder = RecordDecoder(domain)
        self._keys = KeyRules(domain)
        self._catalogue = catalogue_entities(domain)
        self._cache: dict[Key, KeyState] = {}
        self.skipped: Counter[str] = Counter()

    def prepare(self, log_dir: Path, salvage: Salvage | None = None) -> int:
        """Position to go on from. Empties the store when it was written for other definitions, or
        from another log than the one in ``log_dir``."""
        with self._store.write() as transaction:
            position = transaction.position()
            if transaction.schema() != self._schema:
                reason = "the definitions changed" if position else "the store is new"
            elif transaction.last_record() != _digest_before(log_dir, position, salvage):
                reason = "it was not made from this log"
            else:
                return position
            _logger.info("filling the store from the start of the log: %s", reason)
            transaction.clear(self._schema)
            return 0

    def apply(
        self,
        records: Sequence[tuple[int, bytes]],
        start: int | None = None,
        end: int | None = None,
    ) -> None:
        """Applies what there is of the log from ``start`` to ``end`` and commits it with ``end``.

        Where they are left out the records say it; they lack what the log lost. Raises
        ``FailedPrecondition`` (STORE_MOVED) when the store is not at ``start``.
        """
        start = records[0][0] if start is None else start
        end = records[-1][0] + 1 if end is None else end
        try:
            with self._store.write() as transaction:
                if transaction.position() != start:
                    raise FailedPrecondition(
                        "another process writes the store", reason="STORE_MOVED"
                    )
                touched = self._fold(transaction, records)
                last = _digest(records[-1][1]) if records else transaction.last_record()
                transaction.put_position(end, last)
        except BaseException:
            self._cache.clear()
            raise
        if len(self._cache) > CACHED_STATES:
            self._cache = touched if len(touched) <= CACHED_STATES else {}

    def _fold(
        self, transaction: StoreTransaction, records: Sequence[tuple[int, bytes]]
    ) -> dict[Key, KeyState]:
        touched: dict[Key, KeyState] = {}
        described: set[Key] = set()
        sequences: dict[str, int] = {}
        days = remembered_days(self._clock_ms())
        latest_ms = 0
        for arrival, payload in records:
            record = self._decoder.decode(arrival, payload)
            if record is None:
                self.skipped["undecodable"] += 1
                continue
            latest_ms = max(latest_ms, record.clock_ms)
            self._remember(transaction, record, days)
            if record.sequence is not None:
                sequences[record.producer] = record.sequence + 1
            if record.applied is None:
                self.skipped[record.skipped] += 1
            else:
                self._fold_event(transaction, record.applied, touched, described)
        for entity, identity in sorted(touched):
            aggregates = self._plans[entity].aggregates
            data = encode_state(aggregates, touched[entity, identity], latest_ms)
            transaction.put_state(entity, identity, data)
        changes = [(*key, key in described) for key in touched if key[0] in self._catalogue]
        if changes:
            transaction.add_changes(changes, KEPT_CHANGES)
        for producer, sequence in sequences.items():
            transaction.put_next_sequence(producer, sequence)
        transaction.forget_fingerprints(days[-1], FORGOTTEN_PER_BATCH)
        return touched

    def _fold_event(
        self,
        transaction: StoreTransaction,
        event: AppliedEvent,
        touched: dict[Key, KeyState],
        described: set[Key],
    ) -> None:
        count_changes = self._take_refund(transaction, event) if event.refund else ()

        def state_of(key: Key) -> KeyState:
            state = touched.get(key)
            if state is None:
                state = touched[key] = self._load(transaction, key)
            return state

        def read_attribute(key: Key, attribute: str) -> str | None:
            state = self._plans[key[0]].as_of(state_of(key), event.clock_ms)
            found = state.attributes.get(attribute)
            return found[2] if found is not None and isinstance(found[2], str) else None

        derived = self._keys.derived(event, read_attribute)
        for key in self._keys.touched(event, derived):
            self._plans[key[0]].fold(state_of(key), event, count_changes, derived)
        subject = event.subject
        tells = event.upserted is not None or event.withdrawn is not None
        if tells and subject is not None and subject[0] in self._plans:
            self._plans[subject[0]].describe(state_of(subject), event)
            described.add(subject)

    def _load(self, transaction: StoreTransaction, key: Key) -> KeyState:
        state = self._cache.get(key)
        if state is None:
            plan = self._plans[key[0]]
            data = transaction.state(*key)
            state = decode_state(data) if data is not None else plan.new_state()
            self._cache[key] = state
        return state

    def _take_refund(
        self, transaction: StoreTransaction, event: AppliedEvent
    ) -> Sequence[tuple[int, int]]:
        facts = event.refund
        if facts is None:
            return ()
        stored = transaction.refunds(facts.purchase_event_id)
        ledger = RefundLedger.decode(stored) if stored is not None else None
        ledger, count_changes = take_refund(ledger, event, facts)
        transaction.put_refunds(facts.purchase_event_id, ledger.encode())
        return count_changes

    def _remember(self, transaction: StoreTransaction, record: DecodedRecord, days: range) -> None:
        day = record.clock_ms // DAY_MS
        if day < days[-1] or record.skipped == "duplicate":
            return
        transaction.put_fingerprint(record.event_id, day, fingerprint(record.message.event))


def follow(
    applier: Applier,
    log_dir: Path,
    *,
    synced: Callable[[], int],
    salvage: Salvage,
    should_stop: Callable[[], bool],
    prepared: Callable[[], None],
    poll_seconds: float = 0.01,
) -> None:
    """Applies the log as it grows, up to the position ``synced``, until told to stop. Calls
    ``prepared`` once the store is known to belong to this log."""
    position = applier.prepare(log_dir, salvage)
    prepared()
    reader = LogReader(log_dir, position, salvage=salvage)
    while not should_stop():
        records = reader.read(BATCH_RECORDS, synced())
        if reader.next_arrival > position:
            applier.apply(records, position, reader.next_arrival)
            position = reader.next_arrival
        else:
            time.sleep(poll_seconds)


def _digest_before(log_dir: Path, position: int, salvage: Salvage | None) -> bytes:
    """Digest of the last record before a position; empty where there is none."""
    payload = last_payload_before(log_dir, position, salvage) if position else None
    return _digest(payload) if payload is not None else b""


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=16).digest()
