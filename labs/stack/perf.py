# In the guest: does Linux's perf count exactly? Counts user-mode events around machine code of known length, for two
# numbers of iterations; the difference is that of the loop alone. Exit status 1 when it is not exact.
import ctypes
import fcntl
import mmap
import os
import struct
import sys

PERF_EVENT_OPEN, ENABLE, DISABLE, RESET = 298, 0x2400, 0x2401, 0x2403
libc = ctypes.CDLL(None, use_errno=True)
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b"\xff\xcf\x75\xfc\xc3")    # 1: dec edi; jnz 1b; ret
loop = ctypes.CFUNCTYPE(None, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))


def counter(config):
    # struct perf_event_attr: type HARDWARE, size, config, ...; disabled, exclude_kernel, exclude_hv
    attributes = struct.pack("IIQQQQQ", 0, 64, config, 0, 0, 0, 1 | 1 << 5 | 1 << 6).ljust(64, b"\0")
    fd = libc.syscall(PERF_EVENT_OPEN, attributes, 0, -1, -1, 0)
    if fd < 0:
        sys.exit("perf: perf_event_open of event %d: %s" % (config, os.strerror(ctypes.get_errno())))
    return fd


def count(fd, iterations):
    fcntl.ioctl(fd, RESET, 0)
    fcntl.ioctl(fd, ENABLE, 0)
    loop(iterations)
    fcntl.ioctl(fd, DISABLE, 0)
    return struct.unpack("Q", os.read(fd, 8))[0]


failures = 0
for name, config, each in (("cycles", 0, 2), ("instructions", 1, 2), ("branches", 4, 1)):
    fd = counter(config)
    for warm in range(3):
        count(fd, 1000)
    differences = [count(fd, 51000) - count(fd, 1000) for _ in range(5)]
    # Python's own way from one request to the other is not always the same: the median tells.
    exact = sorted(differences)[2] == each * 50000
    failures += not exact
    print("perf:", name, "user mode:", differences, "exact" if exact else "expected %d" % (each * 50000))
sys.exit(failures != 0)
