"""The feature service: events go in and are logged, the log is applied to states, features of them
are served.

    ingest       events into the log, answered when they are on disk
    applying     the log into the store, in a process of its own
    states       what is kept of events, and how an event changes it
    identity     whose a history is: devices that become users, actors that are forgotten
    rows         features of a view, computed from states
    views        the views that are served, and the stores that are filled for them
    watch        what watchers of the catalogue are sent
    store        where states lie: LMDB, or Redis
    convert      messages and logged records, from and to what the others work with
    definitions  what features mean; shared with ``offline``
"""
