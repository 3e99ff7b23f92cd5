/* SPDX-License-Identifier: BSD-2-Clause */
/* ps2.c - PS/2 keyboard and mouse; see ps2.h. */
#include "dev/ps2.h"

#include <string.h>

enum {
	PS2_ACK = 0xfa,
	PS2_RESEND = 0xfe,
	PS2_BAT_OK = 0xaa,
	PS2_BREAK = 0xf0,

	/* both */
	PS2_RESET = 0xff,
	PS2_AGAIN = 0xfe,
	PS2_DEFAULTS = 0xf6,
	PS2_DISABLE = 0xf5,
	PS2_ENABLE = 0xf4,
	PS2_RATE = 0xf3,
	PS2_ID = 0xf2,

	KBD_SET = 0xf0,
	KBD_ECHO = 0xee,
	KBD_LEDS = 0xed,
	KBD_OVERRUN_1 = 0xff, /* in sets 2 and 3 it is 0 */

	MOUSE_REMOTE = 0xf0,
	MOUSE_WRAP = 0xee,
	MOUSE_UNWRAP = 0xec,
	MOUSE_READ = 0xeb,
	MOUSE_STREAM = 0xea,
	MOUSE_STATUS = 0xe9,
	MOUSE_RESOLUTION = 0xe8,
	MOUSE_SCALING_2 = 0xe7,
	MOUSE_SCALING_1 = 0xe6,
};

/* What a controller makes of set 2 in translating it to set 1; codes from 0x80 stay, but for two. */
uint8_t ps2_set1(uint8_t code)
{
	static const uint8_t table[128] = {
		0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, /* 00 */
		0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59, /* 08 */
		0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, /* 10 */
		0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b, /* 18 */
		0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, /* 20 */
		0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d, /* 28 */
		0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, /* 30 */
		0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f, /* 38 */
		0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, /* 40 */
		0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61, /* 48 */
		0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, /* 50 */
		0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, /* 58 */
		0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, /* 60 */
		0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, /* 68 */
		0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, /* 70 */
		0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, /* 78 */
	};

	if (code < sizeof(table))
		return table[code];
	return code == 0x83 ? 0x41 : code == 0x84 ? 0x54 : code;
}

/* Replies go before codes and packets. No command has more of them than there is room for. */
static void ps2_reply(uint8_t *queue, uint8_t head, uint8_t *len, uint8_t byte)
{
	if (*len < PS2_REPLIES)
		queue[(head + (*len)++) % PS2_REPLIES] = byte;
}

static void kbd_reply(struct ps2_kbd *kbd, uint8_t byte)
{
	ps2_reply(kbd->reply, kbd->reply_head, &kbd->reply_len, byte);
}

static void kbd_defaults(struct ps2_kbd *kbd)
{
	kbd->set = 2;
	kbd->rate = 0x2b; /* 10.9 codes a second, 500 ms before the first */
	kbd->command = 0;
	kbd->code_len = 0;
}

void ps2_kbd_reset(struct ps2_kbd *kbd)
{
	memset(kbd, 0, sizeof(*kbd));
	kbd_defaults(kbd);
	kbd->scanning = 1;
}

void ps2_kbd_sanitise(struct ps2_kbd *kbd)
{
	kbd->reply_head %= PS2_REPLIES;
	kbd->reply_len %= PS2_REPLIES + 1;
	kbd->code_head %= PS2_CODES;
	kbd->code_len %= PS2_CODES + 1;
}

/* The byte that belongs to an earlier command. */
static void kbd_parameter(struct ps2_kbd *kbd, uint8_t command, uint8_t byte)
{
	switch (command) {
	case KBD_LEDS:
		kbd->leds = byte & 7;
		break;
	case PS2_RATE:
		kbd->rate = byte & 0x7f;
		break;
	case KBD_SET:
		if (byte > 2) {
			/* No set 3: say so in the only way that there is. */
			kbd_reply(kbd, PS2_RESEND);
			return;
		}
		kbd_reply(kbd, PS2_ACK);
		if (byte == 0)
			kbd_reply(kbd, kbd->set);
		else
			kbd->set = byte;
		return;
	}
	kbd_reply(kbd, PS2_ACK);
}

static void kbd_command(struct ps2_kbd *kbd, uint8_t byte)
{
	switch (byte) {
	case PS2_RESET:
		ps2_kbd_reset(kbd);
		kbd_reply(kbd, PS2_ACK);
		kbd_reply(kbd, PS2_BAT_OK);
		return;
	case PS2_AGAIN:
		kbd_reply(kbd, kbd->last);
		return;
	case KBD_ECHO:
		kbd_reply(kbd, KBD_ECHO);
		return;
	case PS2_DEFAULTS:
		kbd_defaults(kbd);
		break;
	case PS2_DISABLE:
		kbd_defaults(kbd);
		kbd->scanning = 0;
		break;
	case PS2_ENABLE:
		kbd->code_len = 0;
		kbd->scanning = 1;
		break;
	case PS2_ID:
		kbd_reply(kbd, PS2_ACK);
		kbd_reply(kbd, 0xab);
		kbd_reply(kbd, 0x83);
		return;
	case PS2_RATE:
	case KBD_SET:
	case KBD_LEDS:
		kbd->command = byte;
		break;
	case 0xf7: /* per-key behaviour, for set 3 alone: nothing to set */
	case 0xf8:
	case 0xf9:
	case 0xfa:
		break;
	default:
		kbd_reply(kbd, PS2_RESEND);
		return;
	}
	kbd_reply(kbd, PS2_ACK);
}

