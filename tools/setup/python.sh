#!/bin/sh
# Run a script with the first Python from 3.11 to 3.14 that really runs and can make a virtual
# environment. Usage: sh tools/setup/python.sh SCRIPT [ARGUMENT...]; status 2 and one line if none.
# FIRESIDE_PYTHON names one to take instead of searching.

# A name on the PATH proves nothing: it may be a shim that fails, a build without ensurepip
# (Debian without python3-venv), or an Intel build on an Apple Silicon Mac.
usable='
import platform, struct, sys, sysconfig
assert (3, 11) <= sys.version_info[:2] <= (3, 14)
assert sys.implementation.name == "cpython" and struct.calcsize("P") == 8
assert not sysconfig.get_config_var("Py_GIL_DISABLED")
assert sys.platform != "darwin" or platform.machine() == "arm64"
import ctypes, ensurepip, fcntl, ssl, venv
'
is_usable() {
    "$1" -I -c "$usable" >/dev/null 2>&1
}

find_python() {
    if [ -n "$FIRESIDE_PYTHON" ]; then
        is_usable "$FIRESIDE_PYTHON" && echo "$FIRESIDE_PYTHON" && return 0
        return 1
    fi
    places=$PATH:/opt/homebrew/bin:/usr/local/bin:/usr/bin
    for name in python3.13 python3.12 python3.14 python3.11 python3; do
        rest=$places:
        while [ -n "$rest" ]; do
            candidate=${rest%%:*}/$name
            rest=${rest#*:}
            if [ -x "$candidate" ] && is_usable "$candidate"; then
                echo "$candidate"
                return 0
            fi
        done
    done
    return 1
}

if [ "$(uname -s)" = Darwin ] && [ "$(sysctl -n hw.optional.arm64 2>/dev/null)" != 1 ]; then
    echo "Fireside needs a Mac with Apple Silicon (M1 or newer): MLX does not run on Intel." >&2
    exit 2
fi
if ! python=$(find_python); then
    if [ -n "$FIRESIDE_PYTHON" ]; then
        hint="FIRESIDE_PYTHON=$FIRESIDE_PYTHON is not one."
    elif [ "$(uname -s)" = Darwin ]; then
        hint="Get one with: brew install python@3.13, or from python.org."
    else
        hint="On Debian or Ubuntu: sudo apt install python3 python3-venv"
    fi
    echo "Fireside needs a working Python 3.11, 3.12, 3.13 or 3.14 with venv. $hint" >&2
    exit 2
fi
exec "$python" -I "$@"
