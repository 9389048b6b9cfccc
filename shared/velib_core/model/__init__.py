"""Features and profiles in; models, forecasts and their evaluation out."""
