// Small programs of our own, without a dependency.
module stackyard.invalid/cluster/own

go 1.26.0
