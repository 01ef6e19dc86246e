#include "files/known.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Both tables chain; they double when they have as many entries as slots. */
struct gw_known {
	struct gw_known_path **paths;
	struct gw_known_inode **inodes;
	size_t slots, npaths;
	size_t orphans; /* paths whose directory was not known when they were added */
};

enum { FIRST_SLOTS = 1024 };

static uint64_t mix(uint64_t v)
{
	v ^= v >> 32;
	v *= UINT64_C(0xd6e8feb86659fd93);
	v ^= v >> 32;
	return v;
}

static uint64_t path_hash(uint32_t tree, const char *path)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) + tree;
	for (; *path; path++)
		h = (h ^ (uint8_t)*path) * UINT64_C(0x100000001b3);
	return mix(h);
}

static uint64_t inode_hash(uint32_t tree, uint64_t ino)
{
	return mix(ino * 31 + tree);
}

struct gw_known *gw_known_new(void)
{
	struct gw_known *k = calloc(1, sizeof(*k));
	assert(k);
	k->slots = FIRST_SLOTS;
	k->paths = calloc(k->slots, sizeof(struct gw_known_path *));
	k->inodes = calloc(k->slots, sizeof(struct gw_known_inode *));
	assert(k->paths && k->inodes);
	return k;
}

static void free_inode(struct gw_known_inode *i)
{
	free(i->pieces);
	free(i->sums);
	free(i);
}

void gw_known_free(struct gw_known *k)
{
	if (!k)
		return;
	for (size_t s = 0; s < k->slots; s++) {
		for (struct gw_known_path *p = k->paths[s], *next; p; p = next) {
			next = p->next;
			free(p);
		}
		for (struct gw_known_inode *i = k->inodes[s], *next; i; i = next) {
			next = i->next;
			free_inode(i);
		}
	}
	free(k->paths);
	free(k->inodes);
	free(k);
}

static void grow(struct gw_known *k)
{
	size_t slots = k->slots * 2;
	struct gw_known_path **paths = calloc(slots, sizeof(struct gw_known_path *));
	struct gw_known_inode **inodes = calloc(slots, sizeof(struct gw_known_inode *));
	assert(paths && inodes);
	for (size_t s = 0; s < k->slots; s++) {
		for (struct gw_known_path *p = k->paths[s], *next; p; p = next) {
			struct gw_known_path **to = &paths[path_hash(p->tree, p->path) & (slots - 1)];
			next = p->next;
			p->next = *to;
			*to = p;
		}
		for (struct gw_known_inode *i = k->inodes[s], *next; i; i = next) {
			struct gw_known_inode **to = &inodes[inode_hash(i->tree, i->ino) & (slots - 1)];
			next = i->next;
			i->next = *to;
			*to = i;
		}
	}
	free(k->paths);
	free(k->inodes);
	k->paths = paths;
	k->inodes = inodes;
	k->slots = slots;
}

struct gw_known_path *gw_known_path(const struct gw_known *k, uint32_t tree, const char *path)
{
	struct gw_known_path *p = k->paths[path_hash(tree, path) & (k->slots - 1)];
	while (p && (p->tree != tree || strcmp(p->path, path) != 0))
		p = p->next;
	return p;
}

struct gw_known_inode *gw_known_inode(const struct gw_known *k, uint32_t tree, uint64_t ino)
{
	struct gw_known_inode *i = k->inodes[inode_hash(tree, ino) & (k->slots - 1)];
	while (i && (i->tree != tree || i->ino != ino))
		i = i->next;
	return i;
}

static void into_dir(struct gw_known *k, struct gw_known_path *p)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(p->path, '/');
	if (!strcmp(p->path, "."))
		return;
	size_t n = slash ? (size_t)(slash - p->path) : 1;
	assert(n < sizeof(dir));
	memcpy(dir, slash ? p->path : ".", n);
	dir[n] = 0;
	p->parent = gw_known_path(k, p->tree, dir);
	if (!p->parent) {
		k->orphans++;
		return;
	}
	p->sibling = p->parent->child;
	p->prev = &p->parent->child;
	if (p->sibling)
		p->sibling->prev = &p->sibling;
	p->parent->child = p;
}

