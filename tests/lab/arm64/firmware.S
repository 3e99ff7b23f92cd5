/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * firmware.S - a flat image that says where it is and what x0 has, resets the machine once, and powers it off in its second life.
 * A word of its own, which it changes, is as in the file again then; a counter in RAM beside it goes on.
 */
	.text
	.globl	_start
_start:	mov	x20, x0
	adr	x0, hello
	bl	puts
	adr	x0, _start
	bl	hex
	ldr	w0, [x20]
	rev	w0, w0
	bl	hex
	adr	x1, changed
	ldr	w0, [x1]
	bl	hex
	mov	w2, #1
	str	w2, [x1]
	adr	x0, end
	bl	puts
	movz	x3, #0x8080, lsl #16
	ldr	w4, [x3]
	add	w4, w4, #1
	str	w4, [x3]
	movz	w0, #0x8400, lsl #16
	add	w0, w0, #9		/* PSCI: SYSTEM_RESET, */
	cmp	w4, #1
	b.eq	1f
	sub	w0, w0, #1		/* SYSTEM_OFF */
1:	hvc	#0
2:	wfi
	b	2b

putc:	movz	x9, #0x0100, lsl #16	/* serial0 */
1:	ldrb	w10, [x9, #5]
	tbz	w10, #5, 1b
	strb	w0, [x9]
	ret

puts:	mov	x11, x30
	mov	x12, x0
1:	ldrb	w0, [x12], #1
	cbz	w0, 2f
	bl	putc
	b	1b
2:	ret	x11

/* 32 bits. */
hex:	mov	x11, x30
	mov	w12, w0
	mov	w13, #8
	mov	w0, #' '
	bl	putc
1:	ror	w12, w12, #28
	and	w0, w12, #15
	add	w0, w0, #'0'
	cmp	w0, #'9'
	b.ls	2f
	add	w0, w0, #'a' - '0' - 10
2:	bl	putc
	subs	w13, w13, #1
	b.ne	1b
	ret	x11

hello:	.asciz	"\nfirmware"
end:	.asciz	" end\n"
	.balign	4
changed: .word	0x1234
