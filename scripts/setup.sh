#!/bin/sh
# setup.sh VENV EXTRAS: an environment in VENV with caveat, editable, its EXTRAS, and the pinned versions.
set -eu
venv=$1
extras=$2
constraints=${CONSTRAINTS:-constraints.txt}

if [ -z "${PYTHON:-}" ]; then
    echo "caveat needs Python 3.11 or later, and none was found on the PATH." >&2
    echo "Install one, or name it: make PYTHON=/path/to/python3.12 test" >&2
    exit 1
fi

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "Making $venv with $("$PYTHON" --version)"
    rm -rf "$venv"
    if ! "$PYTHON" -m venv "$venv" >/dev/null 2>&1; then
        # Debian's python3 without python3-venv has no ensurepip: let the pip that is there put one inside.
        rm -rf "$venv"
        "$PYTHON" -m venv --without-pip "$venv" && "$PYTHON" -m pip --python "$venv/bin/python" install -q pip || {
            echo "No environment could be made: $PYTHON needs its venv module, and ensurepip or pip." >&2
            echo "On Debian and Ubuntu: apt-get install python3-venv" >&2
            exit 1
        }
    fi
fi

echo "Installing caveat[$extras] into $venv (the first time takes some minutes)"
export PIP_DISABLE_PIP_VERSION_CHECK=1
"$venv/bin/python" -m pip install -q -c "$constraints" hatchling editables
"$venv/bin/python" -m pip install -q -c "$constraints" --no-build-isolation --editable ".[$extras]"
