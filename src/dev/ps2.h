/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ps2.h - a keyboard and a mouse as the PS/2 wire knows them: command bytes in, replies, scan codes and packets out.
 *
 * Semantics are those of IBM's PS/2 hardware interface technical reference (keyboard, auxiliary device). Neither
 * knows its controller; whoever calls in serialises the calls.
 */
#ifndef TRAPLINE_DEV_PS2_H
#define TRAPLINE_DEV_PS2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PS2_REPLIES 8
#define PS2_CODES   17 /* 16 scan codes, and one place for the code that says that more were lost */
#define PS2_PACKET  3

struct ps2_kbd {
	uint8_t scanning, set, rate, leds;
	uint8_t command; /* whose parameter comes next; 0: none */
	uint8_t last;    /* sent; for Resend */
	uint8_t reply_head, reply_len, reply[PS2_REPLIES];
	uint8_t code_head, code_len, code[PS2_CODES];
};

struct ps2_mouse {
	uint8_t reporting, remote, wrap, scaling, resolution, rate;
	uint8_t command, last;
	uint8_t buttons, reported; /* now, and as the last packet told */
	uint8_t reply_head, reply_len, reply[PS2_REPLIES];
	uint8_t packet_at, packet_len, packet[PS2_PACKET];
	uint32_t dx, dy; /* signed: movement not told yet */
};

/* To the state in which firmware leaves it: as after Reset, the keyboard scanning. */
void ps2_kbd_reset(struct ps2_kbd *kbd);
void ps2_mouse_reset(struct ps2_mouse *mouse);
/* After a restore: any bytes give a usable state. */
void ps2_kbd_sanitise(struct ps2_kbd *kbd);
void ps2_mouse_sanitise(struct ps2_mouse *mouse);

/* A byte from the host. */
void ps2_kbd_write(struct ps2_kbd *kbd, uint8_t byte);
void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte);
/* The next byte for the host; false: none. */
bool ps2_kbd_read(struct ps2_kbd *kbd, uint8_t *byte);
bool ps2_mouse_read(struct ps2_mouse *mouse, uint8_t *byte);

/*
 * One key's event in scan code set 2, make or break, n bytes: all of it is queued, or false and none (not
 * scanning, or no room; then the host is told of an overrun).
 */
bool ps2_kbd_key(struct ps2_kbd *kbd, const uint8_t *codes, size_t n);
/*
 * Movement in counts, right and up positive; buttons: 1 left, 2 right, 4 middle. Told when the host takes it; false: it
 * has not asked for it.
 */
bool ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, uint8_t buttons);

/* Scan code set 2 to set 1, one byte, as keyboard controllers translate; 0xf0 (break) is the caller's. */
uint8_t ps2_set1(uint8_t code);

#endif
