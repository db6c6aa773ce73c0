"""What is kept of the events of an entity, user or pair, and how an event changes it."""
