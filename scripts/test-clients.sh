#!/usr/bin/env bash
# Runs docker-py's own integration tests against rnd: in a network namespace, with a daemon of its own, without any network but
# loopback. Tests that are known not to pass stand in cluster-tests/clients/docker-py.txt, each with its reason; any other that
# fails, and any of these that passes, fails the run.
#
#   scripts/test-clients.sh BIN_DIR [PYTEST_ARGUMENT...]
set -euo pipefail
bin=$(realpath "$1"); shift
root=$(realpath "$(dirname "$0")/..")
version=6.1.3
cache=$(dirname "$bin")/clients
mkdir -p "$cache"

if [ ! -e "$cache/docker-$version/setup.py" ]; then
    (cd "$cache" && python3 -m pip download -q --no-deps --no-binary :all: "docker==$version")
    tar -C "$cache" -xf "$cache/docker-$version.tar.gz"
fi
if [ ! -x "$cache/venv/bin/pytest" ]; then
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install -q "docker==$version" pytest==7.2.2 pytest-timeout==2.1.0 paramiko 'requests<2.32'
fi

# A busybox image, which stands in for those that the tests would pull.
image=$cache/busybox.tar
if [ ! -e "$image" ]; then
    rootfs=$(mktemp -d)
    mkdir -p "$rootfs"/{bin,etc,tmp,var,root,home,dev,proc,sys,run}
    cp /bin/busybox "$rootfs/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$rootfs/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\ndefault:x:1000:1000::/home:/bin/sh\n' >"$rootfs/etc/passwd"
    printf 'root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n' >"$rootfs/etc/group"
    chmod 1777 "$rootfs/tmp"
    tar -C "$rootfs" -cf "$image" .
    rm -rf "$rootfs"
fi

export bin cache image
results=$cache/results.txt
export results
[ $# -gt 0 ] || set -- tests/integration
unshare --net --mount --propagation private bash -s -- "$@" <<'INSIDE'
set -euo pipefail
work=$(mktemp -d)
mkdir -p "$work"/{data,exec,home}
ip link set lo up
ip link add eth0 type veth peer name peer0
ip addr add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip link set peer0 up
"$bin/rnd" --data-root "$work/data" --exec-root "$work/exec" -H "unix://$work/rn.sock" >"$cache/rnd.log" 2>&1 &
daemon=$!
cleanup() {
    ids=$(docker ps -aq 2>/dev/null || true)
    [ -z "$ids" ] || docker rm -f $ids >/dev/null 2>&1 || true
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" || true
    umount -R "$work" 2>/dev/null || true
    findmnt -rno TARGET | grep "^$work/" | sort -r | xargs -r umount -l || true
    rm -rf "$work"
}
trap cleanup EXIT
export DOCKER_HOST=unix://$work/rn.sock HOME=$work/home DOCKER_TEST_API_VERSION=1.45
until docker version >/dev/null 2>&1; do kill -0 "$daemon"; done
docker import -c 'CMD ["sh"]' "$image" busybox:latest >/dev/null
for name in busybox:1 alpine:3.10 alpine:latest hello-world:latest; do docker tag busybox:latest "$name"; done
cd "$cache"/docker-*/
"$cache/venv/bin/python" -m pytest -p no:cacheprovider --timeout=60 -q -rA "$@" >"$results" 2>&1 || true
INSIDE

tail -1 "$results"
python3 - "$results" "$root/cluster-tests/clients/docker-py.txt" <<'COMPARE'
import re, sys
outcome = {}
for line in open(sys.argv[1], errors="replace"):
    found = re.match(r"(PASSED|FAILED|ERROR) tests/integration/(\S+)", line)
    if found and outcome.get(found[2]) not in ("FAILED", "ERROR"):
        outcome[found[2]] = found[1]
listed = [line.split(maxsplit=1) for line in open(sys.argv[2]) if line.strip() and not line.startswith("#")]
known = {name for name, _ in listed}
sometimes = {name for name, why in listed if why.startswith("sometimes: ")}
failed = {name for name, how in outcome.items() if how != "PASSED"}
new, mended = sorted(failed - known), sorted(name for name in known - sometimes if outcome.get(name) == "PASSED")
for name in new:
    print("fails, and is not known to:", name)
for name in mended:
    print("passes, and stands among those that fail:", name)
print(f"{sum(how == 'PASSED' for how in outcome.values())} pass, {len(failed)} fail, {len(failed & known)} of these for a known reason")
sys.exit(bool(new or mended))
COMPARE
