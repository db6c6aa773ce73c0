"""Which bundles a ranker holds, which of them answers whom, and what becomes of one that fails.

``watcher`` follows the store's pointer; ``loading`` brings bundles in, ``replicas`` the catalogues
they read. ``routing`` says who is answered by which, ``mixed`` ranks micro-batches of several.
``faults`` judges a bundle by its answers, ``quarantine`` keeps what was set aside, ``shadow``
compares.
"""
