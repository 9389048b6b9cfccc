"""One pure module a family of metrics: frames in, contract dictionaries out."""
