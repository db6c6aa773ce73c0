"""A report as JSON, as a table on a terminal, and as one HTML file: functions of a Report alone."""
