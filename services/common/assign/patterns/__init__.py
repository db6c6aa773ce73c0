"""Regular expressions of conditions, matched within a bound on steps whatever the text."""
