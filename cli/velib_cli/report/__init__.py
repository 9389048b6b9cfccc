"""Published documents in; one self-contained HTML page out."""
