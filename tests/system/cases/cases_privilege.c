/*
 * Who may execute what: every instruction that looks at the privilege level or at the mode, in each mode at ring 0 and ring 3.
 *
 * A row's columns: real mode; V8086 mode at IOPL 0; protected and compatibility mode (16- and 32-bit code) at ring 0, at ring 3; 64-bit
 * mode at ring 0, at ring 3. "-" leaves one out. Sources: the exception sections of each instruction in [SDM2], "Privileged Instructions",
 * "Virtual-8086 Mode" and "Sensitive Instructions" in [SDM3].
 */
#include "harness.h"

enum feature {
    ALWAYS, MONITOR, FSGSBASE, SMAP, INVPCID, PKU, RDTSCP, RDPID, UMIP, XSAVE, XSAVES, VMX, NO_SERIALIZE, PCLMUL, PCONFIG,
};

struct privilege {
    const char *name, *bytes, *real, *v86, *legacy0, *legacy3, *long0, *long3;
    u32 ax, cx, cr4, flags;
    enum feature feature;
};

#define OK "ok"
#define GP0 "GP(0)"
#define UD "UD"
/* Allowed only at ring 0, and in real mode. */
#define RING0 OK, GP0, OK, GP0, OK, GP0
#define EVERYWHERE OK, OK, OK, OK, OK, OK
#define NOWHERE UD, UD, UD, UD, UD, UD
/* Instructions that know descriptors or rings only. */
#define NOT_REAL UD, UD, OK, OK, OK, OK

