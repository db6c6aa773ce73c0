"""Applies the log to the store.

Runs in a process of its own, since a busy thread would slow the lookups down. Killed at any
moment, it goes on where the store is: nothing is lost, nothing counted twice. In a store of its own
what was applied, up to which position, commits in one transaction. In one that other replicas fill
too, a state that holds a record already is left alone when the record is applied again, and a
record whose event id another one has claimed is marked beside the log and not applied.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from services.common.convert_event import record_digest
from services.common.domain import Domain
from services.common.errors import FailedPrecondition, Unavailable
from services.common.event_log import Salvage, last_payload_before
from services.common.log_marks import add_duplicate_marks, read_duplicate_marks
from services.common.log_removed import check_not_removed
from services.feature.applying.batch_states import BatchLedgers, BatchStates
from services.feature.applying.histories import Histories
from services.feature.convert.records import DecodedRecord, RecordDecoder
from services.feature.definitions import (
    DAY_MS,
    ROOM_HEARTBEAT,
    USER_ENTITY,
    Key,
    catalogue_entities,
    remembered_days,
)
from services.feature.states.applied_event import AppliedEvent
from services.feature.states.attribute_notes import AttributeNotes
from services.feature.states.codec import decode_state, encode_state
from services.feature.states.entity_plan import compile_plans
from services.feature.states.key_state import KeyState
from services.feature.states.keys import KeyRules
from services.feature.states.refunds import CountChange
from services.feature.states.schema import schema_of
from services.feature.states.sticky import stick
from services.feature.store.protocol import (
    Claim,
    FeatureStore,
    StoreConflict,
    StoreTransaction,
)

CACHED_STATES = 20_000
"""Decoded states that are kept between batches; when there are more, those of the last batch."""

KEPT_CHANGES = 100_000
"""Changes that a store keeps for watchers; one that is farther behind looks at everything."""

FORGOTTEN_PER_BATCH = 5_000
"""Event ids past their time that a batch removes at most."""

ATTEMPTS = 100
"""How often a batch is folded before other writers count as always faster."""

_logger = logging.getLogger(__name__)


class Applier:
    """Folds the records of one log into the store.

    In a store of its own it keeps decoded states between batches, so it must be the only writer;
    another one's commit is noticed and refused.
    """

    def __init__(
        self,
        domain: Domain,
        store: FeatureStore,
        clock_ms: Callable[[], int],
        translate: Callable[[str], str] | None = None,
    ) -> None:
        """``translate``: a pseudonym of the log as the store has it."""
        self._store = store
        self._clock_ms = clock_ms
        self._schema = schema_of(domain)
        self._plans = compile_plans(domain)
        self._decoder = RecordDecoder(domain, translate)
        self._keys = KeyRules(domain)
        self._histories = Histories(self._plans, self._keys, store.log_id)
        self._catalogue = catalogue_entities(domain)
        self._cache: dict[Key, KeyState] = {}
        # Of the states of this batch: where they hold some of its records already.
        self._held: dict[Key, int] = {}
        self._log_dir: Path | None = None
        self._marked: set[int] = set()
        self.skipped: Counter[str] = Counter()

    @property
    def is_shared(self) -> bool:
        """Whether other logs fill the store too."""
        return self._store.shared

    @property
    def batch_records(self) -> int:
        """How many records ``apply`` takes best."""
        return self._store.batch_records

    def prepare(self, log_dir: Path, salvage: Salvage | None = None) -> int:
        """Position to go on from. A store of its own is emptied when it was written for other
        definitions, or from another log than the one in ``log_dir``.

        Raises ``FailedPrecondition``: LOG_DIVERGED where a shared store holds another history of
        this log, records that it took being gone; LOG_CUT where it has to go on from what was
        archived and removed from the log.
        """
        self._log_dir = log_dir
        with self._store.write() as transaction:
            position = self._prepare(transaction, log_dir, salvage)
        if self._store.shared:
            self._marked = read_duplicate_marks(log_dir, position)
        return position

    def _prepare(
        self, transaction: StoreTransaction, log_dir: Path, salvage: Salvage | None
    ) -> int:
        position = transaction.position()
        if transaction.schema() == self._schema:
            end, digest = transaction.last_record()
            if digest_before(log_dir, end, salvage) == digest:
                check_not_removed(log_dir, position)
                return position
            if self._store.shared:
                raise FailedPrecondition(
                    f"the store holds log {self._store.log_id} up to record {end}, but in "
                    f"{log_dir} another one is before that: restore the log, or empty the "
                    "store to have it filled again from the logs that are left",
                    reason="LOG_DIVERGED",
                )
            reason = "it was not made from this log"
            _logger.error(
                "the store is emptied: it holds %d records of a log that %s is not, or no longer: "
                "who has an archive of that log can restore it",
                position,
                log_dir,
            )
        else:
            reason = "the definitions changed" if position else "the store is new"
        check_not_removed(log_dir)
        _logger.info("filling the store from the start of the log: %s", reason)
        transaction.clear(self._schema)
        return transaction.position()

    def apply(
        self,
        records: Sequence[tuple[int, bytes]],
        start: int | None = None,
        end: int | None = None,
    ) -> None:
        """Applies what there is of the log from ``start`` to ``end``; the store is then at ``end``.

        Where they are left out the records say it; they lack what the log lost. Raises
        ``FailedPrecondition`` (STORE_MOVED) when the store is not at ``start``, ``Unavailable``
        when it can't be written or the key of a pseudonym is missing: ``prepare`` then says where
        to go on.
        """
        start = records[0][0] if start is None else start
        end = records[-1][0] + 1 if end is None else end
        for _ in range(ATTEMPTS):
            try:
                return self._apply(records, start, end)
            except StoreConflict as conflict:
                _logger.debug("applying again: %s", conflict)
        raise Unavailable("other writers were always faster", reason="STORE_BUSY")

    def tend(self) -> None:
        """The store's upkeep, to be called now and then."""
        self._store.tend()

    def _apply(self, records: Sequence[tuple[int, bytes]], start: int, end: int) -> None:
        skipped: Counter[str] = Counter()
        if self._store.shared:
            self._cache.clear()
            self._held.clear()
        try:
            with self._store.write() as transaction:
                if transaction.position() != start:
                    raise FailedPrecondition(
                        "another process writes the store", reason="STORE_MOVED"
                    )
                touched = self._fold(transaction, records, end, skipped)
                last = record_digest(records[-1][1]) if records else transaction.last_record()[1]
                transaction.put_position(end, last)
        except BaseException:
            self._cache.clear()
            raise
        self.skipped += skipped
        if len(self._cache) > CACHED_STATES:
            self._cache = touched if len(touched) <= CACHED_STATES else {}

    def _fold(
        self,
        transaction: StoreTransaction,
        records: Sequence[tuple[int, bytes]],
        end: int,
        skipped: Counter[str],
    ) -> dict[Key, KeyState]:
        touched: dict[Key, KeyState] = {}
        described: set[Key] = set()
        sequences: dict[str, int] = {}
        days = remembered_days(self._clock_ms())
        latest_ms = 0
        decoded: list[DecodedRecord] = []
        for arrival, payload in records:
            record = self._decoder.decode(arrival, payload)
            if record is None:
                skipped["undecodable"] += 1
                continue
            if arrival in self._marked:
                record.skipped, record.applied = "duplicate", None
            latest_ms = max(latest_ms, record.clock_ms)
            if record.sequence is not None:
                sequences[record.producer] = record.sequence + 1
            decoded.append(record)
        self._claim(transaction, decoded, days)
        events = [record.applied for record in decoded if record.applied is not None]
        if self._store.shared:
            self._prefetch(transaction, events)
        notes = AttributeNotes(transaction.notes())
        ledgers = BatchLedgers(transaction)
        for event in events:
            self._fold_event(transaction, event, touched, described, notes, ledgers)
        ledgers.write()
        transaction.put_notes(notes.encode(end))
        skipped.update(record.skipped for record in decoded if record.skipped)
        self._cache.update(touched)
        for entity, identity in sorted(touched):
            if touched[entity, identity].is_empty:
                transaction.delete_state(entity, identity)
                continue
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
        notes: AttributeNotes,
        ledgers: BatchLedgers,
    ) -> None:
        if event.takes_over or event.erases:
            ledgers.write()
            load = partial(self._load, transaction)
            states = BatchStates(transaction, touched, load, self._held)
            self._histories.change(event, states, notes)
            return

        if event.sticky is not None:
            self._stick(transaction, event, touched)
            return

        def state_of(key: Key) -> KeyState:
            state = touched.get(key)
            if state is None:
                state = touched[key] = self._load(transaction, key)
            return state

        def read_attribute(key: Key, attribute: str) -> str | None:
            state = state_of(key)
            if not self._store.shared:
                return self._attribute(state, key, attribute, event)
            look = partial(self._attribute, state, key, attribute, event)
            return notes.read(*key, attribute, event.arrival, look)

        derived = self._keys.derived(event, read_attribute) if self._keys.derives else []
        keys = self._keys.touched(event, derived)
        count_changes = self._take_refund(ledgers, event, keys) if event.refund else None
        for key in keys:
            state = state_of(key)
            if self._held and self._held.get(key, 0) > event.arrival:
                continue
            changes = count_changes.get(key, ()) if count_changes else ()
            self._plans[key[0]].fold(state, event, changes, derived)
        subject = event.subject
        tells = event.upserted is not None or event.withdrawn is not None
        if tells and subject is not None and subject[0] in self._plans:
            state = state_of(subject)
            if self._held.get(subject, 0) <= event.arrival:
                self._plans[subject[0]].describe(state, event)
            if event.type != ROOM_HEARTBEAT:
                described.add(subject)

    def _stick(
        self, transaction: StoreTransaction, event: AppliedEvent, touched: dict[Key, KeyState]
    ) -> None:
        key = (USER_ENTITY, event.actor)
        if not event.actor or USER_ENTITY not in self._plans:
            return
        state = touched.get(key)
        if state is None:
            state = touched[key] = self._load(transaction, key)
        if self._held.get(key, 0) <= event.arrival:
            stick(state, event)

    def _attribute(
        self, state: KeyState, key: Key, attribute: str, event: AppliedEvent
    ) -> str | None:
        found = self._plans[key[0]].as_of(state, event.clock_ms).attributes.get(attribute)
        return found[2] if found is not None and isinstance(found[2], str) else None

    def _prefetch(self, transaction: StoreTransaction, events: Sequence[AppliedEvent]) -> None:
        named: dict[Key, None] = {}
        purchases: set[str] = set()
        for event in events:
            named.update(dict.fromkeys(self._keys.touched(event, ())))
            if event.subject is not None:
                named[event.subject] = None
            if event.refund is not None:
                purchases.add(event.refund.purchase_event_id)
        transaction.prefetch(named, purchases)
        led_to: dict[Key, None] = {}
        for event in events:

            def read(key: Key, attribute: str, event: AppliedEvent = event) -> str | None:
                return self._attribute(self._load(transaction, key), key, attribute, event)

            derived = self._keys.derived(event, read)
            if derived:
                led_to.update(dict.fromkeys(self._keys.touched(event, derived)))
        transaction.prefetch([key for key in led_to if key not in named], ())

    def _load(self, transaction: StoreTransaction, key: Key) -> KeyState:
        state = self._cache.get(key)
        if state is None:
            plan = self._plans[key[0]]
            data = transaction.state(*key)
            state = decode_state(data) if data is not None else plan.new_state()
            self._cache[key] = state
            if self._store.shared:
                self._held[key] = transaction.folded_through(*key)
        return state

    def _take_refund(
        self, ledgers: BatchLedgers, event: AppliedEvent, keys: Sequence[Key]
    ) -> Mapping[Key, Sequence[CountChange]]:
        """Enters a refund into its purchase's ledger; what it changes of the counts of ``keys``."""
        facts = event.refund
        if facts is None:
            return {}
        source = f"{self._store.log_id}:{event.arrival}"
        return ledgers.get(facts.purchase_event_id).take(source, event.time_ms, facts, keys)

    def _claim(
        self, transaction: StoreTransaction, records: Sequence[DecodedRecord], days: range
    ) -> None:
        """Claims the event ids; records whose id is another's become duplicates."""
        claiming: list[DecodedRecord] = []
        claims: list[Claim] = []
        for record in records:
            day = record.clock_ms // DAY_MS
            if day < days[-1] or record.skipped == "duplicate" or not record.event_id:
                continue
            claims.append(Claim(record.event_id, day, record.fingerprint(), record.arrival))
            claiming.append(record)
        duplicates = []
        for record, ours in zip(claiming, transaction.claim(claims), strict=True):
            if not ours:
                record.skipped, record.applied = "duplicate", None
                duplicates.append(record.arrival)
        if duplicates and self._log_dir is not None:
            add_duplicate_marks(self._log_dir, duplicates)
            self._marked.update(duplicates)


def digest_before(log_dir: Path, position: int, salvage: Salvage | None) -> bytes:
    """What a store at a position knows the log by: the record before; empty without one."""
    payload = last_payload_before(log_dir, position, salvage) if position else None
    return record_digest(payload) if payload is not None else b""
