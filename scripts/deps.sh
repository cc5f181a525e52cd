#!/usr/bin/env bash
# Installs what building, testing and running rn needs and this machine lacks. Debian 12 or newer.
set -euo pipefail

packages=(
    # to build: C and C++ for RocksDB and ring (once for all profiles: ccache), libclang for its bindings, seccomp for the
    # container runtime
    build-essential ccache clang libclang-dev libseccomp-dev pkg-config curl ca-certificates git
    # to run: rules are laid down by nft; ip is for people and tests
    nftables iproute2 procps util-linux
    # for --init: tini-static
    tini
    # to test and to measure
    busybox-static socat iperf3 wrk bind9-dnsutils dnsmasq-base unbound iputils-ping conntrack
    docker-registry apache2-utils libfaketime zsh fish tar libarchive-tools python3 docker-compose prometheus
)

# Docker's client: Debian 13 has it alone, 12 with the daemon, which nothing here starts.
if ! command -v docker >/dev/null; then
    if apt-cache policy docker-cli 2>/dev/null | grep -q 'Candidate: [0-9]'; then
        packages+=(docker-cli)
    else
        packages+=(docker.io)
    fi
fi

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing: ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        echo "not root: run 'sudo make deps' first" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # A package of a service must not start that service here.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null; then
    echo "installing Rust by rustup"
    # Debian 13 has it; older ones know the name only.
    if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
        apt-get install -y -qq --no-install-recommends rustup >/dev/null
        rustup default stable
    else
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
    fi
fi
need=1.95
have=$(cargo --version | cut -d' ' -f2)
if [ "$(printf '%s\n%s\n' "$need" "$have" | sort -V | head -1)" != "$need" ]; then
    echo "Rust $need or newer is needed, this is $have: rustup update stable" >&2
    exit 1
fi