static const struct privilege table[] = {
    {"nop", "90", EVERYWHERE, 0, 0, 0, 0, 0},
    {"cpuid", "0f a2", EVERYWHERE, 0, 0, 0, 0, 0},
    {"hlt", "f4", "-", GP0, "-", GP0, "-", GP0, 0, 0, 0, 0, 0},
    {"clts", "0f 06", RING0, 0, 0, 0, 0, 0},
    {"lock-clts", "f0 0f 06", NOWHERE, 0, 0, 0, 0, 0},
    {"invd", "0f 08", RING0, 0, 0, 0, 0, 0},
    {"wbinvd", "0f 09", RING0, 0, 0, 0, 0, 0},
    {"invlpg", "0f 01 3f", RING0, 0, 0, 0, 0, 0},
    {"invlpg-register", "0f 01 ff", "UD", "UD", UD, UD, UD, UD, 0, 0, 0, 0, 0},
    {"lgdt", "0f 01 17", RING0, 0, 0, 0, 1, 0},
    {"lgdt-register", "0f 01 d7", NOWHERE, 0, 0, 0, 0, 0},
    {"lidt", "0f 01 1f", RING0, 0, 0, 0, 2, 0},
    {"lidt-register", "0f 01 de", NOWHERE, 0, 0, 0, 0, 0},
    {"sgdt", "0f 01 07", EVERYWHERE, 0, 0, 0, 0, 0},
    {"sidt", "0f 01 0f", EVERYWHERE, 0, 0, 0, 0, 0},
    {"sldt", "0f 00 c0", NOT_REAL, 0, 0, 0, 0, 0},
    {"sldt-memory", "0f 00 07", NOT_REAL, 0, 0, 0, 0, 0},
    {"str", "0f 00 c8", NOT_REAL, 0, 0, 0, 0, 0},
    {"str-memory", "0f 00 0f", NOT_REAL, 0, 0, 0, 0, 0},
    {"smsw", "0f 01 e0", EVERYWHERE, 0, 0, 0, 0, 0},
    {"smsw-memory", "0f 01 27", EVERYWHERE, 0, 0, 0, 0, 0},
    {"umip-sgdt", "0f 01 07", OK, GP0, OK, GP0, OK, GP0, 0, 0, CR4_UMIP, 0, UMIP},
    {"umip-sidt", "0f 01 0f", OK, GP0, OK, GP0, OK, GP0, 0, 0, CR4_UMIP, 0, UMIP},
    {"umip-sldt", "0f 00 c0", UD, UD, OK, GP0, OK, GP0, 0, 0, CR4_UMIP, 0, UMIP},
    {"umip-sldt-memory", "0f 00 07", UD, UD, OK, GP0, OK, GP0, 0, 0, CR4_UMIP, 0, UMIP},
    {"umip-str", "0f 00 c8", UD, UD, OK, GP0, OK, GP0, 0, 0, CR4_UMIP, 0, UMIP},
    {"umip-smsw", "0f 01 e0", OK, GP0, OK, GP0, OK, GP0, 0, 0, CR4_UMIP, 0, UMIP},
    {"umip-smsw-memory", "0f 01 27", OK, GP0, OK, GP0, OK, GP0, 0, 0, CR4_UMIP, 0, UMIP},
    {"lldt", "0f 00 d0", UD, UD, OK, GP0, OK, GP0, 0, 0, 0, 0, 0},
    {"lldt-memory", "0f 00 17", UD, UD, OK, GP0, OK, GP0, 0, 0, 0, 8, 0},
    {"ltr-null", "0f 00 d8", UD, UD, GP0, GP0, GP0, GP0, 0, 0, 0, 0, 0},
    {"lmsw", "0f 01 f0", RING0, 0, 0, 0, 0, 0},
    {"lmsw-memory", "0f 01 37", RING0, 0, 0, 0, 8, 0},
    {"lar", "0f 02 c0", NOT_REAL, 0, 0, 0, 0, 0},
    {"lsl", "0f 03 c0", NOT_REAL, 0, 0, 0, 0, 0},
    {"verr", "0f 00 e0", NOT_REAL, 0, 0, 0, 0, 0},
    {"verw", "0f 00 e8", NOT_REAL, 0, 0, 0, 0, 0},
    {"arpl", "63 c0", UD, UD, OK, OK, "-", "-", 0, 0, 0, 0, 0},
    {"group6-slash6", "0f 00 f0", NOWHERE, 0, 0, 0, 0, 0},
    {"group6-slash7", "0f 00 f8", NOWHERE, 0, 0, 0, 0, 0},
    {"mov-from-cr0", "0f 20 c0", RING0, 0, 0, 0, 0, 0},
    {"mov-from-cr2", "0f 20 d0", RING0, 0, 0, 0, 0, 0},
    {"mov-from-cr3", "0f 20 d8", RING0, 0, 0, 0, 0, 0},
    {"mov-from-cr4", "0f 20 e0", RING0, 0, 0, 0, 0, 0},
    {"mov-to-cr0", "0f 22 c0", RING0, 0, 0, 0, 4, 0},
    {"mov-to-cr2", "0f 22 d0", RING0, 0, 0, 0, 0, 0},
    {"mov-to-cr3", "0f 22 d8", RING0, 0, 0, 0, 16, 0},
    {"mov-to-cr4", "0f 22 e0", RING0, 0, 0, 0, 32, 0},
    {"mov-from-cr1", "0f 20 c8", UD, "-", UD, "-", UD, "-", 0, 0, 0, 0, 0},
    {"mov-from-cr5", "0f 20 e8", UD, "-", UD, "-", UD, "-", 0, 0, 0, 0, 0},
    {"mov-from-cr6", "0f 20 f0", UD, "-", UD, "-", UD, "-", 0, 0, 0, 0, 0},
    {"mov-from-cr7", "0f 20 f8", UD, "-", UD, "-", UD, "-", 0, 0, 0, 0, 0},
    {"mov-to-cr1", "0f 22 c8", UD, "-", UD, "-", UD, "-", 0, 0, 0, 0, 0},
    {"mov-to-cr7", "0f 22 f8", UD, "-", UD, "-", UD, "-", 0, 0, 0, 0, 0},
    {"mov-from-cr8", "44 0f 20 c0", "-", "-", "-", "-", OK, GP0, 0, 0, 0, 0, 0},
    {"mov-to-cr8", "44 0f 22 c0", "-", "-", "-", "-", OK, GP0, 0, 0, 0, 0, 0},
    {"mov-to-cr8-16", "44 0f 22 c0", "-", "-", "-", "-", GP0, GP0, 16, 0, 0, 0, 0},
    {"mov-from-cr9", "44 0f 20 c8", "-", "-", "-", "-", UD, "-", 0, 0, 0, 0, 0},
    {"mov-from-cr12", "44 0f 20 e0", "-", "-", "-", "-", UD, "-", 0, 0, 0, 0, 0},
    {"lock-mov-from-cr0", "f0 0f 20 c0", "-", "-", "-", UD, UD, UD, 0, 0, 0, 0, 0},
    {"mov-from-dr0", "0f 21 c0", RING0, 0, 0, 0, 0, 0},
    {"mov-from-dr6", "0f 21 f0", RING0, 0, 0, 0, 0, 0},
    {"mov-from-dr7", "0f 21 f8", RING0, 0, 0, 0, 0, 0},
    {"mov-to-dr0", "0f 23 c0", RING0, 0, 0, 0, 0, 0},
    {"mov-to-dr6", "0f 23 f0", RING0, 0, 0, 0, 0, 0},
    {"mov-to-dr7", "0f 23 f8", RING0, 0, 0, 0, 0, 0},
    {"mov-from-dr4", "0f 21 e0", RING0, 0, 0, 0, 0, 0},
    {"mov-from-dr5", "0f 21 e8", RING0, 0, 0, 0, 0, 0},
    {"mov-to-dr4", "0f 23 e0", RING0, 0, 0, 0, 0, 0},
    {"de-mov-from-dr4", "0f 21 e0", UD, "-", UD, "-", UD, "-", 0, 0, CR4_DE, 0, 0},
    {"de-mov-from-dr5", "0f 21 e8", UD, "-", UD, "-", UD, "-", 0, 0, CR4_DE, 0, 0},
    {"de-mov-to-dr4", "0f 23 e0", UD, "-", UD, "-", UD, "-", 0, 0, CR4_DE, 0, 0},
    {"mov-from-dr8", "44 0f 21 c0", "-", "-", "-", "-", UD, "-", 0, 0, 0, 0, 0},
    {"rdmsr", "0f 32", RING0, 0, 0x174, 0, 0, 0},
    {"rdmsr-unknown", "0f 32", GP0, GP0, GP0, GP0, GP0, GP0, 0, 0x4fffffff, 0, 0, 0},
    {"wrmsr", "0f 30", RING0, 0, 0x174, 0, 0, 0},
    {"wrmsr-unknown", "0f 30", GP0, GP0, GP0, GP0, GP0, GP0, 0, 0x4fffffff, 0, 0, 0},
    {"rdtsc", "0f 31", EVERYWHERE, 0, 0, 0, 0, 0},
    {"tsd-rdtsc", "0f 31", RING0, 0, 0, CR4_TSD, 0, 0},
    {"rdtscp", "0f 01 f9", EVERYWHERE, 0, 0, 0, 0, RDTSCP},
    {"tsd-rdtscp", "0f 01 f9", RING0, 0, 0, CR4_TSD, 0, RDTSCP},
    {"rdpmc", "0f 33", "-", GP0, "-", GP0, "-", GP0, 0, 0, 0, 0, 0},
    {"cli", "fa", RING0, 0, 0, 0, 0, 0},
    {"sti", "fb", RING0, 0, 0, 0, 0, 0},
    {"pushf", "9c", OK, GP0, OK, OK, OK, OK, 0, 0, 0, 0, 0},
    {"popf", "9c 9d", OK, GP0, OK, OK, OK, OK, 0, 0, 0, 0, 0},
    {"popf-v86", "9d", "-", GP0, "-", "-", "-", "-", 0, 0, 0, 0, 0},
    {"int40", "cd 40", "int40@+2", GP0, "int40@+2", "int40@+2", "int40@+2", "int40@+2", 0, 0, 0, 0, 0},
    {"int21", "cd 21", "int21@+2", GP0, "int21@+2", "GP(10a)", "int21@+2", "GP(10a)", 0, 0, 0, 0, 0},
    {"int3", "cc", "BP@+1", "BP@+1", "BP@+1", "BP@+1", "BP@+1", "BP@+1", 0, 0, 0, 0, 0},
    {"int1", "f1", "DB@+1[]", "DB@+1[]", "DB@+1[]", "DB@+1[]", "DB@+1[]", "DB@+1[]", 0, 0, 0, 0, 0},
    {"into-clear", "ce", OK, OK, OK, OK, UD, UD, 0, 0, 0, 0, 0},
    {"into-set", "ce", "OF@+1", "OF@+1", "OF@+1", "OF@+1", UD, UD, 0, 0, 0, 64, 0},
    {"bound", "62 07", OK, OK, OK, OK, "-", "-", 0, 0, 0, 0, 0},
    {"bound-below", "62 07", "BR", "BR", "BR", "BR", "-", "-", 0xffffffff, 0, 0, 0, 0},
    {"div-by-zero", "f6 f1", "DE", "DE", "DE", "DE", "DE", "DE", 0, 0, 0, 0, 0},
    {"aam-zero", "d4 00", "DE", "DE", "DE", "DE", UD, UD, 0, 0, 0, 0, 0},
    {"iret-v86", "cf", "-", GP0, "-", "-", "-", "-", 0, 0, 0, 0, 0},
    {"in", "e4 80", RING0, 0, 0, 0, 0, 0},
    {"out", "e6 80", RING0, 0, 0, 0, 0, 0},
    {"in-dx", "ec", RING0, 0, 0, 0, 128, 0},
    {"out-dx", "ef", RING0, 0, 0, 0, 128, 0},
    {"insb", "6c", RING0, 0, 0, 0, 128, 0},
    {"outsb", "6e", RING0, 0, 0, 0, 128, 0},
    {"rep-insb-zero", "f3 6c", OK, "-", OK, "-", OK, "-", 0, 0, 0, 128, 0},
    {"xsetbv-off", "0f 01 d1", NOWHERE, 1, 0, 0, 0, XSAVE},
    {"xsetbv", "0f 01 d1", RING0, 1, 0, CR4_OSXSAVE, 0, XSAVE},
    {"xsetbv-x87-clear", "0f 01 d1", GP0, GP0, GP0, GP0, GP0, GP0, 2, 0, CR4_OSXSAVE, 0, XSAVE},
    {"xsetbv-avx-only", "0f 01 d1", GP0, GP0, GP0, GP0, GP0, GP0, 5, 0, CR4_OSXSAVE, 0, XSAVE},
    {"xsetbv-xcr1", "0f 01 d1", GP0, GP0, GP0, GP0, GP0, GP0, 1, 1, CR4_OSXSAVE, 0, XSAVE},
    {"lock-xsetbv", "f0 0f 01 d1", NOWHERE, 1, 0, CR4_OSXSAVE, 0, XSAVE},
    {"xgetbv-off", "0f 01 d0", NOWHERE, 1, 0, 0, 0, XSAVE},
    {"xgetbv", "0f 01 d0", EVERYWHERE, 0, 0, CR4_OSXSAVE, 0, XSAVE},
    {"xgetbv-2", "0f 01 d0", GP0, GP0, GP0, GP0, GP0, GP0, 0, 2, CR4_OSXSAVE, 0, XSAVE},
    {"xsave-off", "0f ae 27", NOWHERE, 0, 0, 0, 0, XSAVE},
    {"xrstor-off", "0f ae 2f", NOWHERE, 0, 0, 0, 0, XSAVE},
    {"xsaves", "0f c7 2f", OK, GP0, OK, GP0, OK, GP0, 0, 0, CR4_OSXSAVE, 0, XSAVES},
    {"xrstors", "0f c7 1f", "-", GP0, "-", GP0, "-", GP0, 0, 0, CR4_OSXSAVE, 0, XSAVES},
    {"xsaves-off", "0f c7 2f", NOWHERE, 0, 0, 0, 0, XSAVES},
    {"monitor", "0f 01 c8", OK, UD, OK, UD, OK, UD, 0, 0, 0, 256, MONITOR},
    {"monitor-extension", "0f 01 c8", GP0, UD, GP0, UD, GP0, UD, 0, 1, 0, 256, MONITOR},
    {"mwait", "0f 01 c9", "-", UD, "-", UD, "-", UD, 0, 0, 0, 0, MONITOR},
    {"mwait-extension", "0f 01 c9", GP0, UD, GP0, UD, GP0, UD, 0, 4, 0, 0, MONITOR},
    {"swapgs", "0f 01 f8", UD, UD, UD, UD, OK, GP0, 0, 0, 0, 0, 0},
    {"lock-swapgs", "f0 0f 01 f8", NOWHERE, 0, 0, 0, 0, 0},
    {"syscall-off", "0f 05", NOWHERE, 0, 0, 0, 0, 0},
    {"sysret-off", "0f 07", NOWHERE, 0, 0, 0, 0, 0},
    {"syscall", "0f 05", UD, UD, UD, UD, "-", "-", 0, 0, 0, 512, 0},
    {"sysret", "0f 07", UD, UD, UD, UD, "-", GP0, 0, 0, 0, 512, 0},
    {"sysenter-no-cs", "0f 34", GP0, GP0, GP0, GP0, GP0, GP0, 0, 0, 0, 0, 0},
    {"sysexit-no-cs", "0f 35", GP0, GP0, GP0, GP0, GP0, GP0, 0, 0, 0, 0, 0},
    {"invpcid", "66 0f 38 82 07", RING0, 2, 0, 0, 0, INVPCID},
    {"invpcid-4", "66 0f 38 82 07", GP0, GP0, GP0, GP0, GP0, GP0, 4, 0, 0, 0, INVPCID},
    {"invpcid-register", "66 0f 38 82 c7", NOWHERE, 2, 0, 0, 0, INVPCID},
    {"rsm", "0f aa", NOWHERE, 0, 0, 0, 0, 0},
    {"vmcall", "0f 01 c1", NOWHERE, 0, 0, 0, 0, VMX},
    {"vmlaunch", "0f 01 c2", NOWHERE, 0, 0, 0, 0, VMX},
    {"vmresume", "0f 01 c3", NOWHERE, 0, 0, 0, 0, VMX},
    {"vmxoff", "0f 01 c4", NOWHERE, 0, 0, 0, 0, VMX},
    {"vmxon", "f3 0f c7 37", NOWHERE, 0, 0, 0, 0, VMX},
    {"vmptrld", "0f c7 37", NOWHERE, 0, 0, 0, 0, VMX},
    {"vmread", "0f 78 c0", NOWHERE, 0, 0, 0, 0, VMX},
    {"vmwrite", "0f 79 c0", NOWHERE, 0, 0, 0, 0, VMX},
    {"getsec", "0f 37", NOWHERE, 0, 0, 0, 0, 0},
    {"encls", "0f 01 cf", NOWHERE, 0, 0, 0, 0, 0},         /* enclaves are off */
    {"enclu", "0f 01 d7", NOWHERE, 0, 0, 0, 0, 0},
    {"enclv", "0f 01 c0", NOWHERE, 0, 0, 0, 0, 0},
    {"pconfig", "0f 01 c5", GP0, UD, GP0, UD, GP0, UD, 0, 0, 0, 0, PCONFIG},   /* no targets */
    {"pconfig-leaf-64", "0f 01 c5", GP0, UD, GP0, UD, GP0, UD, 64, 0, 0, 0, PCONFIG},
    {"clac", "0f 01 ca", OK, UD, OK, UD, OK, UD, 0, 0, 0, 0, SMAP},
    {"stac", "0f 01 cb", OK, UD, OK, UD, OK, UD, 0, 0, 0, 0, SMAP},
    {"rdfsbase-off", "f3 0f ae c0", NOWHERE, 0, 0, 0, 0, FSGSBASE},
    {"rdfsbase", "f3 0f ae c0", UD, UD, UD, UD, OK, OK, 0, 0, CR4_FSGSBASE, 0, FSGSBASE},
    {"wrgsbase", "f3 0f ae d8", UD, UD, UD, UD, OK, OK, 0, 0, CR4_FSGSBASE, 0, FSGSBASE},
    {"rdpkru-off", "0f 01 ee", NOWHERE, 0, 0, 0, 0, PKU},
    {"rdpkru", "0f 01 ee", EVERYWHERE, 0, 0, CR4_PKE, 0, PKU},
    {"rdpkru-ecx", "0f 01 ee", GP0, GP0, GP0, GP0, GP0, GP0, 0, 1, CR4_PKE, 0, PKU},
    {"wrpkru", "0f 01 ef", EVERYWHERE, 0, 0, CR4_PKE, 0, PKU},
    {"wrpkru-off", "0f 01 ef", NOWHERE, 0, 0, 0, 0, PKU},
    {"wrpkru-edx", "0f 01 ef", GP0, GP0, GP0, GP0, GP0, GP0, 0, 0, CR4_PKE, 1024, PKU},
    {"rdpid", "f3 0f c7 f8", EVERYWHERE, 0, 0, 0, 0, RDPID},
    {"ud2", "0f 0b 0f 0b", NOWHERE, 0, 0, 0, 0, 0},
    {"ud1", "0f b9 c0", NOWHERE, 0, 0, 0, 0, 0},
    {"ud0", "0f ff c0", NOWHERE, 0, 0, 0, 0, 0},
    {"mov-to-cs", "8e c8", NOWHERE, 0, 0, 0, 0, 0},
    {"lea-register", "8d c0", NOWHERE, 0, 0, 0, 0, 0},
    {"lock-nop", "f0 90", NOWHERE, 0, 0, 0, 0, 0},
    {"les-register", "c4 c0", "-", "-", "-", "-", "-", "-", 0, 0, 0, 0, 0},
    {"far-jmp-register", "ff e8", NOWHERE, 0, 0, 0, 0, 0},
    {"far-call-register", "ff d8", NOWHERE, 0, 0, 0, 0, 0},
    {"ff-slash7", "ff f8", NOWHERE, 0, 0, 0, 0, 0},
    {"push-es", "06", OK, OK, OK, OK, UD, UD, 0, 0, 0, 0, 0},
    {"pusha", "60", OK, OK, OK, OK, UD, UD, 0, 0, 0, 0, 0},
    {"daa", "27", OK, OK, OK, OK, UD, UD, 0, 0, 0, 0, 0},
    {"salc", "d6", OK, OK, OK, OK, UD, UD, 0, 0, 0, 0, 0},
    {"far-call-immediate", "9a", "-", "-", "-", "-", UD, UD, 0, 0, 0, 0, 0},
    {"far-jmp-immediate", "ea", "-", "-", "-", "-", UD, UD, 0, 0, 0, 0, 0},
    {"fifteen-bytes", "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", EVERYWHERE, 0, 0, 0, 0, 0},
    {"sixteen-bytes", "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", GP0, GP0, GP0, GP0, GP0, GP0, 0, 0, 0, 0, 0},
    /* x87 and SSE by CR0.TS, EM, MP [SDM3 "Device Not Available Exception (#NM)", "CR4.OSFXSR"] */
    {"fninit", "db e3", EVERYWHERE, 0, 0, 0, 0, 0},
    {"ts-fninit", "db e3", "NM", "NM", "NM", "NM", "NM", "NM", 0, 0, 0, 2048, 0},
    {"em-fninit", "db e3", "NM", "NM", "NM", "NM", "NM", "NM", 0, 0, 0, 4096, 0},
    {"fwait", "9b", EVERYWHERE, 0, 0, 0, 0, 0},
    {"ts-fwait", "9b", EVERYWHERE, 0, 0, 0, 2048, 0},
    {"mp-fwait", "9b", EVERYWHERE, 0, 0, 0, 8192, 0},
    {"ts-mp-fwait", "9b", "NM", "NM", "NM", "NM", "NM", "NM", 0, 0, 0, 2048 | 8192, 0},
    {"sse-off", "0f 57 c0", NOWHERE, 0, 0, 0, 0, 0},
    {"sse", "0f 57 c0", EVERYWHERE, 0, 0, CR4_OSFXSR, 0, 0},
    {"ts-sse", "0f 57 c0", "NM", "NM", "NM", "NM", "NM", "NM", 0, 0, CR4_OSFXSR, 2048, 0},
    {"em-sse", "0f 57 c0", NOWHERE, 0, 0, CR4_OSFXSR, 4096, 0},
    {"ts-em-sse", "0f 57 c0", NOWHERE, 0, 0, CR4_OSFXSR, 2048 | 4096, 0},
    {"mmx", "0f ef c0", EVERYWHERE, 0, 0, 0, 0, 0},
    {"ts-mmx", "0f ef c0", "NM", "NM", "NM", "NM", "NM", "NM", 0, 0, 0, 2048, 0},
    {"em-mmx", "0f ef c0", NOWHERE, 0, 0, 0, 4096, 0},
    {"ts-fxsave", "0f ae 07", "NM", "NM", "NM", "NM", "NM", "NM", 0, 0, 0, 2048, 0},
    {"em-fxsave", "0f ae 07", NOWHERE, 0, 0, 0, 4096, 0},
    {"ts-ldmxcsr", "0f ae 17", "NM", "NM", "NM", "NM", "NM", "NM", 0, 0, CR4_OSFXSR, 2048, 0},
    {"off-ldmxcsr", "0f ae 17", NOWHERE, 0, 0, 0, 0, 0},
    {"ldmxcsr-reserved", "0f ae 17", GP0, GP0, GP0, GP0, GP0, GP0, 0, 0, CR4_OSFXSR, 32768, 0},
    {"sse-unaligned", "0f 57 47 01", GP0, GP0, GP0, GP0, GP0, GP0, 0, 0, CR4_OSFXSR, 0, 0},
    {"fxsave-unaligned", "0f ae 47 01", GP0, GP0, GP0, GP0, GP0, GP0, 0, 0, CR4_OSFXSR, 0, 0},
    {"xm-off", "f2 0f 5e c0", "-", "-", UD, UD, UD, UD, 0, 0, CR4_OSFXSR, 16384, 0},
    {"xm", "f2 0f 5e c0", "-", "-", "XM", "XM", "XM", "XM", 0, 0, CR4_OSFXSR | CR4_OSXMMEXCPT, 16384, 0},
    {"vex-off", "c5 f8 57 c0", "-", "-", UD, UD, UD, UD, 0, 0, 0, 0, XSAVE},
};

