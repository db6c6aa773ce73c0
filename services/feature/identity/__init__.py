"""Whose a history is: devices that become users, and actors that are forgotten."""
