"""The calls around ``Rank``: what they ask of the pipeline, and how repetitions are answered."""
