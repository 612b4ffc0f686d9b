#!/bin/bash
# Includes go down only (docs/architecture.md): reads every #include of the sources and fails on one that goes up. Headers of the
# operating system stay in machine/host_*.c, cpu/jit/memory_*.c and frontends/; the compiler's <cpuid.h> in the back end for x86-64.
# usage: floors.sh ROOT
cd "$1" || exit 2
failed=0

# The floor of a file.
floor_of() {
    case $1 in
    cpu/base.h | cpu/base.c) echo 0 ;;
    cpu/state.h | vmx/state.h | *.def | cpu/insn.h | cpu/block.h | cpu/trace.h | cpu/features.h | cpu/raise.h | cpu/flags.h) echo 1 ;;
    mmu/*) echo 2 ;;
    cpu/mode.[ch] | cpu/cr.[ch] | cpu/msr.[ch] | cpu/cpuid.[ch] | cpu/model.[ch] | cpu/pmu.[ch]) echo 3 ;;
    vmx/*) echo 4 ;;
    cpu/jit/*) echo 6 ;;
    cpu/*) echo 5 ;;
    machine/* | debug/*) echo 7 ;;
    frontends/*) echo 8 ;;
    devices/*) echo 6 ;;
    *) echo unknown ;;
    esac
}

libc='assert|ctype|errno|inttypes|limits|math|setjmp|stdarg|stdbool|stddef|stdint|stdio|stdlib|string|time'
libraries='zlib|capstone|capstone/capstone|SDL2/SDL'

while IFS=: read -r file line text; do
    if [[ $text =~ ^[[:space:]]*#[[:space:]]*include[[:space:]]*\"([^\"]+)\" ]]; then
        target=${BASH_REMATCH[1]}
        if [ ! -e "$target" ]; then
            echo "$file:$line: \"$target\" is not a path from the root"
            failed=1
            continue
        fi
        from=$(floor_of "$file") to=$(floor_of "$target")
        if [[ $file == devices/* ]]; then
            case $target in
            cpu/base.h | mmu/bus.h | devices/*) ;;
            *)
                echo "$file:$line: a device may include cpu/base.h, mmu/bus.h and devices/, not $target"
                failed=1
                ;;
            esac
        elif [ "$from" = unknown ] || [ "$to" = unknown ] || [ "$to" -gt "$from" ] || [[ $target == devices/* && $from -lt 7 ]]; then
            echo "$file:$line: floor $from includes $target of floor $to"
            failed=1
        fi
    elif [[ $text =~ \<([^\>]+)\.h\> ]]; then
        name=${BASH_REMATCH[1]}
        [[ $name =~ ^($libc)$ || $name =~ ^($libraries)$ ]] && continue
        case $file:$name in
        machine/host_*.c:* | cpu/jit/memory_*.c:* | frontends/*:* | cpu/jit/x64*.c:cpuid) ;;
        *)
            echo "$file:$line: <$name.h> belongs to the operating system: only machine/host_*.c, cpu/jit/memory_*.c and frontends/ may include it"
            failed=1
            ;;
        esac
    fi
done < <(grep -rn --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include' cpu mmu vmx devices machine debug frontends)

exit $failed
