"""What people look at: runs and versions, projected from the store, which holds the truth."""
