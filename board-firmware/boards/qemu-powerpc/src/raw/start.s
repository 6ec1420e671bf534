# From QEMU's first instruction to Rust, from an interrupt to Rust and back, and
# the sleep in between (PowerPC e500 Core Family Reference Manual). QEMU enters an
# ELF file as ePAPR says: caches coherent, interrupts off, and TLB1's entry 0
# mapping physical memory from 0 up to the device tree.

    .equ    SRR0, 26
    .equ    SRR1, 27
    .equ    IVPR, 63
    .equ    SPRG0, 272
    .equ    SPRG1, 273
    .equ    TCR, 340
    .equ    IVOR0, 400
    .equ    IVOR32, 528
    .equ    MAS0, 624
    .equ    MAS1, 625
    .equ    MAS2, 626
    .equ    MAS3, 627
    .equ    MAS7, 944
    .equ    HID0, 1008

    .equ    TCR_DIE, 0x04000000         # interrupt at the decrementer's end
    .equ    HID0_DOZE_TBEN, 0x00804000  # MSR[WE] means doze; the time base runs
    .equ    MSR_CE_ME, 0x00021000
    .equ    PAINT, 0x5aa5c33c

    .macro  value register, number
    lis     \register, \number@h
    ori     \register, \register, \number@l
    .endm

# One entry of TLB1: 4^tsize KiB; `mas2` is address and WIMGE, `mas3` address and rights.
    .macro  map entry, tsize, mas2, mas3
    lis     3, (0x1000 | \entry)
    mtspr   MAS0, 3
    lis     3, 0xc000                   # valid, protected
    ori     3, 3, (\tsize << 8)
    mtspr   MAS1, 3
    value   3, \mas2
    mtspr   MAS2, 3
    value   3, \mas3
    mtspr   MAS3, 3
    tlbwe
    isync
    .endm

# Sixteen bytes for each kind of interrupt; all but two only say which they are.
    .macro  unexpected number
    .balign 16
    mtspr   SPRG0, 3
    li      3, \number
    b       dump
    .endm

# The words from `start` to `end`, of which there is at least one.
    .macro  fill start, end, word
    value   3, \start
    value   4, \end
    value   5, \word
3:  stw     5, 0(3)
    addi    3, 3, 4
    cmplw   3, 4
    blt     3b
    .endm

# A handler in Rust, for what only comes where interrupts are on.
    .macro  interrupt name, function
\name:
    stwu    1, -160(1)
    stw     0, 8(1)
    mflr    0
    bl      save
    bl      \function
    b       return
    .endm

    .section .text.vectors, "ax"
    .balign 65536
vectors:
    .irp    number, 0, 1, 2, 3
    unexpected \number
    .endr
    .balign 16
    b       external
    .irp    number, 5, 6, 7, 8, 9
    unexpected \number
    .endr
    .balign 16
    b       decrementer
    .irp    number, 11, 12, 13, 14, 15, 32, 33, 34, 35
    unexpected \number
    .endr

    .globl  _start
_start:
    wrteei  0
    li      0, 0
    mtspr   MAS7, 0                     # physical addresses below 4 GiB
# The entry that maps this very code is replaced, in one instruction, by a
# smaller one at the same place. Address 0 is mapped no longer.
    map     0, 5, 0x02000004, 0x02000011    # rom          1 MiB  M    execute, read
    map     1, 7, 0x01000004, 0x01000005    # ram         16 MiB  M    read, write
    map     2, 1, 0x02100004, 0x02100001    # parameters   4 KiB  M    read
    map     3, 5, 0xe000000a, 0xe0000005    # registers    1 MiB  I G  read, write
    map     4, 9, 0xc000000a, 0xc0000005    # PCI        256 MiB  I G  read, write
    map     5, 9, 0xd000000a, 0xd0000005    # PCI        256 MiB  I G  read, write

    value   3, vectors
    mtspr   IVPR, 3
    .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    li      3, (16 * \number)
    mtspr   (IVOR0 + \number), 3
    .endr
    .irp    number, 0, 1, 2, 3
    li      3, (16 * (16 + \number))
    mtspr   (IVOR32 + \number), 3
    .endr
    value   3, HID0_DOZE_TBEN
    mtspr   HID0, 3
    value   3, TCR_DIE
    mtspr   TCR, 3

# Initial values, which the image has behind its constants.
    value   3, __data_start
    value   4, __data_end
    value   5, __data_image
1:  cmplw   3, 4
    bge     2f
    lwz     6, 0(5)
    stw     6, 0(3)
    addi    3, 3, 4
    addi    5, 5, 4
    b       1b

2:  fill    __bss_start, __bss_end, 0
# What the stack has never reached keeps this paint.
    fill    __stack_start, __stack_end, PAINT
    value   1, __stack_end
    li      0, 0
    stwu    0, -16(1)                   # the end of the chain of frames
    value   3, MSR_CE_ME
    mtmsr   3
    isync
    b       start

# The frame of an interrupt: 8 r0, 12 LR, 16 r3 to r31, then as below.
    interrupt external, external_interrupt
    interrupt decrementer, decrementer_interrupt

save:
    stw     0, 12(1)
    stmw    3, 16(1)
    mfcr    3
    mfctr   4
    mfxer   5
    mfspr   6, SRR0
    mfspr   7, SRR1
    stw     3, 132(1)
    stw     4, 136(1)
    stw     5, 140(1)
    stw     6, 144(1)
    stw     7, 148(1)
    blr

# Back to where it was, but not to sleep: behind the sleep if it was there, and
# without the MSR[WE] that the interrupt found set.
return:
    lwz     3, 144(1)
    value   4, asleep
    value   5, awake
    cmplw   3, 4
    blt     1f
    cmplw   3, 5
    bge     1f
    mr      3, 5
1:  mtspr   SRR0, 3
    lwz     3, 148(1)
    rlwinm  3, 3, 0, 14, 12
    mtspr   SRR1, 3
    lwz     3, 132(1)
    lwz     4, 136(1)
    lwz     5, 140(1)
    mtcrf   0xff, 3
    mtctr   4
    mtxer   5
    lwz     0, 12(1)
    mtlr    0
    lwz     0, 8(1)
    lmw     3, 16(1)
    addi    1, 1, 160
    rfi

# sleep(msr), with interrupts off: that MSR allows them and waits, both in one
# instruction. The processor may run on for a while before it stops, so it stays
# here until an interrupt sends it on.
    .globl  sleep
sleep:
    msync
    mtmsr   3
asleep:
    isync
    b       asleep
awake:
    blr

# dump(number, registers), on a stack of its own: the other one may be the fault.
dump:
    mtspr   SPRG1, 4
    value   4, registers
    stw     0, 0(4)
    stw     1, 4(4)
    stw     2, 8(4)
    stmw    5, 20(4)
    mfspr   5, SPRG0
    stw     5, 12(4)
    mfspr   5, SPRG1
    stw     5, 16(4)
    mflr    5
    stw     5, 128(4)
    value   1, dump_stack_end
    li      0, 0
    stwu    0, -16(1)
    b       unexpected_interrupt

    .section .bss
    .balign 16
registers:
    .space  144
    .space  8192
dump_stack_end:
