#!/bin/sh
# The first step on a bare machine: find a Python that can run tools/machine, and hand over to it.
# It may be older than what the product needs; nothing but its standard library is used.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 2

if [ "$(uname -s)" != Linux ]; then
    echo "stackyard: this runs on Linux only; on another system use a Linux virtual machine or container." >&2
    exit 2
fi

# `cluster` is another program of the same kind.
program=machine
if [ "${1-}" = cluster ]; then
    program=cluster
    shift
fi

able='import sys; raise SystemExit(sys.version_info < (3, 9))'
for python in python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -I -c "$able" 2>/dev/null; then
        exec "$python" -I -B "$here/$program" "$@"
    fi
done
if command -v uv >/dev/null 2>&1; then
    exec uv run --no-project --python '>=3.11,<3.14' python -I -B "$here/$program" "$@"
fi
echo "stackyard: no Python 3.9 or newer and no uv on PATH: install either and run this again." >&2
exit 2
