"""The manifest stage: from a GBIF query, an archive or a folder to which photographs there are, and of what."""
