"""Training data from the event log: features as they were known at points in time, and labels.

``columns`` compacts the log, ``point_in_time`` computes features on it and ``attribution`` labels,
``examples`` puts both together and ``build`` writes them; ``tables`` says what is written.
``recompute`` and ``held`` do the same for a few entities in plain Python: ``leak_check`` holds the
tables against it. ``skew`` compares them with what was ``served``.
"""
