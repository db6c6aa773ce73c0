"""Where states live. ``protocol`` says what a store can do; one module a kind of store."""
