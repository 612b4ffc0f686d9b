# OpenSSL, which picks its code by CPUID: digests, ciphers, MACs and key agreement over the same bytes.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
i=0
while [ $i -lt 3000 ]; do
    echo "line $i of the text that everything here is computed from"
    i=$((i + 1))
done >text
for digest in md5 sha1 sha224 sha256 sha384 sha512 sha512-256 sha3-256 sha3-512 shake256 blake2b512 blake2s256 rmd160 sm3; do
    echo "$digest $($OPENSSL dgst -$digest -r <text)"
    echo "hmac $digest $($OPENSSL dgst -hmac nestor -$digest -r <text 2>&1 | head -n 1)"
done
key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
for cipher in aes-128-cbc aes-256-cbc aes-128-ctr aes-256-ctr aes-128-ecb aes-192-cfb aes-256-ofb aria-128-cbc camellia-128-cbc \
    camellia-256-ctr chacha20 des-ede3-cbc sm4-ctr; do
    case $cipher in *128* | sm4*) k=$(echo $key | cut -c 1-32) ;; *192* | des*) k=$(echo $key | cut -c 1-48) ;; *) k=$key ;; esac
    iv=$(echo $key | cut -c 1-32)
    case $cipher in des*) iv=$(echo $key | cut -c 1-16) ;; esac
    $OPENSSL enc -$cipher -K "$k" -iv "$iv" <text >encrypted 2>error || cat error
    $OPENSSL enc -d -$cipher -K "$k" -iv "$iv" <encrypted >decrypted 2>error || cat error
    cmp text decrypted && echo "$cipher $($OPENSSL dgst -sha256 -r <encrypted)"
done
for mac in cmac gmac poly1305 siphash; do
    case $mac in
    cmac) options="-cipher aes-128-cbc -macopt hexkey:$(echo $key | cut -c 1-32)" ;;
    gmac) options="-cipher aes-256-gcm -macopt hexkey:$key -macopt hexiv:000102030405060708090a0b" ;;
    poly1305) options="-macopt hexkey:$key" ;;
    siphash) options="-macopt hexkey:$(echo $key | cut -c 1-32)" ;;
    esac
    echo "$mac $($OPENSSL mac $(echo "$options" | sed 's/-cipher/-cipher/') -in text $mac 2>&1)"
done
# Deterministic signatures and key agreement with given private keys: curve25519, Ed25519, RSA.
printf '302e020100300506032b6570042204209d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60' |
    sed 's/../\\x&/g' | xargs -0 printf >ed25519.der
$OPENSSL pkey -inform DER -in ed25519.der -text -noout
$OPENSSL pkeyutl -sign -rawin -inkey ed25519.der -keyform DER -in text | $OPENSSL dgst -sha256 -r
printf '302e020100300506032b656e0422042077076d0a7318a57d3c16c17251b26645df4c2f92ebc099ac61767db4b7892c2a' |
    sed 's/../\\x&/g' | xargs -0 printf >x25519.der
$OPENSSL pkey -inform DER -in x25519.der -pubout -outform DER | $OPENSSL dgst -sha256 -r
$OPENSSL prime -generate -bits 96 -hex >/dev/null && echo "prime made"
$OPENSSL prime 170141183460469231731687303715884105727
$OPENSSL kdf -keylen 48 -kdfopt digest:SHA512 -kdfopt pass:nestor -kdfopt salt:level -kdfopt iter:200 PBKDF2