void ps2_kbd_write(struct ps2_kbd *kbd, uint8_t byte)
{
	uint8_t command = kbd->command;

	/* A byte from the host ends what the keyboard was about to answer. */
	kbd->reply_len = 0;
	kbd->command = 0;
	/* A command where a parameter is due stands for itself. */
	if (command && byte < KBD_LEDS)
		kbd_parameter(kbd, command, byte);
	else
		kbd_command(kbd, byte);
}

bool ps2_kbd_read(struct ps2_kbd *kbd, uint8_t *byte)
{
	if (kbd->reply_len) {
		*byte = kbd->reply[kbd->reply_head];
		kbd->reply_head = (kbd->reply_head + 1) % PS2_REPLIES;
		kbd->reply_len--;
	} else if (kbd->code_len && !kbd->command) {
		*byte = kbd->code[kbd->code_head];
		kbd->code_head = (kbd->code_head + 1) % PS2_CODES;
		kbd->code_len--;
	} else {
		return false;
	}
	kbd->last = *byte;
	return true;
}

static void kbd_push(struct ps2_kbd *kbd, uint8_t code)
{
	kbd->code[(kbd->code_head + kbd->code_len++) % PS2_CODES] = code;
}

bool ps2_kbd_key(struct ps2_kbd *kbd, const uint8_t *codes, size_t n)
{
	bool up = false;

	if (!kbd->scanning)
		return false;
	if (n >= PS2_CODES || kbd->code_len + n >= PS2_CODES) {
		if (kbd->code_len < PS2_CODES)
			kbd_push(kbd, kbd->set == 1 ? KBD_OVERRUN_1 : 0);
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (kbd->set != 1) {
			kbd_push(kbd, codes[i]);
		} else if (codes[i] == PS2_BREAK) {
			up = true;
		} else {
			kbd_push(kbd, ps2_set1(codes[i]) | (up ? 0x80 : 0));
			up = false;
		}
	}
	return true;
}

static void mouse_reply(struct ps2_mouse *mouse, uint8_t byte)
{
	ps2_reply(mouse->reply, mouse->reply_head, &mouse->reply_len, byte);
}

static void mouse_defaults(struct ps2_mouse *mouse)
{
	mouse->reporting = mouse->remote = mouse->scaling = 0;
	mouse->resolution = 2; /* 4 counts a millimetre */
	mouse->rate = 100;
	mouse->dx = mouse->dy = 0;
}

void ps2_mouse_reset(struct ps2_mouse *mouse)
{
	uint8_t buttons = mouse->buttons;

	memset(mouse, 0, sizeof(*mouse));
	mouse->buttons = mouse->reported = buttons & 7;
	mouse_defaults(mouse);
}

void ps2_mouse_sanitise(struct ps2_mouse *mouse)
{
	mouse->reply_head %= PS2_REPLIES;
	mouse->reply_len %= PS2_REPLIES + 1;
	mouse->packet_len %= PS2_PACKET + 1;
	mouse->packet_at %= PS2_PACKET + 1;
}

/* Takes up to a packet's worth of one axis; what does not fit stays for the next. */
static int mouse_take(uint32_t *axis)
{
	int value = (int32_t)*axis;

	value = value > 255 ? 255 : value < -255 ? -255 : value;
	*axis -= (uint32_t)value;
	return value;
}

/* Scaling 2:1 is not a factor of two: small movements are left fine. */
static int mouse_scale(int value)
{
	static const uint8_t small[6] = { 0, 1, 1, 3, 6, 9 };
	int size = value < 0 ? -value : value;

	size = size < 6 ? small[size] : 2 * size;
	if (size > 255)
		size = 255;
	return value < 0 ? -size : size;
}

static void mouse_make_packet(struct ps2_mouse *mouse, bool scaled)
{
	int dx = mouse_take(&mouse->dx), dy = mouse_take(&mouse->dy);

	if (scaled) {
		dx = mouse_scale(dx);
		dy = mouse_scale(dy);
	}
	mouse->packet[0] = 0x08 | mouse->buttons | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0);
	mouse->packet[1] = dx & 0xff;
	mouse->packet[2] = dy & 0xff;
	mouse->packet_at = 0;
	mouse->packet_len = PS2_PACKET;
	mouse->reported = mouse->buttons;
}

