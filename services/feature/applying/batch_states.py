"""The states and ledgers that a batch of records changes, while it is folded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from services.feature.definitions import USER_ENTITY, Key, pair_id
from services.feature.states.key_state import KeyState
from services.feature.states.refunds import RefundLedger
from services.feature.store.protocol import StoreTransaction


class BatchStates:
    """``touched``: states that are changed already. ``load`` reads others, and enters into ``held``
    where the log is in each."""

    def __init__(
        self,
        transaction: StoreTransaction,
        touched: dict[Key, KeyState],
        load: Callable[[Key], KeyState],
        held: Mapping[Key, int],
    ) -> None:
        self._transaction = transaction
        self._touched = touched
        self._load = load
        self._held = held

    def get(self, key: Key) -> KeyState:
        """The state, to be changed."""
        state = self._touched.get(key)
        if state is None:
            state = self._touched[key] = self._load(key)
        return state

    def replace(self, key: Key, state: KeyState) -> None:
        """Sets another one in its place."""
        self._touched[key] = state

    def is_held(self, key: Key, arrival: int) -> bool:
        """Whether the stored state holds the record at ``arrival`` already."""
        self.get(key)
        return self._held.get(key, 0) > arrival

    def pairs_of(self, entity: str, first: str) -> list[str]:
        """Ids of a pair's type with this first member, stored or touched."""
        ids = set(self._transaction.pairs_of(entity, first))
        beginning = pair_id(first, "")
        ids |= {i for e, i in self._touched if e == entity and i.startswith(beginning)}
        return sorted(ids)

    def that_name(self, entity: str, text: str) -> list[str]:
        """Ids of a catalogue type whose state may hold ``text``: those touched, and of the stored
        ones those that do."""
        wanted = text.encode()
        ids = {i for i, data in self._transaction.states(entity) if wanted in data}
        ids |= {i for e, i in self._touched if e == entity}
        return sorted(ids)

    def forget_refunds(self, actor: str, pairs: Collection[str], log_id: str, arrival: int) -> None:
        """Takes an actor out of the ledgers of refunds that came before ``arrival`` in this log."""
        beginning = pair_id(actor, "")

        def names(key: Key) -> bool:
            entity, identity = key
            if entity == USER_ENTITY:
                return identity == actor
            return entity in pairs and identity.startswith(beginning)

        for purchase, stored in self._transaction.ledgers_with(actor.encode()):
            ledger = RefundLedger.decode(stored)
            if ledger.forget(names, log_id, arrival):
                self._transaction.put_ledger(purchase, ledger.encode())


class BatchLedgers:
    """Ledgers of refunds. Each is read and written once a batch, however many refunds it takes."""

    def __init__(self, transaction: StoreTransaction) -> None:
        self._transaction = transaction
        self._ledgers: dict[str, tuple[RefundLedger, bytes | None]] = {}

    def get(self, purchase_event_id: str) -> RefundLedger:
        """The ledger of a purchase, to be changed."""
        held = self._ledgers.get(purchase_event_id)
        if held is None:
            stored = self._transaction.ledger(purchase_event_id)
            ledger = RefundLedger.decode(stored) if stored is not None else RefundLedger()
            held = self._ledgers[purchase_event_id] = (ledger, stored)
        return held[0]

    def write(self) -> None:
        """Hands those that changed to the transaction, and forgets all."""
        for purchase_event_id, (ledger, stored) in self._ledgers.items():
            entered = ledger.encode()
            if entered != stored:
                self._transaction.put_ledger(purchase_event_id, entered)
        self._ledgers.clear()