/* flags */
#define GDT_POINTER 1u
#define IDT_POINTER 2u
#define AX_CR0 4u
#define ZERO_MEMORY 8u
#define AX_CR3 16u
#define AX_CR4 32u
#define SET_OF 64u
#define DX_PORT 128u
#define AX_DATA 256u
#define SCE 512u
#define DX_ONE 1024u
#define SET_TS 2048u
#define SET_EM 4096u
#define SET_MP 8192u
#define UNMASK_SSE 16384u
#define BAD_MXCSR 32768u

static bool has(enum feature feature)
{
    switch (feature) {
    case MONITOR: return HAS_MONITOR;
    case FSGSBASE: return HAS_FSGSBASE;
    case SMAP: return HAS_SMAP;
    case INVPCID: return HAS_INVPCID;
    case PKU: return HAS_PKU;
    case RDTSCP: return HAS_RDTSCP;
    case RDPID: return HAS_RDPID;
    case UMIP: return HAS_UMIP;
    case XSAVE: return HAS_XSAVE;
    case XSAVES: return HAS_XSAVE && HAS_XSAVES;
    case VMX: return HAS_VMX;
    case PCONFIG: return HAS_PCONFIG;
    default: return true;
    }
}

/* Real mode pushes no error codes. */
static const char *without_error(const char *expect)
{
    return expect[2] == '(' ? text("%c%c", expect[0], expect[1]) : expect;
}

