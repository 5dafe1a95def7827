#!/usr/bin/env bash
# install.sh FOLDER: installs the other libraries into FOLDER and changes nothing else on the machine.
#   FOLDER/venv    PyTorch for CPUs, in the version of requirements.txt
#   FOLDER/debian  OpenBLAS and BLIS, unpacked, in the versions of debian.txt
# Libraries that are installed in these versions stay.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)

if ! cmp -s "$here/requirements.txt" "$folder/venv/installed.txt"; then
  echo "Installing PyTorch into $folder/venv"
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$folder/venv/installed.txt"
fi

if ! cmp -s "$here/debian.txt" "$folder/debian/installed.txt"; then
  echo "Unpacking OpenBLAS and BLIS into $folder/debian"
  rm -rf "$folder/debian" && mkdir -p "$folder/debian/packages"
  mapfile -t packages < <(grep -v '^#' "$here/debian.txt")
  cd "$folder/debian/packages"
  if ! apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}"; then
    echo "error: apt cannot download ${packages[*]}; 'apt-get update' refreshes its lists" >&2
    exit 1
  fi
  for package in *.deb; do dpkg -x "$package" "$folder/debian"; done
  rm -rf "$folder/debian/packages"
  cp "$here/debian.txt" "$folder/debian/installed.txt"
fi
