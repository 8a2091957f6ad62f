# Sourced by the scripts: installs what is missing. Idempotent; on a machine
# that has everything it does nothing and needs no network.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=target/venv
REQUIREMENTS=tests/support/requirements.txt

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# apt_install PACKAGE...
apt_install() {
    [ "$(id -u)" = 0 ] || fail "not root, and missing: $*. Run: apt-get install $*"
    say "installing $*"
    [ -n "${APT_UPDATED:-}" ] || apt-get update -q
    APT_UPDATED=1
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "$@"
}

# need COMMAND PACKAGE
need() { command -v "$1" >/dev/null || apt_install "$2"; }

install_system() {
    need cc build-essential
    need fusermount3 fuse3
    need python3 python3
    need setpriv util-linux
    [ -d /etc/ssl/certs ] || apt_install ca-certificates
    command -v cargo >/dev/null || fail "Rust is missing: install it with rustup, see https://rustup.rs"
    [ -e /dev/fuse ] || modprobe fuse 2>/dev/null || true
    [ -e /dev/fuse ] || fail "/dev/fuse is missing: 'modprobe fuse'; in a container, '--device /dev/fuse'"
}

# The S3 servers and a second S3 client, in a virtual environment of their own.
install_servers() {
    if cmp -s "$REQUIREMENTS" "$VENV/installed.txt"; then
        return
    fi
    say "installing the S3 servers for tests and demo into $VENV"
    rm -rf "$VENV"
    mkdir -p target
    if ! python3 -m venv "$VENV" 2>/dev/null; then
        apt_install python3-venv
        python3 -m venv "$VENV"
    fi
    "$VENV/bin/pip" install --quiet --requirement "$REQUIREMENTS"
    cp "$REQUIREMENTS" "$VENV/installed.txt"
}
