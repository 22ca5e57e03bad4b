"""`aitax doctor`: looks at the machines, the cluster, the storage and the artifacts, and says what to do."""
