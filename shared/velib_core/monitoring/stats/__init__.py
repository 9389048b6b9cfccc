"""Arrays with gaps in; sums, run lengths and histograms out."""
