#!/bin/sh
# pins.sh: rewrite constraints.txt with what an empty environment gets today; torch stays where it is put here.
set -eu
torch=torch==2.13.0
rm -rf build/pins
mkdir -p build
"$PYTHON" -m venv build/pins
build/pins/bin/python -m pip install -q "$torch"
echo "$torch" > build/pins/torch.txt
build/pins/bin/python -m pip install -q -c build/pins/torch.txt ".[dev,zoo]"
{
    sed -n '/^#/p' constraints.txt
    # a local label (+cpu) names a build, not a version; caveat itself is not pinned
    build/pins/bin/python -m pip freeze | sed -e 's/+[a-z0-9.]*$//' -e '/^caveat/d'
} > build/constraints.txt
mv build/constraints.txt constraints.txt
rm -rf build/pins
