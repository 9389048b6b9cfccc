"""Names and contents of inputs in; the fingerprint that an artefact must carry out."""