struct gw_known_path *gw_known_add(struct gw_known *k, uint32_t tree, const char *path, uint64_t ino,
                                   struct gw_known_inode *inode)
{
	if (k->npaths == k->slots)
		grow(k);
	if (!inode) {
		struct gw_known_inode **to = &k->inodes[inode_hash(tree, ino) & (k->slots - 1)];
		inode = calloc(1, sizeof(*inode));
		assert(inode);
		inode->tree = tree;
		inode->ino = ino;
		inode->next = *to;
		*to = inode;
	}
	struct gw_known_path **to = &k->paths[path_hash(tree, path) & (k->slots - 1)];
	struct gw_known_path *p = malloc(sizeof(*p) + strlen(path) + 1);
	assert(p);
	*p = (struct gw_known_path){.next = *to, .next_name = inode->paths, .inode = inode, .tree = tree};
	memcpy(p->path, path, strlen(path) + 1);
	*to = p;
	inode->paths = p;
	k->npaths++;
	into_dir(k, p);
	return p;
}

static void drop_inode(struct gw_known *k, struct gw_known_inode *inode)
{
	struct gw_known_inode **at = &k->inodes[inode_hash(inode->tree, inode->ino) & (k->slots - 1)];
	while (*at != inode)
		at = &(*at)->next;
	*at = inode->next;
	free_inode(inode);
}

static void drop_one(struct gw_known *k, struct gw_known_path **slot)
{
	struct gw_known_path *p = *slot;
	struct gw_known_path **name = &p->inode->paths;
	while (*name != p)
		name = &(*name)->next_name;
	*name = p->next_name;
	if (!p->inode->paths)
		drop_inode(k, p->inode);
	*slot = p->next;
	k->npaths--;
	if (p->parent) {
		*p->prev = p->sibling;
		if (p->sibling)
			p->sibling->prev = p->prev;
	} else if (strcmp(p->path, ".") != 0) {
		k->orphans--;
	}
	for (struct gw_known_path *c = p->child; c; c = c->sibling) {
		c->parent = NULL;
		k->orphans++;
	}
	free(p);
}

static struct gw_known_path **slot_of(struct gw_known *k, const struct gw_known_path *p)
{
	struct gw_known_path **at = &k->paths[path_hash(p->tree, p->path) & (k->slots - 1)];
	while (*at != p)
		at = &(*at)->next;
	return at;
}

/* Those below p that no list of a directory has. */
static void drop_orphans(struct gw_known *k, const struct gw_known_path *p)
{
	size_t n = strlen(p->path);
	for (size_t s = 0; s < k->slots; s++)
		for (struct gw_known_path **at = &k->paths[s]; *at;) {
			struct gw_known_path *q = *at;
			if (q->tree == p->tree && !strncmp(q->path, p->path, n) && q->path[n] == '/')
				drop_one(k, at);
			else
				at = &q->next;
		}
}

static void drop_children(struct gw_known *k, struct gw_known_path *p)
{
	/* Down to a leaf, and up again: depth is a container's to choose. */
	for (struct gw_known_path *q = p; q != p || q->child;) {
		if (q->child) {
			q = q->child;
			continue;
		}
		struct gw_known_path *up = q->parent;
		drop_one(k, slot_of(k, q));
		q = up;
	}
}

void gw_known_drop(struct gw_known *k, struct gw_known_path *p)
{
	if (S_ISDIR(p->inode->mode)) {
		drop_children(k, p);
		if (k->orphans)
			drop_orphans(k, p);
	}
	drop_one(k, slot_of(k, p));
}

size_t gw_known_count(const struct gw_known *k)
{
	return k->npaths;
}

void gw_known_each(const struct gw_known *k, void (*fn)(void *ctx, struct gw_known_path *p), void *ctx)
{
	for (size_t s = 0; s < k->slots; s++)
		for (struct gw_known_path *p = k->paths[s]; p; p = p->next)
			fn(ctx, p);
}

static int make_room(uint64_t **inout, size_t *inout_n, size_t n)
{
	if (n > *inout_n) {
		uint64_t *more = realloc(*inout, n * sizeof(*more));
		if (!more)
			return -ENOMEM;
		memset(more + *inout_n, 0, (n - *inout_n) * sizeof(*more));
		*inout = more;
	}
	*inout_n = n;
	return 0;
}

int gw_known_pieces(struct gw_known_inode *i, size_t n)
{
	return make_room(&i->pieces, &i->npieces, n);
}

int gw_known_sums(struct gw_known_inode *i, size_t n)
{
	return make_room(&i->sums, &i->nsums, n);
}
