"""The object store: the bus between everything that runs, and the one home of bundles, snapshots and Releases."""
