"""A gRPC server that is one thread: calls are coroutines between the steps of the work."""
