"""Statistics of experiments: pure functions of arrays, frozen results, formulas with a source."""
