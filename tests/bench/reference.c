/* SPDX-License-Identifier: BSD-2-Clause */
/* reference.c - an AVL interval tree under one mutex; see reference.h for what it stands for. Frozen. */
#include "reference.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct node {
	struct node *left, *right;
	uint64_t base, last;
	uint64_t max; /* the highest `last` in the subtree */
	int height;
	unsigned refs;
	trap_fn *fn;
	void *dev;
	pthread_mutex_t *lock;
};

struct reference {
	pthread_mutex_t lock;
	struct node *root;
};

static int height(const struct node *node)
{
	return node ? node->height : 0;
}

static void update(struct node *node)
{
	int left = height(node->left), right = height(node->right);

	node->height = 1 + (left > right ? left : right);
	node->max = node->last;
	if (node->left && node->left->max > node->max)
		node->max = node->left->max;
	if (node->right && node->right->max > node->max)
		node->max = node->right->max;
}

static struct node *rotate_right(struct node *node)
{
	struct node *top = node->left;

	node->left = top->right;
	top->right = node;
	update(node);
	update(top);
	return top;
}

static struct node *rotate_left(struct node *node)
{
	struct node *top = node->right;

	node->right = top->left;
	top->left = node;
	update(node);
	update(top);
	return top;
}

static struct node *balance(struct node *node)
{
	int skew = height(node->left) - height(node->right);

	update(node);
	if (skew > 1) {
		if (height(node->left->left) < height(node->left->right))
			node->left = rotate_left(node->left);
		return rotate_right(node);
	}
	if (skew < -1) {
		if (height(node->right->right) < height(node->right->left))
			node->right = rotate_right(node->right);
		return rotate_left(node);
	}
	return node;
}

static struct node *insert(struct node *node, struct node *new)
{
	if (!node)
		return new;
	if (new->base < node->base)
		node->left = insert(node->left, new);
	else
		node->right = insert(node->right, new);
	return balance(node);
}

static struct node *find(struct node *node, uint64_t addr)
{
	while (node && (addr < node->base || addr > node->last)) {
		if (node->left && node->left->max >= addr)
			node = node->left;
		else
			node = node->right;
	}
	return node;
}

struct reference *reference_new(void)
{
	struct reference *ref = calloc(1, sizeof(*ref));

	if (ref)
		pthread_mutex_init(&ref->lock, NULL);
	return ref;
}

static void free_nodes(struct node *node)
{
	if (!node)
		return;
	free_nodes(node->left);
	free_nodes(node->right);
	free(node);
}

void reference_free(struct reference *ref)
{
	if (!ref)
		return;
	free_nodes(ref->root);
	pthread_mutex_destroy(&ref->lock);
	free(ref);
}

int reference_add(struct reference *ref, uint64_t base, uint64_t size, trap_fn *fn, void *dev, pthread_mutex_t *lock)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node)
		return -ENOMEM;
	*node = (struct node){ .base = base, .last = base + size - 1, .fn = fn, .dev = dev, .lock = lock };
	update(node);
	pthread_mutex_lock(&ref->lock);
	ref->root = insert(ref->root, node);
	pthread_mutex_unlock(&ref->lock);
	return 0;
}

bool reference_access(struct reference *ref, uint64_t addr, void *data, unsigned len, bool write)
{
	struct trap trap = { .value = write ? 0 : UINT64_MAX, .len = (uint8_t)len, .write = write };
	struct node *node;

	pthread_mutex_lock(&ref->lock);
	node = find(ref->root, addr);
	if (node)
		node->refs++;
	pthread_mutex_unlock(&ref->lock);
	if (write)
		memcpy(&trap.value, data, len);
	if (node) {
		trap.offset = addr - node->base;
		if (node->lock)
			pthread_mutex_lock(node->lock);
		node->fn(node->dev, &trap);
		if (node->lock)
			pthread_mutex_unlock(node->lock);
		pthread_mutex_lock(&ref->lock);
		node->refs--;
		pthread_mutex_unlock(&ref->lock);
	}
	if (!write)
		memcpy(data, &trap.value, len);
	return node;
}
