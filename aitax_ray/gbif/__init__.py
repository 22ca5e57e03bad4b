"""GBIF asked over HTTP: downloads, names, occurrences, vernacular names."""
