# shellcheck shell=bash
# What the stacks share, to be sourced: Debian packages through `apt-get download` (no root), unpacked once and kept in
# ${NESTOR_CACHE:-${XDG_CACHE_HOME:-~/.cache}/nestor}.
#
# $stack_name, set before, begins every message. Exit status 64 is a usage error; 69 means that this host cannot have the
# packages or build the images, whatever Nestor can.
cache=${NESTOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nestor}

say() {
    echo "${stack_name:?}: $*" >&2
}

die() {
    say "$*"
    exit 64
}

unavailable() {
    say "$*"
    exit 69
}

# The tools that are needed, and a cache that can be written.
packages_begin() {
    local tool
    for tool in apt-get apt-cache dpkg-deb dpkg cc strip sha256sum; do
        command -v $tool >/dev/null || unavailable "'$tool' is not installed; needed are apt, dpkg, a C compiler and binutils (on Debian: apt-get install gcc libc6-dev binutils)"
    done
    mkdir -p "$cache/packages" 2>/dev/null && [ -w "$cache/packages" ] || unavailable "cannot write to $cache; NESTOR_CACHE chooses another place"
    [ "$(dpkg --print-architecture)" = amd64 ] || say "this host is not amd64: the packages have to come from an amd64 source"
}

# The package's directory of unpacked files; fetched if it is not in the cache. $1: the package's name
package_unpack() {
    local name=$1 place=$cache/packages/$1 file
    if [ ! -e "$place/.complete" ]; then
        say "fetching $name"
        rm -rf "$place"
        mkdir -p "$place"
        (cd "$place" && apt-get download -q=2 -o APT::Sandbox::User="$(id -un)" "$name" >&2) ||
            unavailable "apt-get download $name failed; if its package lists are missing or old, run: sudo apt-get update"
        file=$(echo "$place"/*.deb)
        dpkg -x "$file" "$place/root"
        rm "$file"
        touch "$place/.complete"
    fi
    echo "$place/root"
}

# The kernel package that the package $1 (linux-image-amd64 or one of its kind) stands for at the moment.
kernel_package_resolve() {
    local known=$cache/packages/$1.resolved name
    if [ ! -s "$known" ]; then
        name=$(apt-cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: \(linux-image-[0-9].*${1#linux-image}\)\$/\1/p" | head -n 1)
        [ -n "$name" ] || unavailable "apt knows no $1 (Debian 12 on amd64 is expected); if its package lists are missing, run: sudo apt-get update"
        echo "$name" >"$known"
    fi
    cat "$known"
}
