#!/usr/bin/env bash
# Unpacks Debian packages without installing them: programs that tests and benchmarks run beside ours must not be started as the
# machine's services.
#
#   scripts/unpack.sh DIR PACKAGE...
set -euo pipefail
dir=$1; shift
mkdir -p "$dir"
for package in "$@"; do
  [ -e "$dir/.$package" ] && continue
  archives=$(mktemp -d)
  (cd "$archives" && apt-get -qq -o APT::Sandbox::User=root download "$package" >/dev/null)
  dpkg -x "$archives"/*.deb "$dir"
  rm -rf "$archives"
  touch "$dir/.$package"
done
