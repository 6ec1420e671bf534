# From the processor's first instruction to `main`. Another architecture: copy
# the one of ../qemu-aarch64 or ../qemu-powerpc.

    .section .start, "ax"
    .globl _start
_start:
    csrci   mstatus, 8              # MIE, which a boot ROM may have left on
    csrw    mie, zero
    la      t0, trap
    csrw    mtvec, t0
    csrr    t0, mhartid
    bnez    t0, park                # one hart is the board

    .option push
    .option norelax
    la      gp, __global_pointer$
    .option pop
    la      sp, __stack_top

    la      t0, __data_image        # flash to RAM
    la      t1, __data_start
    la      t2, __data_end
1:  bgeu    t1, t2, 2f
    lw      t3, (t0)
    sw      t3, (t1)
    addi    t0, t0, 4
    addi    t1, t1, 4
    j       1b
2:  la      t1, __bss_start
    la      t2, __bss_end
3:  bgeu    t1, t2, 4f
    sw      zero, (t1)
    addi    t1, t1, 4
    j       3b
4:  call    main

# No interrupt traps (see `wait_for_interrupt`), so whatever does is a fault:
# on a stack of its own, because the other one may be what is wrong.
    .balign 4
trap:
    csrr    a0, mcause
    csrr    a1, mepc
    csrr    a2, mtval
    la      sp, __trap_stack_top
    call    take_trap
park:
    wfi
    j       park

    .section .bss.trap_stack, "aw", @nobits
    .balign 16
    .skip   1024
__trap_stack_top:
