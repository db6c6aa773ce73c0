"""From a plan and a table of units to a report: health, effects, verdicts, the decision."""
