# shellcheck shell=bash
# What the commands of the stacks share, to be sourced: their options, and the run of Nestor.
#
# Set before: $here (labs/stack), $root (the repository), $stack_name, and a function usage() that prints the help.
. "$here/packages.sh"

memory="" extra_append="" loglevel=4 stats=--stats build_only="" pass=()

# options_read OPTION... -- WORDS: reads the words of the command line. OPTION is "--name=variable", which takes a value, or
# "--name:variable=value", which takes none. All stacks have --memory, --append, --verbose, --no-stats, --build-only and
# --help. What is not known goes to $pass, for nestor run.
options_read() {
    local option
    local -A valued=([--memory]=memory [--append]=extra_append)
    local -A flag=([--verbose]=loglevel=7 [--no-stats]=stats= [--build-only]=build_only=1)
    for option; do
        shift
        case $option in
        --) break ;;
        *:*) flag[${option%%:*}]=${option#*:} ;;
        *) valued[${option%%=*}]=${option#*=} ;;
        esac
    done
    while [ $# -gt 0 ]; do
        if [ -n "${valued[$1]:-}" ]; then
            [ $# -ge 2 ] || die "$1: a value was expected"
            printf -v "${valued[$1]}" %s "$2"
            shift
        elif [ -n "${flag[$1]:-}" ]; then
            printf -v "${flag[$1]%%=*}" %s "${flag[$1]#*=}"
        else
            case $1 in
            -h | --help) usage; exit 0 ;;
            --stats) ;;
            *) pass+=("$1") ;;
            esac
        fi
        shift
    done
}

# Parameters of kvm_intel in $kvm.
kvm_parameters_check() {
    [[ $kvm =~ ^([a-z_]+=[^,[:space:]]+(,|$))*$ ]] || die "--kvm $kvm: parameters NAME=VALUE, separated by commas, were expected"
}

# images_place WORDS: $images, the directory of what the calling script makes of the files that the words name, and of the
# words that name none (versions of packages). mkcpio, which makes the archives, is put there.
images_place() {
    local inputs word
    inputs=$(
        {
            cat "${BASH_SOURCE[1]}" "$here/mkcpio.c"
            for word; do if [ -f "$word" ]; then cat "$word"; else echo "$word"; fi; done
        } | sha256sum | cut -c 1-16
    )
    images=$cache/stack/$stack_name/$inputs
    case "$images$here" in *[[:space:]]*) die "the cache's or the repository's path contains a space, which mkcpio cannot take" ;; esac
    mkdir -p "$images"
    [ -x "$images/mkcpio" ] || cc -std=gnu11 -O2 -Wall -o "$images/mkcpio" "$here/mkcpio.c" ||
        unavailable "mkcpio does not compile; needed are gcc and libc6-dev"
}

# modules_strip PACKAGE: KVM's modules out of a kernel package, to $images. A stripped module has lost its signature as well:
# the kernel only remarks on it, and need not check it.
modules_strip() {
    local package=$1 module file
    for module in virt/lib/irqbypass arch/x86/kvm/kvm arch/x86/kvm/kvm-intel arch/x86/kvm/kvm-amd; do
        file=$(package_unpack "$package")/lib/modules/${package#linux-image-}/kernel/$module.ko
        if [ -e "$file.xz" ]; then xz -dc "$file.xz"; else cat "$file"; fi >"$images/$(basename $module).ko"
        strip --strip-unneeded "$images/$(basename $module).ko"
    done
}

# hypervisor_parts_make PACKAGE: what makes a Linux a hypervisor, in $images: labs/monitor and the modules.
hypervisor_parts_make() {
    [ ! -e "$images/.parts" ] || return 0
    say "compiling the monitor, stripping the modules"
    cc -std=gnu11 -O2 -Wall -static -s -o "$images/monitor" "$root"/labs/monitor/*.c &&
        cc -std=gnu11 -O2 -Wall -static -s -o "$images/exits" "$here/exits.c" ||
        unavailable "the monitor does not compile; needed are gcc and libc6-dev (with libc.a)"
    modules_strip "$1"
    touch "$images/.parts"
}

# stack_built INITRD: with --build-only, says what there is to run, from $kernel, $memory and $append, and ends.
stack_built() {
    [ -n "$build_only" ] || return 0
    printf 'kernel %s\ninitrd %s\nmemory %s\nappend %s\n' "$kernel" "$1" "$memory" "$append"
    exit 0
}

# stack_run WORDS: nestor run with these words and the user's; its output is shown and kept in $log without carriage returns.
# Returns the machine's exit status.
stack_run() {
    local nestor=${NESTOR:-$root/build/default/nestor} status
    [ -x "$nestor" ] || die "$nestor is not built; run ./nestor stack $stack_name, which builds it, or name it in \$NESTOR"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    log=$work/log
    set +e
    # A kernel that panics resets the machine, which ends the run.
    "$nestor" run "$@" --no-reboot $stats ${pass[@]+"${pass[@]}"} | tee "$work/raw"
    status=${PIPESTATUS[0]}
    set -e
    tr -d '\r' <"$work/raw" >"$log"
    return "$status"
}
