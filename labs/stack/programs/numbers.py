# Python: big integers, hashes, floating point as text and back, struct, regular expressions, mathematics.
import binascii
import cmath
import hashlib
import math
import random
import re
import struct
import zlib

random.seed(2026)
for bits in (64, 500, 3000, 20000):
    a, b, m = (random.getrandbits(bits) | 1 for _ in range(3))
    print(bits, hashlib.sha256(b"%x %x %x" % (a * b, pow(a, 65537, m), (a << 77) // b)).hexdigest(), math.gcd(a * 15, b * 21))
print(math.isqrt(10**400) == 10**200, math.comb(400, 150) % (10**20))

data = bytes(random.getrandbits(8) for _ in range(50000))
for name in sorted(hashlib.algorithms_guaranteed):
    h = hashlib.new(name, data)
    print(name, h.hexdigest(16) if name.startswith("shake") else h.hexdigest())
packed = zlib.compress(data[:20000] * 3, 9)
print(len(packed), zlib.decompress(packed) == data[:20000] * 3, zlib.crc32(data), zlib.adler32(data), binascii.crc_hqx(data, 0))

for i in range(200):
    x = struct.unpack("<d", struct.pack("<Q", random.getrandbits(64)))[0]
    y = random.uniform(-1e3, 1e3)
    text = repr(x)
    assert x != x or float(text) == x
    print(text, "%.17e" % y, x.hex() if x == x else "nan", round(y, 3), y // 7, y % 7, struct.pack(">f", y).hex(), struct.pack("<e", y).hex())
for i in range(60):
    x = random.uniform(0.01, 30)
    z = complex(x, -x / 3)
    print(math.sqrt(x), math.fsum([x, 1e100, 1, -1e100]), math.frexp(x), math.hypot(x, 3), math.remainder(x, 0.7), z * z / (z + 1), abs(z))

text = " ".join("%s%d" % (random.choice(["alpha", "beta", "gamma"]), random.randrange(10**6)) for _ in range(4000))
print(len(re.findall(r"(?:a[lm]|be)\w*?(\d)\1", text)), hashlib.md5(re.sub(r"(\d+)", lambda m: str(int(m[1]) * 7), text).encode()).hexdigest())
values = sorted((random.gauss(0, 1) for _ in range(5000)), key=lambda v: -v)
print(["%.12f" % v for v in values[::500]])
print(hashlib.sha1(repr(sorted({hash(v) % 1000003 for v in values})).encode()).hexdigest())
