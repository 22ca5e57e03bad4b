"""From a GBIF query, an archive or a folder of photographs to the manifest: what to download, and what it shows."""
