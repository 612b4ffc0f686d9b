/* loops: workloads whose instructions must not depend on the compiler. They run in the guest and, as they are, in a process (native/). */
    .text
    /* 64 times 16 instructions of registers only. */
    .globl run_integer
    .balign 64
run_integer:
    push %rbx
1:  mov $64, %ecx
    mov $1, %eax
    mov $2, %edx
    mov $3, %esi
    mov $5, %r8d
2:  add %rdx, %rax
    lea 7(%rax,%rsi,4), %r9
    xor %r9, %rdx
    mov %rax, %rbx
    shl $5, %rbx
    sub %rsi, %rbx
    and $0xffffff, %ebx
    or %rbx, %r8
    imul $31, %r8, %r8
    rol $7, %rax
    adc %r8, %rdx
    inc %rsi
    test $1, %sil
    cmovz %rdx, %r9
    dec %ecx
    jnz 2b
    xor %r9, %rax
    dec %rdi
    jnz 1b
    pop %rbx
    ret

    /* 64 divisions of 64 bits, each waiting for the one before. */
    .globl run_divide
    .balign 64
run_divide:
1:  mov $64, %ecx
    mov $0xfedcba9876543210, %rax
    mov $1000003, %esi
2:  xor %edx, %edx
    div %rsi
    lea (%rax,%rdx), %rax
    not %rax
    dec %ecx
    jnz 2b
    dec %rdi
    jnz 1b
    ret

    /* fib(15) the slow way: 1,973 calls. */
    .globl run_calls
    .balign 64
run_calls:
    push %rbx
    mov %rdi, %rbx
1:  mov $15, %edi
    call fib
    dec %rbx
    jnz 1b
    pop %rbx
    ret
    .balign 16
fib:
    mov %edi, %eax
    cmp $2, %edi
    jb 3f
    push %rbx
    push %rdi
    dec %edi
    call fib
    mov %eax, %ebx
    pop %rdi
    sub $2, %edi
    call fib
    add %ebx, %eax
    pop %rbx
3:  ret

    /* uint64_t copy_quadwords(to, from, quadwords): returns the last one */
    .globl copy_quadwords
    .balign 64
copy_quadwords:
    xor %ecx, %ecx
1:  mov (%rsi,%rcx,8), %rax
    mov %rax, (%rdi,%rcx,8)
    inc %rcx
    cmp %rdx, %rcx
    jne 1b
    ret

    .section .note.GNU-stack, "", @progbits
