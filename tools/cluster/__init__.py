"""A Kubernetes cluster for those who have none: `make cluster`, and `make cluster-down` ends it without a trace.

Two profiles, which may run at once. `node`: one real node on this machine, with kubelet, containers and images, in
namespaces of its own; needs root. `kwok`: a real control plane with nodes that are only said to be there; needs none.
Standard library only, and Python 3.9, as tools/machine, whose helpers it uses. It imports nothing of the product.
"""
