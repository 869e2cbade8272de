#!/bin/sh
# Builds the digits model as a library, trains it from C, and compares every printed digit with in-process training.
# Usage: sh run.sh [FOLDER]     needs `tapeless` and `python` on the path, and a C compiler
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$(mktemp -d)}
mkdir -p "$out"
tapeless build "$here/../digits/digits.tl" --out "$out"
python "$here/pack.py" "$out/digits.bin"
cc -std=c11 -O2 -Wall -I "$out" -o "$out/train" "$here/train.c" "$out/digits.o"
"$out/train" "$out/digits.bin" 10 0 | tee "$out/from_c.txt"
python "$here/in_process.py" 10 0 >"$out/in_process.txt"
cmp "$out/from_c.txt" "$out/in_process.txt"
echo "identical, digit for digit, to training in process"
