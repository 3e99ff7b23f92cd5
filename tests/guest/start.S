/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * start.S - how a flat guest starts: by the 64-bit entry, or, built with -DPVH, by PVH's 32-bit one, which goes
 * on to long mode by itself. Also the trampoline that brings a second CPU from real mode to ap_main().
 */
	.section .note.pvh, "a", @note
#ifdef PVH
	.balign	4
	.long	4, 4, 18
	.asciz	"Xen"
	.long	start32
#endif

	.text
	.code32
#ifdef PVH
start32:
	movl	%ebx, boot_arg
	movl	$stack_end, %esp
	/* Map the first 4 GiB one to one: 4 directories of 2 MiB pages. */
	movl	$pml4, %edi
	movl	$(pdpt + 3), (%edi)
	movl	$pdpt, %edi
	movl	$(pds + 3), %eax
	movl	$4, %ecx
1:	movl	%eax, (%edi)
	addl	$8, %edi
	addl	$4096, %eax
	loop	1b
	movl	$pds, %edi
	movl	$0x83, %eax
	movl	$2048, %ecx
1:	movl	%eax, (%edi)
	addl	$8, %edi
	addl	$0x200000, %eax
	loop	1b
	movl	$pml4, %eax
	movl	%eax, %cr3
	call	long_mode_on
	lgdt	gdt_pointer
	ljmp	$0x10, $go64

	.code64
go64:	jmp	run_main
	.code32
#endif

/* Paging and long mode; CR3 is set. Clobbers eax, ecx, edx. */
long_mode_on:
	movl	%cr4, %eax
	orl	$0x20, %eax
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000001, %eax
	movl	%eax, %cr0
	ret

	.code64
	.globl	start64
start64:
	/* What the registers held is a test's business: a reset must not let an old access finish into them. */
	movq	%rax, entry_regs
	movq	%rbx, entry_regs + 8
	movq	%rcx, entry_regs + 16
	movq	%rdx, entry_regs + 24
	movq	%rsi, boot_arg
	lgdt	gdt_pointer
run_main:
	movl	$0x18, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movq	$stack_end, %rsp
	lidt	idt_pointer
	cld
	call	guest_main
1:	hlt
	jmp	1b

/* Every exception ends here: say so and end the guest, which else would reset for ever. */
	.globl	exception
exception:
	movq	$stack_end, %rsp
	call	guest_exception
1:	hlt
	jmp	1b

/*
 * Copied to 0x70000, where a start-up IPI with vector 0x70 begins, in real mode. Its own data is reached through
 * cs. The page tables are those of the first CPU, left at ap_cr3.
 */
	.code16
	.globl	trampoline, trampoline_end
trampoline:
	cli
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	trampoline_gdt - trampoline
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$0x08, $ap32
	.balign	8
trampoline_gdt:
	.word	gdt_end - gdt - 1
	.long	gdt
trampoline_end:

	.code32
ap32:
	movl	$0x18, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$ap_stack_end, %esp
	movl	ap_cr3, %eax
	movl	%eax, %cr3
	call	long_mode_on
	ljmp	$0x10, $ap64

	.code64
	.weak	ap_main /* guests of one CPU have none */
ap64:
	movq	$ap_stack_end, %rsp
	lidt	idt_pointer
	cld
	call	ap_main
1:	hlt
	jmp	1b

	.data
	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x08: 32-bit code */
	.quad	0x00af9b000000ffff	/* 0x10: 64-bit code */
	.quad	0x00cf93000000ffff	/* 0x18: data */
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt
	.globl	idt_pointer
idt_pointer:
	.word	32 * 16 - 1
	.quad	idt

	.bss
	.balign	4096
#ifdef PVH
pml4:	.skip	4096
pdpt:	.skip	4096
pds:	.skip	4 * 4096
#endif
	.skip	16384
stack_end:
	.skip	8192
ap_stack_end:
	.globl	idt, boot_arg, entry_regs, ap_cr3
idt:	.skip	32 * 16
boot_arg: .skip	8
entry_regs: .skip 32
ap_cr3:	.skip	8
	.section .note.GNU-stack, "", @progbits
