// From reset to Rust, and from an exception to Rust and back.

.section .text.start, "ax"
.global _start
_start:
    // QEMU starts its one processor at EL1, unless it is told to emulate more.
    mrs x0, CurrentEL
    cmp x0, #(1 << 2)
    b.eq 2f
1:  wfi
    b 1b

2:  msr daifset, #0xf
    // Floating point: compiled code uses its registers for copies.
    mov x0, #(3 << 20)
    msr cpacr_el1, x0
    ldr x0, =vectors
    msr vbar_el1, x0
    isb

    // Initial values, which the image has behind its constants.
    ldr x0, =__data_start
    ldr x1, =__data_end
    ldr x2, =__data_image
3:  cmp x0, x1
    b.hs 4f
    ldp x3, x4, [x2], #16
    stp x3, x4, [x0], #16
    b 3b

4:  ldr x0, =__bss_start
    ldr x1, =__bss_end
5:  cmp x0, x1
    b.hs 6f
    stp xzr, xzr, [x0], #16
    b 5b

    // What the stack has never reached keeps this paint.
6:  ldr x0, =__stack_start
    ldr x1, =__stack_end
    ldr x2, =0x5AA5C33C5AA5C33C
7:  stp x2, x2, [x0], #16
    cmp x0, x1
    b.lo 7b
    mov sp, x1
    mov x29, xzr
    mov x30, xzr
    b start

// All that a called function may change, in 800 bytes.
.macro save
    sub sp, sp, #800
    stp x0, x1, [sp, #0]
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x19, [sp, #144]
    stp x20, x21, [sp, #160]
    stp x22, x23, [sp, #176]
    stp x24, x25, [sp, #192]
    stp x26, x27, [sp, #208]
    stp x28, x29, [sp, #224]
    mrs x0, elr_el1
    mrs x1, spsr_el1
    stp x30, x0, [sp, #240]
    str x1, [sp, #256]
.endm

.macro vector handler
    .balign 0x80
    b \handler
.endm

.section .text, "ax"
.balign 0x800
vectors:
    // On SP_EL0, which is never used.
    vector unexpected
    vector unexpected
    vector unexpected
    vector unexpected
    // On SP_EL1: synchronous, IRQ, FIQ, SError.
    vector unexpected
    vector interrupt
    vector unexpected
    vector unexpected
    // From EL0, which is never entered.
    .rept 8
    vector unexpected
    .endr

unexpected:
    // Where the stack ran over there is none: take the top of it.
    msr tpidr_el1, x0
    mrs x0, far_el1
    lsr x0, x0, #21
    cmp x0, #(0x41000000 >> 21)
    b.ne 1f
    ldr x0, =__stack_end
    mov sp, x0
1:  mrs x0, tpidr_el1
    save
    mov x0, sp
    mrs x1, esr_el1
    mrs x2, far_el1
    b exception

interrupt:
    save
    stp q0, q1, [sp, #272]
    stp q2, q3, [sp, #304]
    stp q4, q5, [sp, #336]
    stp q6, q7, [sp, #368]
    stp q16, q17, [sp, #400]
    stp q18, q19, [sp, #432]
    stp q20, q21, [sp, #464]
    stp q22, q23, [sp, #496]
    stp q24, q25, [sp, #528]
    stp q26, q27, [sp, #560]
    stp q28, q29, [sp, #592]
    stp q30, q31, [sp, #624]
    // Of these a called function keeps the lower halves only.
    stp q8, q9, [sp, #672]
    stp q10, q11, [sp, #704]
    stp q12, q13, [sp, #736]
    stp q14, q15, [sp, #768]
    mrs x0, fpcr
    mrs x1, fpsr
    str x0, [sp, #656]
    str x1, [sp, #664]
    bl take_interrupt
    ldr x0, [sp, #656]
    ldr x1, [sp, #664]
    msr fpcr, x0
    msr fpsr, x1
    ldp q0, q1, [sp, #272]
    ldp q2, q3, [sp, #304]
    ldp q4, q5, [sp, #336]
    ldp q6, q7, [sp, #368]
    ldp q16, q17, [sp, #400]
    ldp q18, q19, [sp, #432]
    ldp q20, q21, [sp, #464]
    ldp q22, q23, [sp, #496]
    ldp q24, q25, [sp, #528]
    ldp q26, q27, [sp, #560]
    ldp q28, q29, [sp, #592]
    ldp q30, q31, [sp, #624]
    ldp q8, q9, [sp, #672]
    ldp q10, q11, [sp, #704]
    ldp q12, q13, [sp, #736]
    ldp q14, q15, [sp, #768]
    ldr x1, [sp, #256]
    ldp x30, x0, [sp, #240]
    msr elr_el1, x0
    msr spsr_el1, x1
    ldp x0, x1, [sp, #0]
    ldp x2, x3, [sp, #16]
    ldp x4, x5, [sp, #32]
    ldp x6, x7, [sp, #48]
    ldp x8, x9, [sp, #64]
    ldp x10, x11, [sp, #80]
    ldp x12, x13, [sp, #96]
    ldp x14, x15, [sp, #112]
    ldp x16, x17, [sp, #128]
    ldr x18, [sp, #144]
    // x19 to x29 are what a called function leaves alone.
    add sp, sp, #800
    eret
