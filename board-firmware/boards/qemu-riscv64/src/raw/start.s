# From reset to Rust, and from a trap to Rust and back.
# Numbers: RISC-V Privileged Architecture 20211203.

    .section .text.start, "ax"
    .globl _start
_start:
    csrw    mie, zero               # nothing wakes a hart that is parked
    la      t0, trap
    csrw    mtvec, t0               # direct: all traps come there
    csrr    t0, mhartid
    bnez    t0, park                # hart 0 is the board

    .option push
    .option norelax
    la      gp, __global_pointer$
    .option pop
    la      t0, trap_stack_end
    csrw    mscratch, t0
    li      t0, 1 << 13             # mstatus.FS = initial: the ABI has floating-point registers
    csrs    mstatus, t0
    csrw    fcsr, zero

    # Physical memory protection, locked, so that it binds machine mode: entry 0,
    # 2 MiB at 0x81000000, no right; entry 1, 2 MiB at 0x80000000, read and execute.
    li      t0, 0x81000000 >> 2 | 0x3ffff
    csrw    pmpaddr0, t0
    li      t0, 0x80000000 >> 2 | 0x3ffff
    csrw    pmpaddr1, t0
    li      t0, 0x9d98
    csrw    pmpcfg0, t0

    # Initial values, which the image has behind its constants.
    la      t0, __data_image
    la      t1, __data_start
    la      t2, __data_end
1:  bgeu    t1, t2, 2f
    ld      t3, (t0)
    sd      t3, (t1)
    addi    t0, t0, 8
    addi    t1, t1, 8
    j       1b

2:  la      t0, __bss_start
    la      t1, __bss_end
3:  bgeu    t0, t1, 4f
    sd      zero, (t0)
    addi    t0, t0, 8
    j       3b

    # What the stack has never reached keeps this paint.
4:  la      t0, __stack_start
    la      sp, __stack_end
    li      t1, 0x5AA5C33C5AA5C33C
5:  sd      t1, (t0)
    addi    t0, t0, 8
    bltu    t0, sp, 5b
    call    start
park:
    wfi
    j       park

    .section .bss.trap_stack, "aw", @nobits
    .balign 16
    .skip   8192
trap_stack_end:

# A trap runs on a stack of its own: the other one may be what is wrong. There
# it leaves what `take_trap` wants: mepc, then x1 to x31; behind them the
# floating-point registers that a function need not keep. No trap is taken
# inside another, so mepc and mstatus stay as they are.
    .section .text, "ax"
    .balign 4
trap:
    csrrw   sp, mscratch, sp
    addi    sp, sp, -432
    .irp n, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    sd      x\n, 8*\n(sp)
    .endr
    csrr    t0, mscratch
    sd      t0, 8*2(sp)
    csrr    t0, mepc
    sd      t0, 0(sp)
    .irp n, 0,1,2,3,4,5,6,7
    fsd     f\n, 256+8*\n(sp)
    .endr
    .irp n, 10,11,12,13,14,15,16,17
    fsd     f\n, 240+8*\n(sp)
    .endr
    .irp n, 28,29,30,31
    fsd     f\n, 160+8*\n(sp)
    .endr
    frcsr   t0
    sd      t0, 416(sp)

    csrr    a0, mcause
    csrr    a1, mtval
    mv      a2, sp
    call    take_trap

    ld      t0, 416(sp)
    fscsr   t0
    .irp n, 0,1,2,3,4,5,6,7
    fld     f\n, 256+8*\n(sp)
    .endr
    .irp n, 10,11,12,13,14,15,16,17
    fld     f\n, 240+8*\n(sp)
    .endr
    .irp n, 28,29,30,31
    fld     f\n, 160+8*\n(sp)
    .endr
    .irp n, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld      x\n, 8*\n(sp)
    .endr
    addi    sp, sp, 432
    csrrw   sp, mscratch, sp
    mret
