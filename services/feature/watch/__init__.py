"""What watchers of the catalogue are sent."""
