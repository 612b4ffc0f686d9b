# Perl: integers and floating point as text and back, sorting, regular expressions, packing, a multiplication of big numbers.
use strict;
use warnings;
use POSIX qw(floor fmod DBL_EPSILON);
use List::Util qw(sum max reduce shuffle);

my $state = 12345;
sub rnd { $state = ($state * 1103515245 + 12345) % 2147483648; return $state; }

for my $i (1 .. 60) {
    my $x = (rnd() - 2**30) * 10**((rnd() % 40) - 20);
    my $y = rnd() / 2**31;
    printf "%.17g %.3e %a %d %s %s\n", $x, $x, $y, floor(fmod($x, 1e9)), sqrt(abs $x) + 0, $x * $y / 3;
}
printf "%s %s %s %s\n", 9**9**9, -9**9**9, 0.1 + 0.2, 1e308 * 10 - 1e308 * 10 == 0 ? "zero" : "not a number";
print join(",", map { sprintf "%x", $_ } unpack("N*", pack("w/a* d> f< q> n!", "nestor", 1 / 3, 1 / 7, -5, -2))), "\n";

my @words = map { my $n = rnd() % 9 + 3; join "", map { chr(97 + rnd() % 26) } 1 .. $n } 1 .. 3000;
my %count;
$count{$_}++ for map { /([aeiou]+[^aeiou]+)$/ ? $1 : "-" } @words;
print join(" ", map { "$_=$count{$_}" } (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 40]), "\n";
my $text = join " ", sort @words;
(my $changed = $text) =~ s/\b(\w)(\w*)(\w)\b/$3$2$1/g;
my $doubles = () = $text =~ /(\w)\1/g;
print length($changed), " ", unpack("%32C*", $changed), " $doubles\n";

# 3000 factorial, in limbs of nine digits.
my @limb = (1);
for my $n (2 .. 1000) {
    my $carry = 0;
    for (@limb) { my $p = $_ * $n + $carry; $carry = int($p / 1e9); $_ = $p % 1_000_000_000; }
    push @limb, $carry if $carry;
}
print join("", $limb[-1], map { sprintf "%09d", $_ } reverse @limb[0 .. $#limb - 1]), "\n";
my ($a, $b) = (0, 1);
($a, $b) = ($b, ($a + $b) % 18446744073709551557) for 1 .. 10000;
print "$b ", 18446744073709551557 % 97, " ", ~0 >> 3, " ", -7 % 3, " ", 7 <=> 7.5, "\n";
