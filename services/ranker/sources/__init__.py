"""Sources: where candidates come from.

``base`` says what a source is; ``registry`` finds one by its kind; ``asking`` asks those of a
surface for a micro-batch and leaves out what fails or is slow; ``merge`` joins what they yield.
"""
