"""What watchers of the definitions are sent."""