static void one(const struct privilege *p, enum mode mode, unsigned ring, const char *name, const char *expect)
{
    if (*expect == '-')
        return;
    begin(mode, ring);
    need(has(p->feature));
    L.gpr[AX] = p->ax;
    L.gpr[CX] = p->cx;
    L.cr4 |= p->cr4;
    if (p->flags & GDT_POINTER) {
        poke16(DATA, L.gdtr.limit);
        poke64(DATA + 2, L.gdtr.base);
    }
    if (p->flags & IDT_POINTER) {
        poke16(DATA, L.idtr.limit);
        poke64(DATA + 2, L.idtr.base);
    }
    if (p->flags & AX_CR0)
        L.gpr[AX] = mode == REAL ? L.cr0 & ~CR0_PE : L.cr0;
    if (p->flags & AX_CR3)
        L.gpr[AX] = L.cr3;
    if (p->flags & AX_CR4)
        L.gpr[AX] = L.cr4;
    if (p->flags & SET_OF)
        L.rflags |= 0x800;
    if (p->flags & DX_PORT)
        L.gpr[DX] = 0x80;
    if (p->flags & AX_DATA)
        L.gpr[AX] = off(DATA);
    if (p->flags & SCE)
        L.efer |= EFER_SCE;
    if (p->flags & DX_ONE)
        L.gpr[DX] = 1;
    if (p->flags & SET_TS)
        L.cr0 |= CR0_TS;
    if (p->flags & SET_EM)
        L.cr0 |= CR0_EM;
    if (p->flags & SET_MP)
        L.cr0 |= CR0_MP;
    if (p->flags & BAD_MXCSR)
        poke32(DATA, 0x00011f80);
    if (p->feature == RDTSCP || p->feature == RDPID)
        write_msr(0xc0000103, 0);
    if (p->flags & UNMASK_SSE) {
        /* 0 / 0 with all exceptions unmasked */
        __asm__ volatile("mov %%cr4, %%rax; push %%rax; or $0x200, %%eax; mov %%rax, %%cr4; push $0; ldmxcsr (%%rsp); xorps %%xmm0, %%xmm0;"
                         "pop %%rax; pop %%rax; mov %%rax, %%cr4" : : : "rax", "memory");
    }
    code(p->bytes);
    run(name, expect);
    if (p->flags & UNMASK_SSE)
        __asm__ volatile("mov %%cr4, %%rax; push %%rax; or $0x200, %%eax; mov %%rax, %%cr4; push $0x1f80; ldmxcsr (%%rsp);"
                         "pop %%rax; pop %%rax; mov %%rax, %%cr4" : : : "rax", "memory");
}

void cases_privilege(void)
{
    write_msr(0x174, 0);
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const struct privilege *p = &table[i];
        one(p, REAL, 0, text("privilege/%s/real", p->name), without_error(p->real));
        one(p, V86, 3, text("privilege/%s/v86", p->name), p->v86);
        one(p, PM16, 0, text("privilege/%s/pm16-0", p->name), p->legacy0);
        one(p, PM16, 3, text("privilege/%s/pm16-3", p->name), p->legacy3);
        one(p, PM32, 0, text("privilege/%s/pm32-0", p->name), p->legacy0);
        one(p, PM32, 3, text("privilege/%s/pm32-3", p->name), p->legacy3);
        one(p, COMPAT, 0, text("privilege/%s/compat-0", p->name), p->legacy0);
        one(p, COMPAT, 3, text("privilege/%s/compat-3", p->name), p->legacy3);
        one(p, LONG, 0, text("privilege/%s/long-0", p->name), p->long0);
        one(p, LONG, 3, text("privilege/%s/long-3", p->name), p->long3);
    }
}
