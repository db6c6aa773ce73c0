"""What a new policy would have earned, from what another policy logged.

``slates`` holds the log as plain arrays, ``weights`` what a reward model makes of propensities,
``estimators`` the formulas, ``support`` when they are refused, ``estimate`` all of it together.
"""
