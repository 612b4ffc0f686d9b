#!/bin/sh
# Runs one of labs/stack/programs/ with the interpreters and libraries of a tree of unpacked Debian packages, in the guest
# (whose root is the tree) and on the host alike.
# usage: run-program.sh TREE PROGRAM
tree=${1%/}
libraries=$tree/lib/x86_64-linux-gnu:$tree/usr/lib/x86_64-linux-gnu
loader="$tree/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path $libraries"
export LC_ALL=C TZ=UTC OPENSSL_CONF=/dev/null OPENSSL_MODULES="$tree/usr/lib/x86_64-linux-gnu/ossl-modules"
unset PYTHONPATH PYTHONSTARTUP PERL5LIB PERL5OPT
case $2 in
*.pl) exec $loader "$tree/usr/bin/perl" -I"$tree/usr/lib/x86_64-linux-gnu/perl-base" "$2" ;;
*.py) PYTHONHOME=$tree/usr PYTHONHASHSEED=0 exec $loader "$tree/usr/bin/python3.11" -B -s -S "$2" ;;
*.sh) OPENSSL="$loader $tree/usr/bin/openssl" exec sh "$2" ;;
esac
echo "run-program.sh: $2: .pl, .py or .sh was expected" >&2
exit 64