static void mouse_status(struct ps2_mouse *mouse)
{
	uint8_t b = mouse->buttons;

	mouse_reply(mouse, PS2_ACK);
	mouse_reply(mouse, (mouse->remote ? 0x40 : 0) | (mouse->reporting ? 0x20 : 0) | (mouse->scaling ? 0x10 : 0) |
				   (b & 1) << 2 | (b & 4) >> 1 | (b & 2) >> 1);
	mouse_reply(mouse, mouse->resolution);
	mouse_reply(mouse, mouse->rate);
}

static void mouse_parameter(struct ps2_mouse *mouse, uint8_t command, uint8_t byte)
{
	if (command == MOUSE_RESOLUTION && byte > 3) {
		mouse_reply(mouse, PS2_RESEND);
		mouse->command = command;
		return;
	}
	if (command == MOUSE_RESOLUTION)
		mouse->resolution = byte;
	else
		mouse->rate = byte;
	mouse_reply(mouse, PS2_ACK);
}

/* Commands that set something and are only acknowledged; false: not one of them. */
static bool mouse_set(struct ps2_mouse *mouse, uint8_t byte)
{
	switch (byte) {
	case PS2_DEFAULTS:
		mouse_defaults(mouse);
		break;
	case PS2_DISABLE:
		mouse->reporting = 0;
		break;
	case PS2_ENABLE:
		mouse->reporting = 1;
		break;
	case MOUSE_REMOTE:
		mouse->remote = 1;
		break;
	case MOUSE_STREAM:
		mouse->remote = 0;
		break;
	case MOUSE_WRAP:
		mouse->wrap = 1;
		break;
	case MOUSE_UNWRAP:
		mouse->wrap = 0;
		break;
	case MOUSE_SCALING_1:
		mouse->scaling = 0;
		break;
	case MOUSE_SCALING_2:
		mouse->scaling = 1;
		break;
	case PS2_RATE:
	case MOUSE_RESOLUTION:
		mouse->command = byte;
		break;
	default:
		return false;
	}
	/* Movement before a change of mode is not told after it. */
	if (!mouse->command)
		mouse->dx = mouse->dy = 0;
	mouse_reply(mouse, PS2_ACK);
	return true;
}

static void mouse_command(struct ps2_mouse *mouse, uint8_t byte)
{
	switch (byte) {
	case PS2_RESET:
		ps2_mouse_reset(mouse);
		mouse_reply(mouse, PS2_ACK);
		mouse_reply(mouse, PS2_BAT_OK);
		mouse_reply(mouse, 0x00);
		break;
	case PS2_ID:
		mouse_reply(mouse, PS2_ACK);
		mouse_reply(mouse, 0x00);
		break;
	case MOUSE_READ:
		mouse_reply(mouse, PS2_ACK);
		mouse_make_packet(mouse, false);
		break;
	case MOUSE_STATUS:
		mouse_status(mouse);
		break;
	case PS2_AGAIN:
		mouse_reply(mouse, mouse->last);
		break;
	default:
		if (!mouse_set(mouse, byte))
			mouse_reply(mouse, PS2_RESEND);
	}
}

void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte)
{
	uint8_t command = mouse->command;

	mouse->reply_len = 0;
	mouse->packet_len = mouse->packet_at = 0;
	mouse->command = 0;
	if (mouse->wrap && byte != PS2_RESET && byte != MOUSE_UNWRAP)
		mouse_reply(mouse, byte);
	else if (command && byte < MOUSE_SCALING_1)
		mouse_parameter(mouse, command, byte);
	else
		mouse_command(mouse, byte);
}

bool ps2_mouse_read(struct ps2_mouse *mouse, uint8_t *byte)
{
	bool news = mouse->dx || mouse->dy || mouse->buttons != mouse->reported;

	if (mouse->reply_len) {
		*byte = mouse->reply[mouse->reply_head];
		mouse->reply_head = (mouse->reply_head + 1) % PS2_REPLIES;
		mouse->reply_len--;
		mouse->last = *byte;
		return true;
	}
	/* The host is in the middle of a command: what follows must be its acknowledgement. */
	if (mouse->command)
		return false;
	if (mouse->packet_at >= mouse->packet_len) {
		if (!mouse->reporting || mouse->remote || mouse->wrap || !news)
			return false;
		mouse_make_packet(mouse, mouse->scaling);
	}
	*byte = mouse->packet[mouse->packet_at++ % PS2_PACKET];
	mouse->last = *byte;
	return true;
}

bool ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, uint8_t buttons)
{
	const int most = 1 << 16; /* a host that does not read is not told of a journey */
	int x = (int32_t)mouse->dx, y = (int32_t)mouse->dy;

	dx = dx > most ? most : dx < -most ? -most : dx;
	dy = dy > most ? most : dy < -most ? -most : dy;
	mouse->buttons = buttons & 7;
	x += x > most || x < -most ? 0 : dx;
	y += y > most || y < -most ? 0 : dy;
	mouse->dx = (uint32_t)x;
	mouse->dy = (uint32_t)y;
	return mouse->reporting || mouse->remote;
}
