"""The archive of the event log: whole records as Parquet, in a folder or in S3.

``compact`` brings it up to the log, ``restore`` and ``remove`` move segments between the two,
``rewrite`` changes what is archived; ``read`` gives records back, and ``source`` the events of a
log or an archive alike, for ``summary`` and ``export``.
"""
