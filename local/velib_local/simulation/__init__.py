"""A simulated or recorded city in; the documents of its feed and of the weather out."""
